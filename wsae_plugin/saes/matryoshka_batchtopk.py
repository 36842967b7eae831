"""Weighted MatryoshkaBatchTopK: SAELens's `matryoshka_batchtopk` with ‖Γ(x − x̂)‖²."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sae_lens import MatryoshkaBatchTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAEConfig
from torch import Tensor
from typing_extensions import override

from wsae_plugin.kernels import Pattern
from wsae_plugin.saes.batchtopk import SparseBatchTopKTrainingSAE
from wsae_plugin.saes.sparse import SparseTrainingSAEConfig
from wsae_plugin.saes.weighted import WeightedTrainingSAE, WeightedTrainingSAEConfig


@dataclass
class WeightedMatryoshkaBatchTopKTrainingSAEConfig(
    SparseTrainingSAEConfig, WeightedTrainingSAEConfig, MatryoshkaBatchTopKTrainingSAEConfig
):
    """
    MatryoshkaBatchTopKTrainingSAE with a weight per input dimension in its loss, its inner losses
    and its loss for dead latents.
    """


class WeightedMatryoshkaBatchTopKTrainingSAE(
    WeightedTrainingSAE, SparseBatchTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAE
):
    """MatryoshkaBatchTopKTrainingSAE with a weight per input dimension, and a sparse training step.

    At α = 0 trained as its parent to rounding, with `kernel="eager"` bit for bit. With
    `use_matryoshka_aux_loss` the step is SAELens's dense one. Published as a plain `jumprelu` SAE,
    with the threshold of the last training steps (`SparseBatchTopKTrainingSAE`).
    """

    cfg: WeightedMatryoshkaBatchTopKTrainingSAEConfig  # type: ignore[assignment]

    @property
    @override
    def _inner_widths(self) -> list[int]:
        return self.whole_cfg.matryoshka_widths[:-1]

    @override
    def _needs_dense_step(self, sae_in: Tensor) -> bool:
        return self.cfg.use_matryoshka_aux_loss or super()._needs_dense_step(sae_in)

    @override
    def _levels(self, pattern: Pattern) -> tuple[Pattern, Tensor | slice]:
        widths = torch.tensor(self._inner_widths, device=pattern.columns.device)
        latents = self.shards.latents(self.whole_cfg.d_sae).to(pattern.columns.device)
        level = torch.searchsorted(widths, latents[pattern.columns], right=True)
        rows, order = (level * pattern.n_rows + pattern.rows).sort(stable=True)
        n_rows = len(self.whole_cfg.matryoshka_widths) * pattern.n_rows
        columns = pattern.columns[order]
        return Pattern.of_sorted_entries(rows, columns, n_rows, pattern.n_columns), order
