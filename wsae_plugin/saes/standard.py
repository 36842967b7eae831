"""Weighted Standard: SAELens's `standard` with ‖Γ(x − x̂)‖²."""

from __future__ import annotations

from dataclasses import dataclass

from sae_lens import SAEConfig, StandardSAEConfig, StandardTrainingSAE, StandardTrainingSAEConfig
from typing_extensions import override

from wsae_plugin.saes.weighted import WeightedTrainingSAE, WeightedTrainingSAEConfig


@dataclass
class WeightedStandardTrainingSAEConfig(WeightedTrainingSAEConfig, StandardTrainingSAEConfig):
    """
    StandardTrainingSAE with a weight per input dimension in its loss.
    """

    @override
    @classmethod
    def architecture(cls) -> str:
        return "weighted_standard"

    @override
    def get_inference_config_class(self) -> type[SAEConfig]:
        return StandardSAEConfig


class WeightedStandardTrainingSAE(WeightedTrainingSAE, StandardTrainingSAE):
    """StandardTrainingSAE with a weight per input dimension; the same bit for bit at α = 0.

    Published as a plain `standard` SAE.
    """

    cfg: WeightedStandardTrainingSAEConfig  # type: ignore[assignment]
