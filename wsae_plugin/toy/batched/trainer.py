"""SAELens's training of many SAEs at once: Adam, and each SAE's gradient clipped at norm 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from sae_lens.training.optim import get_lr_scheduler
from torch import Tensor

from wsae_plugin.toy.batched.activation import Activation
from wsae_plugin.toy.batched.model import SAEs, weighted_loss
from wsae_plugin.toy.batched.stack import SAEStack

MAX_GRADIENT_NORM = 1.0
"""What SAELens's trainer clips to."""


@dataclass(frozen=True)
class Training:
    """How a stack is trained; the names are SAELens's.

    Attributes:
        n_steps: optimiser steps.
        batch_size: samples in a step.
        lr: Adam's learning rate.
        lr_decay_steps: at the end, linearly to 0.
    """

    n_steps: int
    batch_size: int = 256
    lr: float = 3e-3
    lr_decay_steps: int = 0


@dataclass(frozen=True)
class InputMap:
    """What each SAE reads instead of x: (x − mean) @ matrix.

    Attributes:
        mean: shape (n, d_in).
        matrix: shape (n, d_in, d_in), invertible.
    """

    mean: Tensor
    matrix: Tensor

    def __call__(self, activations: Tensor) -> Tensor:
        return torch.bmm(activations - self.mean.unsqueeze(1), self.matrix)

    def fold(self, stack: SAEStack) -> SAEStack:
        """The same SAEs as functions of x; Top-k goes on choosing in the mapped units."""
        W_enc = torch.bmm(stack.W_enc, self.matrix.transpose(1, 2))
        inverse = torch.linalg.inv(self.matrix.double()).to(self.matrix)
        shift = torch.bmm(W_enc, self.mean.unsqueeze(-1)).squeeze(-1)
        b_dec = torch.bmm(stack.b_dec.unsqueeze(1), inverse).squeeze(1) + self.mean
        W_dec = torch.bmm(stack.W_dec, inverse)
        return replace(stack, W_enc=W_enc, b_enc=stack.b_enc - shift, W_dec=W_dec, b_dec=b_dec)


def train_stack(
    decoders: Tensor,
    activation: Activation,
    next_batch: Callable[[int], Tensor],
    gamma: Tensor,
    training: Training,
    *,
    tied: bool,
    input_map: InputMap | None = None,
    on_step: Callable[[], object] = lambda: None,
) -> SAEStack:
    """Train one SAE for each of the initial decoders.

    Args:
        decoders: initial W_dec, shape (n, d_sae, d_in); float64 makes all of it float64.
        activation: σ.
        next_batch: number of samples → the SAEs' next activations, shape (n, n_samples, d_in).
        gamma: γ of every SAE, shape (n, d_in).
        training: steps, batch size, learning rate.
        tied: the theory's SAE without biases, or SAELens's.
        input_map: what the SAEs read instead of x; γ then weights the mapped dimensions.
        on_step: called after every step.

    Returns:
        The trained SAEs, as functions of x.
    """
    model = SAEs(decoders, activation, tied)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=training.lr, fused=True)
    scheduler = get_lr_scheduler(
        "constant",
        optimizer,
        training_steps=training.n_steps,
        lr=training.lr,
        warm_up_steps=0,
        decay_steps=training.lr_decay_steps,
        lr_end=training.lr,
        num_cycles=1,
    )
    for _ in range(training.n_steps):
        activations = next_batch(training.batch_size)
        if input_map is not None:
            activations = input_map(activations)
        weighted_loss(model(activations), activations, gamma).sum().backward()
        clip_each(trained)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        on_step()
    stack = model.stack()
    return stack if input_map is None else input_map.fold(stack)


@torch.no_grad()
def clip_each(parameters: list[torch.nn.Parameter]) -> None:
    """`torch.nn.utils.clip_grad_norm_` for each SAE of a stack on its own.

    Args:
        parameters: of shape (n, ...), with gradients.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    squares = sum(gradient.square().flatten(1).sum(dim=1) for gradient in gradients)
    norms = torch.as_tensor(squares).sqrt()
    # torch's own constant, so that a clipped gradient is the same to the last digits.
    factors = (MAX_GRADIENT_NORM / (norms + 1e-6)).clamp(max=1)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.ndim - 1)))
