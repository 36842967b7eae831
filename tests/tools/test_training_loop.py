from __future__ import annotations

import math

import pytest
import torch

from tools.training_loop import (
    BATCH_SIZE,
    PEAK_LEARNING_RATE,
    Budget,
    learning_rate,
    sample_batch,
)


def test_learning_rate_rises_to_its_peak_and_falls_to_a_hundredth_of_it() -> None:
    rates = [learning_rate(step / 1000) for step in range(1001)]
    assert rates[0] == 0
    assert max(rates) == rates[30] == pytest.approx(PEAK_LEARNING_RATE)
    assert rates[-1] == pytest.approx(PEAK_LEARNING_RATE / 100)
    assert learning_rate(1.5) == rates[-1]


def test_budget_is_spent_in_tokens_or_in_minutes() -> None:
    assert Budget(tokens=200).progress(tokens=50, seconds=1e9) == 0.25
    assert Budget(minutes=2).progress(tokens=10**9, seconds=30) == 0.25


@pytest.mark.parametrize(
    ("tokens", "minutes", "message"),
    [
        (None, None, "give one of tokens and minutes"),
        (1, 1.0, "give one of tokens and minutes"),
        (0, None, "give a positive number"),
        (None, -1.0, "give a positive number"),
        (None, math.nan, "give a positive number"),
        (None, math.inf, "give a positive number"),
    ],
)
def test_budget_refuses_what_makes_no_sense(
    tokens: int | None, minutes: float | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Budget(tokens, minutes)


def test_batches_are_pieces_of_the_stream_led_by_bos() -> None:
    tokens = torch.arange(100, 140)
    generator = torch.Generator().manual_seed(0)
    batch = sample_batch(tokens, context_size=5, bos_token_id=7, generator=generator)
    assert batch.shape == (BATCH_SIZE, 5)
    assert batch[:, 0].tolist() == [7] * BATCH_SIZE
    assert torch.equal(batch[:, 2:], batch[:, 1:-1] + 1)
    assert torch.equal(tokens, torch.arange(100, 140))
