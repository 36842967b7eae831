"""The encoder and the decoder where they are needed only, with their gradients by hand.

Needed are the active latents, each in its own rows, and the few latents that are read in every row:
the dead ones, for their auxiliary loss. Both kinds write into one gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from typing_extensions import override

from wsae_plugin.kernels.backend import Backend
from wsae_plugin.kernels.pattern import Pattern


class _Encode(torch.autograd.Function):
    @override
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        pattern: Pattern,
        everywhere: Tensor,
        backend: Backend,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, weight, everywhere)
        ctx.pattern, ctx.backend = pattern, backend
        return (
            backend.sddmm(pattern, x, weight) + bias[pattern.columns],
            torch.addmm(bias[everywhere], x, weight[everywhere].T),
        )

    @override
    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Tensor, grad_everywhere: Tensor
    ) -> tuple[Tensor | None, ...]:
        x, weight, everywhere = ctx.saved_tensors
        pattern, backend = ctx.pattern, ctx.backend
        grad_weight = backend.spmm(pattern.transposed, grad[pattern.order], x)
        grad_bias = pattern.column_sums(grad)
        grad_x = backend.spmm(pattern, grad, weight) if ctx.needs_input_grad[0] else None
        if len(everywhere):
            grad_weight.index_add_(0, everywhere, grad_everywhere.T @ x)
            grad_bias.index_add_(0, everywhere, grad_everywhere.sum(0, dtype=grad_bias.dtype))
            if grad_x is not None:
                grad_x.addmm_(grad_everywhere, weight[everywhere])
        return grad_x, grad_weight, grad_bias.to(grad.dtype), None, None, None


class _Decode(torch.autograd.Function):
    @override
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        values_everywhere: Tensor,
        weight: Tensor,
        pattern: Pattern,
        everywhere: Tensor,
        backend: Backend,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(values, values_everywhere, weight, everywhere)
        ctx.pattern, ctx.backend = pattern, backend
        return backend.spmm(pattern, values, weight), values_everywhere @ weight[everywhere]

    @override
    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Tensor, grad_everywhere: Tensor
    ) -> tuple[Tensor | None, ...]:
        values, values_everywhere, weight, everywhere = ctx.saved_tensors
        pattern, backend = ctx.pattern, ctx.backend
        grad = grad.contiguous()
        grad_weight = backend.spmm(pattern.transposed, values[pattern.order], grad)
        if len(everywhere):
            grad_weight.index_add_(0, everywhere, values_everywhere.T @ grad_everywhere)
        return (
            backend.sddmm(pattern, grad, weight),
            grad_everywhere @ weight[everywhere].T,
            grad_weight,
            None,
            None,
            None,
        )


def encode(
    x: Tensor,
    W_enc: Tensor,
    b_enc: Tensor,
    pattern: Pattern,
    backend: Backend,
    everywhere: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Pre-activations x · W_enc[:, j] + b_enc[j].

    Args:
        x: (batch, d_in).
        W_enc: (d_in, d_sae), fastest when it is latent-major in memory.
        b_enc: (d_sae,).
        pattern: The active latents, (batch, d_sae).
        everywhere: Latents to read in every row, (n,), distinct.

    Returns:
        Of the active latents (nnz,), and of those read everywhere (batch, n).
    """
    if everywhere is None:
        everywhere = pattern.columns.new_empty(0)
    return _Encode.apply(x.contiguous(), W_enc.T.contiguous(), b_enc, pattern, everywhere, backend)  # type: ignore[return-value]


def decode(
    values: Tensor,
    W_dec: Tensor,
    pattern: Pattern,
    backend: Backend,
    everywhere: Tensor | None = None,
    values_everywhere: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Σ values · W_dec[j], without b_dec.

    Args:
        values: Of the active latents, (nnz,).
        W_dec: (d_sae, d_in).
        pattern: The active latents, (rows, d_sae).
        everywhere: Latents with a value in every row, (n,), distinct.
        values_everywhere: Their values, (batch, n).

    Returns:
        The sum over the active latents (rows, d_in), and over the others (batch, d_in).
    """
    if everywhere is None or values_everywhere is None:
        everywhere = pattern.columns.new_empty(0)
        values_everywhere = values.new_empty(0, 0)
    return _Decode.apply(  # type: ignore[return-value]
        values, values_everywhere, W_dec.contiguous(), pattern, everywhere, backend
    )
