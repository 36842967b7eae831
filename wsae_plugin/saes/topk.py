"""Weighted TopK: SAELens's `topk` with ‖Γ(x − x̂)‖²."""

from __future__ import annotations

from dataclasses import dataclass

from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig

from wsae_plugin.saes.sparse import SparseTrainingSAE, SparseTrainingSAEConfig
from wsae_plugin.saes.weighted import WeightedTrainingSAE, WeightedTrainingSAEConfig


@dataclass
class WeightedTopKTrainingSAEConfig(
    SparseTrainingSAEConfig, WeightedTrainingSAEConfig, TopKTrainingSAEConfig
):
    """
    TopKTrainingSAE with a weight per input dimension in its loss, and in its loss for dead latents.
    """


class WeightedTopKTrainingSAE(WeightedTrainingSAE, SparseTrainingSAE, TopKTrainingSAE):
    """TopKTrainingSAE with a weight per input dimension, and a sparse training step.

    At α = 0 the same as its parent to rounding, with `kernel="eager"` bit for bit. Published as a
    plain `topk` SAE.
    """

    cfg: WeightedTopKTrainingSAEConfig  # type: ignore[assignment]
