"""Weighted BatchTopK: SAELens's `batchtopk` with ‖Γ(x − x̂)‖²."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.sae import TrainStepInput, TrainStepOutput
from torch import Tensor
from typing_extensions import override

from wsae_plugin.kernels import Encoder, Kernel, Pattern, batch_top_k
from wsae_plugin.saes.sparse import SparseTrainingSAE, SparseTrainingSAEConfig
from wsae_plugin.saes.weighted import WeightedTrainingSAE, WeightedTrainingSAEConfig


@dataclass
class WeightedBatchTopKTrainingSAEConfig(
    SparseTrainingSAEConfig, WeightedTrainingSAEConfig, BatchTopKTrainingSAEConfig
):
    """
    BatchTopKTrainingSAE with a weight per input dimension in its loss and in its loss for dead
    latents.
    """


class SparseBatchTopKTrainingSAE(SparseTrainingSAE):
    """What BatchTopK's selection changes in a sparse step."""

    topk_threshold: Tensor
    update_topk_threshold: Any

    @override
    def _active_latents(self, x: Tensor, encoder: Encoder, kernel: Kernel) -> Pattern:
        total = int(self.cfg.k * len(x))
        return batch_top_k(x, encoder, total, kernel.backend, kernel.product)

    @override
    def _forward_in_own_dtype(self, step_input: TrainStepInput, kernel: Kernel) -> TrainStepOutput:
        output = super()._forward_in_own_dtype(step_input, kernel)
        # SAELens's masks the activations, which sparse tensors do not offer.
        self.update_topk_threshold(output.feature_acts.detach().coalesce().values())
        output.metrics["topk_threshold"] = self.topk_threshold
        return output


class WeightedBatchTopKTrainingSAE(
    WeightedTrainingSAE, SparseBatchTopKTrainingSAE, BatchTopKTrainingSAE
):
    """BatchTopKTrainingSAE with a weight per input dimension, and a sparse training step.

    At α = 0 the same as its parent to rounding, with `kernel="eager"` bit for bit. Published as a
    plain `jumprelu` SAE.
    """

    cfg: WeightedBatchTopKTrainingSAEConfig  # type: ignore[assignment]
