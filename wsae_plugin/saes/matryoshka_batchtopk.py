"""Weighted MatryoshkaBatchTopK: SAELens's `matryoshka_batchtopk` with ‖Γ(x − x̂)‖²."""

from __future__ import annotations

from dataclasses import dataclass

from sae_lens import MatryoshkaBatchTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAEConfig
from typing_extensions import override

from wsae_plugin.saes.weighted import WeightedTrainingSAE, WeightedTrainingSAEConfig


@dataclass
class WeightedMatryoshkaBatchTopKTrainingSAEConfig(
    WeightedTrainingSAEConfig, MatryoshkaBatchTopKTrainingSAEConfig
):
    """
    MatryoshkaBatchTopKTrainingSAE with a weight per input dimension in its loss, its inner losses
    and its loss for dead latents.
    """

    @override
    @classmethod
    def architecture(cls) -> str:
        return "weighted_matryoshka_batchtopk"


class WeightedMatryoshkaBatchTopKTrainingSAE(WeightedTrainingSAE, MatryoshkaBatchTopKTrainingSAE):
    """MatryoshkaBatchTopKTrainingSAE with a weight per input dimension; the same at α = 0.

    Published as a plain `jumprelu` SAE.
    """

    cfg: WeightedMatryoshkaBatchTopKTrainingSAEConfig  # type: ignore[assignment]
