"""Weighted Standard: SAELens's `standard` with ‖Γ(x − x̂)‖²."""

from __future__ import annotations

from dataclasses import dataclass

from sae_lens import StandardTrainingSAE, StandardTrainingSAEConfig

from wsae_plugin.saes.weighted import WeightedTrainingSAE, WeightedTrainingSAEConfig


@dataclass
class WeightedStandardTrainingSAEConfig(WeightedTrainingSAEConfig, StandardTrainingSAEConfig):
    """
    StandardTrainingSAE with a weight per input dimension in its loss.
    """


class WeightedStandardTrainingSAE(WeightedTrainingSAE, StandardTrainingSAE):
    """StandardTrainingSAE with a weight per input dimension; the same bit for bit at α = 0.

    Published as a plain `standard` SAE.
    """

    cfg: WeightedStandardTrainingSAEConfig  # type: ignore[assignment]
