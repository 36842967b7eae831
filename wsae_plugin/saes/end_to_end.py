"""The divergence of a language model's output beside the squared error of the activations."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from torch import Tensor

from wsae_plugin.saes.metric import MetricTrainingSAE

Divergence = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Reconstructions (batch, d_in) → what they cost, a scalar, and its gradient in them."""


@contextmanager
def end_to_end(
    sae: MetricTrainingSAE, unscale: Callable[[Tensor], Tensor], divergence: Divergence
) -> Generator[list[Tensor]]:
    """Train an SAE on what its reconstructions do to the model, in the steps that are made inside.

    Every reconstruction loss of a step (that of each level of a Matryoshka SAE) becomes half itself
    and half the KL divergence times the number that gives it the same size (arXiv 2503.17272), so
    that a sparsity penalty and the loss for dead latents keep their share.

    Args:
        sae: Any weighted SAE, or GBA, whatever its metric and scale.
        unscale: Undoes what the activations were scaled by.
        divergence: Of reconstructions of the activations as they are in the model.

    Yields:
        The divergence of each loss, in nats, that of the whole reconstruction first.
    """
    found: list[Tensor] = []
    squared_error = sae.mse_loss_fn

    def loss(preds: Tensor, target: Tensor) -> Tensor:
        x_hat = unscale(sae.out_of_metric_space(preds))
        value, gradient = divergence(x_hat.detach())
        found.append(value)
        error = squared_error(preds, target)
        size = error.detach().sum(dim=-1).mean() / value.clamp(min=_LEAST)
        followed = value + (gradient * (x_hat - x_hat.detach())).sum()
        # Steps sum over dimensions, and take the mean over the batch.
        return (error + size * followed / preds.shape[-1]) / 2

    sae.mse_loss_fn = loss
    try:
        yield found
    finally:
        sae.mse_loss_fn = squared_error


_LEAST = 1e-9
"""Nats: of a reconstruction without an error."""
