"""Training a small causal language model on a stream of tokens."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

BATCH_SIZE = 8
PEAK_LEARNING_RATE = 3e-3
WARM_UP_SHARE = 0.03
WEIGHT_DECAY = 0.1


@dataclass(frozen=True)
class Budget:
    """When training ends; exactly one of the two is given.

    Args:
        tokens: Tokens to train on. The same seed and number of threads give the same model again.
        minutes: Wall-clock minutes to train for. What comes out depends on the machine's speed.
    """

    tokens: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if (self.tokens is None) == (self.minutes is None):
            raise ValueError(f"give one of tokens and minutes, not {self.tokens}, {self.minutes}")
        amount = self.minutes if self.tokens is None else self.tokens
        if amount is None or not 0 < amount < math.inf:
            raise ValueError(f"nothing to train on: {self}; give a positive number")

    def progress(self, tokens: int, seconds: float) -> float:
        """Share of the budget spent, 0 at the start and at least 1 once it is used up."""
        if self.tokens is not None:
            return tokens / self.tokens
        assert self.minutes is not None
        return seconds / (60 * self.minutes)


def learning_rate(progress: float) -> float:
    """Linear warm-up, then a cosine down to a hundredth of the peak; pure in the progress."""
    if progress < WARM_UP_SHARE:
        return PEAK_LEARNING_RATE * progress / WARM_UP_SHARE
    decay = min((progress - WARM_UP_SHARE) / (1 - WARM_UP_SHARE), 1.0)
    return PEAK_LEARNING_RATE * (0.01 + 0.99 * (1 + math.cos(math.pi * decay)) / 2)


def sample_batch(
    tokens: Tensor, context_size: int, bos_token_id: int, generator: torch.Generator
) -> Tensor:
    """Windows (batch, context_size) from random places of ``tokens`` (n_tokens,), led by BOS."""
    starts = torch.randint(len(tokens) - context_size, (BATCH_SIZE, 1), generator=generator)
    batch = tokens[starts + torch.arange(context_size)]
    batch[:, 0] = bos_token_id
    return batch


def train(model: Any, draw: Callable[[], Tensor], budget: Budget) -> int:
    """Train ``model`` in place with AdamW until the budget is spent.

    Args:
        model: A Hugging Face causal language model.
        draw: Gives the next batch of tokens, (batch, context).
        budget: When to stop, and so how fast the learning rate falls.

    Returns:
        The number of tokens trained on.
    """
    optimizer = torch.optim.AdamW(_parameter_groups(model), betas=(0.9, 0.95))
    model.train()
    tokens, start, steps = 0, time.monotonic(), 0
    with tqdm(total=budget.tokens, unit="token", unit_scale=True) as bar:
        while (progress := budget.progress(tokens, time.monotonic() - start)) < 1:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(progress)
            batch = draw()
            loss = _training_step(model, batch, optimizer)
            tokens, steps = tokens + batch.numel(), steps + 1
            bar.update(batch.numel())
            if steps % 50 == 0:
                bar.set_postfix(loss=f"{loss.item():.3f}", done=f"{progress:.0%}")
    return tokens


def _training_step(model: Any, batch: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
    """One step on ``batch`` (batch, context); the mean loss in nats per token, detached."""
    logits = model(batch, use_cache=False).logits[:, :-1]
    loss = cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.detach()


def _parameter_groups(model: torch.nn.Module) -> list[dict[str, Any]]:
    """Weight decay on matrices, none on biases and layer norms."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
