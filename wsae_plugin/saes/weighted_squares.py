"""Γ for the reconstruction terms that SAELens squares in place, outside its `mse_loss_fn`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from typing_extensions import Self, override

AUXILIARY_LOSS = "auxiliary_reconstruction_loss"
"""SAELens's name of the loss for dead latents, and of Gated's via-gate loss."""


class WeightedSquares(TorchFunctionMode):
    """Inside this context, `residual.pow(2)` of shape (..., d_in) is γ² · residual².

    SAELens writes its auxiliary reconstruction losses (dead latents, Matryoshka's per-level ones,
    Gated's via-gate path) as `(reconstruction - target).pow(2).sum(dim=-1).mean()`. This reaches
    that square and leaves the rest of those methods to SAELens.

    Args:
        weight: γ², shape (d_in,).
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight
        self.reached = 0

    @override
    def __enter__(self) -> Self:
        super().__enter__()
        return self

    @override
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.Tensor.pow and args[1] == 2 and result.shape[-1:] == self.weight.shape:
            self.reached += 1
            return result * self.weight.to(result.dtype)
        return result

    def check_reached(self, losses: dict[str, Tensor]) -> None:
        """Refuse a reconstruction loss that took part in training without its weight.

        Raises:
            RuntimeError: SAELens no longer squares its residual the way this class looks for.
        """
        loss = losses.get(AUXILIARY_LOSS)
        if loss is not None and loss.requires_grad and not self.reached:
            raise RuntimeError(
                "the auxiliary reconstruction loss was computed without Γ: this version of SAELens "
                "is not the one this was tested with. Set weight_aux_loss=False to go on."
            )
