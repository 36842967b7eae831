"""Weighted TopK: SAELens's `topk` with ‖Γ(x − x̂)‖²."""

from __future__ import annotations

from dataclasses import dataclass

from sae_lens import SAEConfig, TopKSAEConfig, TopKTrainingSAE, TopKTrainingSAEConfig
from typing_extensions import override

from wsae_plugin.saes.sparse import SparseTrainingSAE, SparseTrainingSAEConfig
from wsae_plugin.saes.weighted import WeightedTrainingSAE, WeightedTrainingSAEConfig


@dataclass
class WeightedTopKTrainingSAEConfig(
    SparseTrainingSAEConfig, WeightedTrainingSAEConfig, TopKTrainingSAEConfig
):
    """
    TopKTrainingSAE with a weight per input dimension in its loss, and in its loss for dead latents.
    """

    @override
    @classmethod
    def architecture(cls) -> str:
        return "weighted_topk"

    @override
    def get_inference_config_class(self) -> type[SAEConfig]:
        return TopKSAEConfig


class WeightedTopKTrainingSAE(WeightedTrainingSAE, SparseTrainingSAE, TopKTrainingSAE):
    """TopKTrainingSAE with a weight per input dimension, and a sparse training step.

    At α = 0 the same as its parent to rounding, with `kernel="eager"` bit for bit. Published as a
    plain `topk` SAE.
    """

    cfg: WeightedTopKTrainingSAEConfig  # type: ignore[assignment]
