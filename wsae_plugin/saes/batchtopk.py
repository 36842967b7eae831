"""Weighted BatchTopK: SAELens's `batchtopk` with ‖Γ(x − x̂)‖²."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch
from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.sae import TrainStepInput, TrainStepOutput
from torch import Tensor
from typing_extensions import override

from wsae_plugin.compilation import not_compiled
from wsae_plugin.kernels import Encoder, Kernel, Pattern, batch_top_k, batch_top_k_scores
from wsae_plugin.saes.sparse import SparseTrainingSAE, SparseTrainingSAEConfig
from wsae_plugin.saes.weighted import WeightedTrainingSAE, WeightedTrainingSAEConfig

logger = logging.getLogger(__name__)

_RECENT = "recent_topk_threshold"
_PART = 20
"""The published threshold is an average over the last one in so many of the steps made."""


@dataclass
class WeightedBatchTopKTrainingSAEConfig(
    SparseTrainingSAEConfig, WeightedTrainingSAEConfig, BatchTopKTrainingSAEConfig
):
    """
    BatchTopKTrainingSAE with a weight per input dimension in its loss and in its loss for dead
    latents.
    """


class SparseBatchTopKTrainingSAE(SparseTrainingSAE):
    """What BatchTopK's selection changes in a sparse step, and the threshold it is published with.

    In training the k · batch largest activations of a batch are kept; what is published is a
    JumpReLU whose threshold lets as many pass. SAELens takes it from `topk_threshold`, a moving
    average of the smallest activation kept that begins with 0 and looks back over 1 /
    `topk_threshold_lr` steps: after 100 steps it lets through four times as many latents as were
    trained. Here the average looks back over a twentieth of the steps made, and over as many as
    SAELens's once that is fewer, so that a long run is published with SAELens's threshold. Training
    does not read it. That holds at α = 0 too, where a short run is published with another threshold
    than SAELens's `batchtopk`: a baseline whose sparsity is lost would be none.
    """

    topk_threshold: Tensor
    recent_topk_threshold: Tensor
    update_topk_threshold: Any

    def __init__(self, cfg: Any, use_error_term: bool = False) -> None:
        super().__init__(cfg, use_error_term)
        self.register_buffer(_RECENT, torch.zeros_like(self.topk_threshold))

    @override
    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        output = super().training_forward_pass(step_input)
        if self.training:
            self._follow_threshold(step_input.n_training_steps, output.feature_acts)
        return output

    @not_compiled
    @torch.no_grad()
    def _follow_threshold(self, step: int, feature_acts: Tensor) -> None:
        smallest = self._smallest_kept(feature_acts).to(self.recent_topk_threshold)
        if smallest.isfinite():
            rate = _PART / (step + _PART)  # 1 at the first step
            self.recent_topk_threshold.lerp_(smallest, max(rate, self.cfg.topk_threshold_lr))

    def _smallest_kept(self, feature_acts: Tensor) -> Tensor:
        """The smallest activation above 0, shape (); infinite where there is none."""
        acts = feature_acts.coalesce().values() if feature_acts.is_sparse else feature_acts
        kept = acts[acts > 0]
        return self.shards.smallest(kept.min() if len(kept) else acts.new_tensor(torch.inf))

    @override
    def _active_latents(self, x: Tensor, encoder: Encoder, kernel: Kernel) -> Pattern:
        total = int(self.cfg.k * len(x))
        if self.shards.size == 1 or total == 0:
            return batch_top_k(x, encoder, total, kernel.backend, kernel.product)
        rows, latents, scores = batch_top_k_scores(
            x, encoder, total, kernel.backend, kernel.product
        )
        chosen = self.shards.batch_top_k(scores, rows, latents, total, self.whole_cfg.d_sae)
        return Pattern.of_entries(rows[chosen], latents[chosen], len(x), encoder.d_sae)

    @override
    def _forward_in_own_dtype(self, step_input: TrainStepInput, kernel: Kernel) -> TrainStepOutput:
        output = super()._forward_in_own_dtype(step_input, kernel)
        # SAELens's masks the activations, which sparse tensors do not offer.
        smallest = self._smallest_kept(output.feature_acts.detach())
        self.update_topk_threshold(smallest[smallest.isfinite()])
        output.metrics["topk_threshold"] = self.topk_threshold
        return output

    @override
    @torch.no_grad()
    def fold_activation_norm_scaling_factor(self, scaling_factor: float) -> None:
        super().fold_activation_norm_scaling_factor(scaling_factor)
        if self.cfg.rescale_acts_by_decoder_norm:
            self.recent_topk_threshold /= scaling_factor  # as SAELens does with its own

    @override
    def process_state_dict_for_loading(self, state_dict: dict[str, Any]) -> None:
        super().process_state_dict_for_loading(state_dict)
        # A checkpoint of a plain SAELens architecture holds none: until it is trained on, what is
        # published is what SAELens would publish.
        state_dict.setdefault(_RECENT, torch.zeros_like(self.recent_topk_threshold))

    @override
    def process_state_dict_for_saving_inference(self, state_dict: dict[str, Any]) -> None:
        recent = state_dict.pop(_RECENT)
        if recent > 0:
            published, average = recent.item(), self.topk_threshold.item()
            self.cfg.metadata["threshold"] = {
                "published": published,
                "made_from": "the smallest activation kept in each of the last training steps",
                "topk_threshold": average,
            }
            logger.info(
                "Exported with the threshold of the last training steps, %.4g; SAELens's moving "
                "average is %.4g.",
                *(published, average),
            )
            state_dict["topk_threshold"] = recent
        super().process_state_dict_for_saving_inference(state_dict)


class WeightedBatchTopKTrainingSAE(
    WeightedTrainingSAE, SparseBatchTopKTrainingSAE, BatchTopKTrainingSAE
):
    """BatchTopKTrainingSAE with a weight per input dimension, and a sparse training step.

    At α = 0 trained as its parent to rounding, with `kernel="eager"` bit for bit. Published as a
    plain `jumprelu` SAE, with the threshold of the last training steps
    (`SparseBatchTopKTrainingSAE`).
    """

    cfg: WeightedBatchTopKTrainingSAEConfig  # type: ignore[assignment]
