"""The monosemanticity score, against its definition: a mean over all pairs."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from wsae_plugin.gamma.consistency import FEWEST, sparse_of
from wsae_plugin.measures.weighted_cosines import WeightedCosines


def quadratic(x: Tensor, acts: Tensor) -> float:
    """One latent's score as arXiv 2504.02821 writes it, pair by pair."""
    scaled = ((acts - acts.min()) / (acts.max() - acts.min())).tolist()
    products, weights = 0.0, 0.0
    for i in range(len(x)):
        for j in range(len(x)):
            if i != j:
                cosine = float(torch.cosine_similarity(x[i], x[j], dim=0))
                products += scaled[i] * scaled[j] * cosine
                weights += scaled[i] * scaled[j]
    return products / weights


def streamed(x: Tensor, acts: Tensor, batch: int = 1000) -> WeightedCosines:
    cosines = WeightedCosines(x.shape[1], acts.shape[1])
    for start in range(0, len(x), batch):
        cosines.add(x[start : start + batch], sparse_of(acts[start : start + batch]))
    return cosines


@given(st.integers(FEWEST + 5, 35), st.integers(1, 40), st.integers(0, 2**31))
def test_it_is_the_mean_over_pairs(n: int, batch: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=generator, dtype=torch.float64) + 0.5
    normal = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    acts = torch.stack(
        [
            normal[:, 0].abs() * (torch.arange(n) >= 5),  # sparse
            normal[:, 1].abs() + 3,  # active everywhere
            normal[:, 2],  # of both signs
            -normal[:, 3].abs() * (torch.arange(n) >= 5),  # negative or 0
        ],
        dim=1,
    )
    found = streamed(x, acts, batch)
    expected = [quadratic(x, column) for column in acts.T]
    assert found.scores().tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    cosines = torch.cosine_similarity(x.unsqueeze(0), x.unsqueeze(1), dim=2)
    assert found.mean_cosine() == pytest.approx(float((cosines.sum() - n) / (n * (n - 1))))


def test_by_hand() -> None:
    # 20 samples along the first axis, 20 along the second, all excited alike.
    x = torch.eye(2).repeat_interleave(20, dim=0) * torch.rand(40, 1).clamp(min=0.1)
    both = torch.ones(40)
    both[39] = 0
    acts = torch.stack([torch.eye(2)[0].repeat_interleave(20), both], dim=1)
    cosines = streamed(x, acts)
    # Of 39 · 38 ordered pairs, 20 · 19 + 19 · 18 are of the same axis.
    assert cosines.scores().tolist() == pytest.approx([1, (20 * 19 + 19 * 18) / (39 * 38)])
    assert cosines.mean_cosine() == pytest.approx(2 * 20 * 19 / (40 * 39))


def test_what_has_no_score() -> None:
    acts = torch.zeros(50, 5)
    acts[:, 0] = 0.3  # does not vary
    acts[: FEWEST - 1, 1] = 1
    acts[:FEWEST, 2] = 1
    acts[:, 3] = 1e6  # nowhere above its minimum but on one
    acts[7, 3] += 1
    found = streamed(torch.randn(50, 3), acts).scores()
    assert found.isnan().tolist() == [True, True, False, True, True]
    assert math.isnan(WeightedCosines(3, 2).mean_cosine())


def test_a_sample_without_a_direction_is_left_out() -> None:
    x, acts = torch.randn(60, 3), torch.rand(60, 4)
    gone = torch.arange(60) % 5 == 0
    zeroed = x.masked_fill(gone.unsqueeze(1), 0)
    found, expected = streamed(zeroed, acts, 17), streamed(x[~gone], acts[~gone])
    torch.testing.assert_close(found.scores(), expected.scores())
    assert found.mean_cosine() == pytest.approx(expected.mean_cosine())


def test_a_large_offset_costs_few_digits() -> None:
    x, acts = torch.randn(200, 3), torch.rand(200, 1).double()
    shifted = streamed(x, acts + 1e4).scores()
    torch.testing.assert_close(shifted, streamed(x, acts).scores(), rtol=0, atol=1e-6)
