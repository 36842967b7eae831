"""Weighted JumpReLU: SAELens's `jumprelu` with ‖Γ(x − x̂)‖²."""

from __future__ import annotations

from dataclasses import dataclass

from sae_lens import JumpReLUSAEConfig, JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig, SAEConfig
from typing_extensions import override

from wsae_plugin.saes.weighted import WeightedTrainingSAE, WeightedTrainingSAEConfig


@dataclass
class WeightedJumpReLUTrainingSAEConfig(WeightedTrainingSAEConfig, JumpReLUTrainingSAEConfig):
    """
    JumpReLUTrainingSAE with a weight per input dimension in its loss.
    """

    @override
    @classmethod
    def architecture(cls) -> str:
        return "weighted_jumprelu"

    @override
    def get_inference_config_class(self) -> type[SAEConfig]:
        return JumpReLUSAEConfig


class WeightedJumpReLUTrainingSAE(WeightedTrainingSAE, JumpReLUTrainingSAE):
    """JumpReLUTrainingSAE with a weight per input dimension; the same bit for bit at α = 0.

    Published as a plain `jumprelu` SAE.
    """

    cfg: WeightedJumpReLUTrainingSAEConfig  # type: ignore[assignment]
