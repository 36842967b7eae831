"""A training step of the Top-k family that reads active latents only.

The losses, their gradients and the latents chosen are those of SAELens's dense step, to rounding.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from sae_lens import TrainingSAEConfig
from sae_lens.saes.sae import TrainStepInput, TrainStepOutput
from torch import Tensor
from typing_extensions import override

from wsae_plugin.compilation import not_compiled
from wsae_plugin.distributed.sae import SharedTrainingSAE
from wsae_plugin.kernels import (
    Encoder,
    Kernel,
    Pattern,
    choose_kernel,
    decode,
    encode,
    kernel_name,
    top_k,
    top_k_scores,
)

logger = logging.getLogger(__name__)

_SPARSE_AUX_FROM = 8  # times k_aux: with more dead latents than that, sparse products are faster


@dataclass(kw_only=True)
class SparseTrainingSAEConfig(TrainingSAEConfig):
    """
    The field that the Top-k family adds.

    Args:
        kernel (Literal["auto", "eager", "reference", "cpu", "triton"]): What carries out the training step. auto takes the fastest for the device and the shape; eager is SAELens's own dense step, bit for bit. The environment variable WSAE_KERNEL stands above it.
    """  # noqa: E501

    kernel: str = "auto"

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        kernel_name(self.kernel)


class SparseTrainingSAE(SharedTrainingSAE):
    """The sparse step in place of SAELens's dense one, for the class that stands after it.

    With the first sparse step W_enc becomes latent-major in memory: its shape stays (d_in, d_sae).
    `feature_acts` and `hidden_pre` of the step's output are sparse COO tensors (batch, d_sae) of
    the active latents.

    Attributes:
        kernel_in_use: What carried out the newest training step, such as `cpu`; `eager` for
            SAELens's dense step, None before the first. `print(sae)` shows it.
    """

    kernel_in_use: str | None = None
    adds_up_itself = True
    W_enc: torch.nn.Parameter
    b_enc: torch.nn.Parameter
    aux_mse_loss: Callable[[Tensor, Tensor], Tensor]

    @override
    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        kernel = self._kernel(step_input.sae_in)
        if kernel is None:
            return super().training_forward_pass(step_input)
        return self._sparse_forward_pass(step_input, kernel)

    def choose_kernel(
        self, batch: int, device: torch.device, autocast: bool = False
    ) -> Kernel | None:
        """What will carry out a step of so many activations; None is SAELens's dense step."""
        name, shape = kernel_name(self.cfg.kernel), (batch, self.cfg.d_in, self.cfg.d_sae)
        kernel = choose_kernel(name, device, self.dtype, shape, self.cfg.k, autocast)
        if kernel is None and self.shards.size > 1:
            # SAELens's dense step knows nothing of the other processes.
            name = "cpu" if device.type == "cpu" else "reference"
            kernel = choose_kernel(name, device, self.dtype, shape, self.cfg.k, autocast)
        return kernel

    @not_compiled
    def _kernel(self, sae_in: Tensor) -> Kernel | None:
        kernel = None
        if not self._needs_dense_step(sae_in):
            autocast = torch.is_autocast_enabled(sae_in.device.type)
            kernel = self.choose_kernel(len(sae_in), sae_in.device, autocast)
        self.kernel_in_use = "eager" if kernel is None else str(kernel)
        _report(self.kernel_in_use)
        return kernel

    def _needs_dense_step(self, sae_in: Tensor) -> bool:
        """Whether somebody wants to see what the sparse step does not compute."""
        hooks = (self.hook_sae_acts_pre, self.hook_sae_acts_post)
        return (
            sae_in.ndim != 2
            or self.cfg.normalize_activations in ("layer_norm", "constant_norm_rescale")
            or any(hook.has_hooks() for hook in hooks)
        )

    @not_compiled
    def _sparse_forward_pass(self, step_input: TrainStepInput, kernel: Kernel) -> TrainStepOutput:
        with torch.autocast(step_input.sae_in.device.type, enabled=False):
            return self._forward_in_own_dtype(step_input, kernel)

    def _forward_in_own_dtype(self, step_input: TrainStepInput, kernel: Kernel) -> TrainStepOutput:
        sae_in, backend = step_input.sae_in, kernel.backend
        self.W_enc.data = self.W_enc.data.T.contiguous().T  # a copy the first time only
        x = self.process_sae_in(sae_in)
        norms = self.W_dec.norm(dim=-1) if self.cfg.rescale_acts_by_decoder_norm else None
        encoder = Encoder.of(self.W_enc, self.b_enc, norms)
        pattern = self._active_latents(x.detach(), encoder, kernel)

        dead = _indices(step_input.dead_neuron_mask, x.device)
        n_dead = int(self.shards.sum_of_counts(torch.tensor(len(dead), device=x.device)))
        is_few = n_dead <= _SPARSE_AUX_FROM * self._k_aux
        everywhere = dead if is_few else dead[:0]
        pre_acts, dead_pre_acts = encode(x, self.W_enc, self.b_enc, pattern, backend, everywhere)
        # A decoder norm multiplies the pre-activation and divides the activation in the decoder:
        # only the choice of latents, and what is reported of them, depend on it.
        acts = pre_acts.relu()
        aux_acts = self._only_top_k_aux(
            dead_pre_acts, encoder.scaled(dead_pre_acts, everywhere), n_dead if is_few else 0
        )
        by_level, order = self._levels(pattern)
        decoded, aux_out = decode(acts[order], self.W_dec, by_level, backend, everywhere, aux_acts)
        decoded = self.shards.sum(decoded).view(-1, *sae_in.shape)
        levels = decoded.cumsum(0) + self.shards.once(self.b_dec)
        sae_out = self.hook_sae_recons(levels[-1])

        if not is_few:
            aux_out = self._sparse_aux_out(x, encoder, dead, kernel)
        if n_dead:
            aux_out = self.shards.sum(aux_out)
        losses = {
            "mse_loss": self._mean(self.mse_loss_fn(sae_out, sae_in)),
            "auxiliary_reconstruction_loss": self._aux_loss(
                aux_out, (sae_in - sae_out).detach(), n_dead
            ),
        }
        for width, level in zip(self._inner_widths, levels, strict=False):
            losses[f"inner_mse_loss_{width}"] = self._mean(self.mse_loss_fn(level, sae_in))
        return TrainStepOutput(
            sae_in=sae_in,
            sae_out=sae_out,
            feature_acts=pattern.coo(_scaled(acts, norms, pattern)),
            hidden_pre=pattern.coo(_scaled(pre_acts, norms, pattern)),
            loss=torch.stack(list(losses.values())).sum(),
            losses=losses,
        )

    def _active_latents(self, x: Tensor, encoder: Encoder, kernel: Kernel) -> Pattern:
        return self._top_k(x, encoder, self.cfg.k, kernel)

    def _top_k(self, x: Tensor, encoder: Encoder, k: int, kernel: Kernel) -> Pattern:
        if self.shards.size == 1:
            return top_k(x, encoder, k, kernel.backend, kernel.product)
        scores = x.new_empty(len(x), 0)
        latents = torch.empty_like(scores, dtype=torch.int64)
        if m := min(k, encoder.d_sae):  # a process may have no dead latent
            scores, latents = top_k_scores(x, encoder, m, kernel.backend, kernel.product)
        return self.shards.top_k(scores, latents, k, encoder.d_sae)

    def _levels(self, pattern: Pattern) -> tuple[Pattern, Tensor | slice]:
        """A pattern (levels · batch, d_sae) that sorts the active latents into levels.

        Returns:
            The pattern, and where its entries stand in `pattern`.
        """
        return pattern, slice(None)

    @property
    def _inner_widths(self) -> list[int]:
        return []

    @property
    def _k_aux(self) -> int:
        return self.cfg.d_in // 2

    def _sparse_aux_out(self, x: Tensor, encoder: Encoder, dead: Tensor, kernel: Kernel) -> Tensor:
        """What the top k_aux dead latents of every row add up to, (batch, d_in)."""
        among_dead = self._top_k(x.detach(), encoder.only(dead), self._k_aux, kernel)
        pattern = Pattern(among_dead.offsets, dead[among_dead.columns], encoder.d_sae)
        pre_acts, _ = encode(x, self.W_enc, self.b_enc, pattern, kernel.backend)
        return decode(pre_acts, self.W_dec, pattern, kernel.backend)[0]

    def _aux_loss(self, aux_out: Tensor, residual: Tensor, n_dead: int) -> Tensor:
        if n_dead == 0:
            return residual.new_zeros(())
        scale = self.cfg.aux_loss_coefficient * min(n_dead / self._k_aux, 1.0)
        return scale * self._mean(self.aux_mse_loss(aux_out, residual))

    def _only_top_k_aux(self, values: Tensor, scores: Tensor, n_dead: int) -> Tensor:
        """`values` (batch, n) where `scores` are among the highest of their row, 0 elsewhere."""
        if self.shards.size > 1:
            is_choice = self._k_aux < n_dead
            return self.shards.top_k_values(values, scores, self._k_aux) if is_choice else values
        return _only_top_k(values, scores, self._k_aux)

    @staticmethod
    def _mean(squared_error: Tensor) -> Tensor:
        return squared_error.sum(dim=-1).mean()

    @override
    def extra_repr(self) -> str:
        return f"kernel={self.cfg.kernel!r}, kernel_in_use={self.kernel_in_use!r}"

    @override
    def process_state_dict_for_saving(self, state_dict: dict[str, Any]) -> None:
        super().process_state_dict_for_saving(state_dict)
        state_dict["W_enc"] = state_dict["W_enc"].contiguous()


@cache
def _report(kernel: str) -> None:
    logger.info("kernel of the training step: %s", kernel)


def _indices(mask: Tensor | None, device: torch.device) -> Tensor:
    if mask is None:
        return torch.empty(0, dtype=torch.int64, device=device)
    return mask.nonzero().flatten()


def _scaled(values: Tensor, norms: Tensor | None, pattern: Pattern) -> Tensor:
    return values if norms is None else values * norms[pattern.columns]


def _only_top_k(values: Tensor, scores: Tensor, k: int) -> Tensor:
    """`values` (batch, n) where `scores` are among the k highest of their row, 0 elsewhere."""
    if values.shape[1] <= k:
        return values
    places = scores.topk(k, dim=-1, sorted=False).indices
    return torch.zeros_like(values).scatter(1, places, values.gather(1, places))
