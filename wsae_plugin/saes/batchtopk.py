"""Weighted BatchTopK: SAELens's `batchtopk` with ‖Γ(x − x̂)‖²."""

from __future__ import annotations

from dataclasses import dataclass

from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from typing_extensions import override

from wsae_plugin.saes.weighted import WeightedTrainingSAE, WeightedTrainingSAEConfig


@dataclass
class WeightedBatchTopKTrainingSAEConfig(WeightedTrainingSAEConfig, BatchTopKTrainingSAEConfig):
    """
    BatchTopKTrainingSAE with a weight per input dimension in its loss and in its loss for dead
    latents.
    """

    @override
    @classmethod
    def architecture(cls) -> str:
        return "weighted_batchtopk"


class WeightedBatchTopKTrainingSAE(WeightedTrainingSAE, BatchTopKTrainingSAE):
    """BatchTopKTrainingSAE with a weight per input dimension; the same bit for bit at α = 0.

    Published as a plain `jumprelu` SAE.
    """

    cfg: WeightedBatchTopKTrainingSAEConfig  # type: ignore[assignment]
