"""Weighted AbsTopK: SAELens's `abstopk` with ‖Γ(x − x̂)‖²."""

from __future__ import annotations

from dataclasses import dataclass

from sae_lens import AbsTopKTrainingSAE, AbsTopKTrainingSAEConfig

from wsae_plugin.saes.weighted import WeightedTrainingSAE, WeightedTrainingSAEConfig


@dataclass
class WeightedAbsTopKTrainingSAEConfig(WeightedTrainingSAEConfig, AbsTopKTrainingSAEConfig):
    """
    AbsTopKTrainingSAE with a weight per input dimension in its loss, and in its loss for dead
    latents.
    """


class WeightedAbsTopKTrainingSAE(WeightedTrainingSAE, AbsTopKTrainingSAE):
    """AbsTopKTrainingSAE with a weight per input dimension; the same bit for bit at α = 0.

    Its step is SAELens's dense one: the sparse step of the Top-k family chooses latents by their
    signed values. Published as a plain `abstopk` SAE.
    """

    cfg: WeightedAbsTopKTrainingSAEConfig  # type: ignore[assignment]
