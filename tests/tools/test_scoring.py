from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from tools.scoring import (
    bigram_cross_entropy,
    fit_bigram,
    fit_tuned_bigram,
    fit_unigram,
    model_cross_entropy,
    scoring_windows,
    unigram_cross_entropy,
)


def test_windows_are_led_by_bos_and_cut_the_stream_without_overlap() -> None:
    windows = scoring_windows(torch.arange(1, 9), context_size=4, bos_token_id=0)
    assert windows.tolist() == [[0, 1, 2, 3], [0, 4, 5, 6]]


def test_unigram_by_hand() -> None:
    # Counts (2, 1, 0) with half a count each: (2.5, 1.5, 0.5) / 4.5.
    log_probs = fit_unigram(torch.tensor([0, 0, 1]), vocab_size=3)
    torch.testing.assert_close(log_probs.exp(), torch.tensor([2.5, 1.5, 0.5]) / 4.5)


def test_bigram_by_hand() -> None:
    # Pairs of 0 1 0 1 1: 01 twice, 10 once, 11 once. Token 0 was seen after {1}, token 1 after
    # {0, 1}: q = (1.5, 2.5) / 4. With D = 1/2:
    # p(1|0) = (2 - 1/2)/2 + 1/2 * 1/2 * q(1) = 0.75 + 0.25 * 0.625 = 0.90625
    # p(0|1) = (1 - 1/2)/2 + 1/2 * 2/2 * q(0) = 0.25 + 0.5 * 0.375 = 0.4375
    bigram = fit_bigram(torch.tensor([0, 1, 0, 1, 1]), vocab_size=2, discount=0.5)
    expected = torch.tensor([[0.09375, 0.90625], [0.4375, 0.5625]])
    torch.testing.assert_close(bigram.log_probs.exp(), expected)


@pytest.mark.parametrize("lower_order", ["unigram", "continuation"])
def test_bigram_sums_to_one_even_after_a_token_never_seen(lower_order: str) -> None:
    tokens = torch.randint(9, (200,), generator=torch.Generator().manual_seed(0))
    bigram = fit_bigram(tokens, vocab_size=10, discount=0.7, lower_order=lower_order)
    torch.testing.assert_close(bigram.log_probs.exp().sum(dim=1), torch.ones(10))


def test_tuned_bigram_reaches_the_entropy_of_a_markov_chain() -> None:
    # Each token is followed by itself plus 1, 2 or 3 with probabilities 1/2, 1/4, 1/4:
    # 1.5 bits = 1.04 nats. The mean of n terms has a standard deviation below 1 / sqrt(n) nats,
    # and 10 * 9 free parameters fitted on n tokens cost about 45 / n nats.
    n = 40_000
    generator = torch.Generator().manual_seed(0)
    steps = torch.multinomial(torch.tensor([0.5, 0.25, 0.25]), 2 * n, True, generator=generator)
    tokens = (steps + 1).cumsum(0) % 10
    bigram = fit_tuned_bigram(tokens[:n], vocab_size=10)
    loss = bigram_cross_entropy(bigram, tokens[n:].unsqueeze(0))
    assert loss == pytest.approx(1.5 * math.log(2), abs=5 / math.sqrt(n) + 45 / n)


def test_every_predictor_is_scored_on_the_same_tokens() -> None:
    """A language model that is the bigram model gets the bigram model's loss exactly."""
    tokens = torch.randint(5, (400,), generator=torch.Generator().manual_seed(1))
    bigram = fit_bigram(tokens, vocab_size=5, discount=0.7)
    windows = scoring_windows(tokens, context_size=9, bos_token_id=0)
    model = _Fixed(lambda batch: bigram.log_probs[batch])
    expected = bigram_cross_entropy(bigram, windows)
    assert model_cross_entropy(model, windows, batch_size=7) == pytest.approx(expected, abs=1e-6)

    unigram = fit_unigram(tokens, vocab_size=5)
    model = _Fixed(lambda batch: unigram.expand(*batch.shape, 5))
    expected = unigram_cross_entropy(unigram, windows)
    assert model_cross_entropy(model, windows) == pytest.approx(expected, abs=1e-6)


class _Fixed(torch.nn.Module):
    """Looks like a Hugging Face model whose logits are a function of the tokens."""

    def __init__(self, logits_of) -> None:  # noqa: ANN001
        super().__init__()
        self.logits_of = logits_of

    def forward(self, batch: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits_of(batch))
