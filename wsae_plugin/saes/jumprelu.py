"""Weighted JumpReLU: SAELens's `jumprelu` with ‖Γ(x − x̂)‖²."""

from __future__ import annotations

from dataclasses import dataclass

from sae_lens import JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig

from wsae_plugin.saes.weighted import WeightedTrainingSAE, WeightedTrainingSAEConfig


@dataclass
class WeightedJumpReLUTrainingSAEConfig(WeightedTrainingSAEConfig, JumpReLUTrainingSAEConfig):
    """
    JumpReLUTrainingSAE with a weight per input dimension in its loss.
    """


class WeightedJumpReLUTrainingSAE(WeightedTrainingSAE, JumpReLUTrainingSAE):
    """JumpReLUTrainingSAE with a weight per input dimension; the same bit for bit at α = 0.

    Published as a plain `jumprelu` SAE.
    """

    cfg: WeightedJumpReLUTrainingSAEConfig  # type: ignore[assignment]
