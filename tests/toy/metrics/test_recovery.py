from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sae_lens import synthetic
from scipy.integrate import quad
from scipy.stats import beta
from torch import Tensor

from tests.toy.metrics.draws import draw, seeds
from wsae_plugin.toy.metrics import (
    align_decoder,
    assign,
    feature_recovery_rate,
    feature_uniqueness,
    mcc_decoder,
    mmcs,
)

sizes = st.integers(2, 8)
FEATURES = torch.eye(3)
# |cosine| with the features: (1, 0, 0), (0, 1, 0) with a minus, (√½, √½, 0), (0.6, 0, 0.8).
DECODER = torch.tensor([[2.0, 0, 0], [0, -1, 0], [1, 1.0001, 0], [0.6, 0, 0.8]])
HALF = 0.5**0.5


def test_worked_by_hand() -> None:
    assert mcc_decoder(DECODER, FEATURES) == pytest.approx((1 + 1 + 0.8) / 3)
    assert mmcs(FEATURES, DECODER) == pytest.approx((1 + HALF + 0.8) / 3, abs=1e-4)
    assert mmcs(DECODER, FEATURES) == pytest.approx((1 + 0 + HALF + 0.8) / 4, abs=1e-4)
    rates = [feature_recovery_rate(DECODER, FEATURES, t) for t in (0.7, 0.75, 0.9, 1.0)]
    assert rates == pytest.approx([1, 2 / 3, 1 / 3, 1 / 3])
    # Latents 1 and 2 both follow feature 1.
    assert feature_uniqueness(DECODER, FEATURES) == 3 / 4


def test_the_alignment_names_a_latent_for_each_feature() -> None:
    assert align_decoder(DECODER, FEATURES).tolist() == [0, 1, 3]
    assert align_decoder(DECODER[:2], FEATURES).tolist() == [0, 1, -1]
    assert align_decoder(DECODER[2:], FEATURES).tolist() == [-1, 0, 1]


def test_a_true_decoder_is_perfect() -> None:
    features = draw(20, 8, 0)
    decoder = features.flip(0) * torch.linspace(0.1, 9, 20).unsqueeze(1)
    assert mcc_decoder(decoder, features) == pytest.approx(1, abs=1e-12)
    assert mmcs(features, decoder) == mmcs(decoder, features) == 1
    assert feature_recovery_rate(decoder, features, 1.0) == 1
    assert feature_uniqueness(decoder, features) == 1
    assert align_decoder(decoder, features).tolist() == list(reversed(range(20)))


def test_chance_is_what_the_docstrings_say() -> None:
    n, d_in = 128, 42

    def below(t: float) -> float:
        return beta.cdf((t + 1) / 2, (d_in - 1) / 2, (d_in - 1) / 2)

    pairs = [(draw(n, d_in, seed), draw(n, d_in, seed + 100)) for seed in range(10)]

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    assert mean([mcc_decoder(*pair) for pair in pairs]) == pytest.approx(0.40, abs=0.01)
    expected = 1 - quad(lambda t: below(t) ** n, -1, 1)[0]
    assert expected == pytest.approx(0.39, abs=0.005)
    assert mean([mmcs(*pair) for pair in pairs]) == pytest.approx(expected, abs=0.01)
    rate = mean([feature_recovery_rate(*pair, 0.4) for pair in pairs])
    assert rate == pytest.approx(1 - below(0.4) ** n, abs=0.05)
    assert 1 - below(0.8) ** n == pytest.approx(8e-9, rel=0.05)
    uniqueness = mean([feature_uniqueness(*pair) for pair in pairs])
    assert uniqueness == pytest.approx(1 - (1 - 1 / n) ** n, abs=0.03)


@given(n=sizes, m=sizes, d=sizes, seed=seeds)
def test_mcc_and_uniqueness_are_saelens(n: int, m: int, d: int, seed: int) -> None:
    decoder, features = draw(n, d, seed), draw(m, d, seed + 1)
    mcc = synthetic.mean_correlation_coefficient(decoder, features)
    assert mcc_decoder(decoder, features) == pytest.approx(mcc)
    assert float(assign(decoder, features).cosines.abs().mean()) == pytest.approx(mcc)
    assert feature_uniqueness(decoder, features) == synthetic.feature_uniqueness(decoder, features)


def scores(decoder: Tensor, features: Tensor) -> list[float]:
    return [
        mcc_decoder(decoder, features),
        mmcs(features, decoder),
        mmcs(decoder, features),
        feature_recovery_rate(decoder, features, 0.5),
        feature_uniqueness(decoder, features),
    ]


@given(n=sizes, m=sizes, d=sizes, seed=seeds)
def test_order_and_norms_of_the_latents_do_not_matter(n: int, m: int, d: int, seed: int) -> None:
    decoder, features = draw(n, d, seed), draw(m, d, seed + 1)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    norms = draw(n, 1, seed + 2).abs() + 0.01
    before = scores(decoder, features)
    assert scores((decoder * norms)[order], features) == pytest.approx(before)
    assert all(-1 <= score <= 1 + 1e-12 for score in before)
    assert before[4] <= min(1, m / n)


@given(n=sizes, m=sizes, d=sizes, seed=seeds)
def test_more_latents_never_lose_a_feature(n: int, m: int, d: int, seed: int) -> None:
    decoder, features = draw(n, d, seed), draw(m, d, seed + 1)
    assert mmcs(features, decoder) >= mmcs(features, decoder[1:]) - 1e-12
    rates = [feature_recovery_rate(decoder, features, t / 10) for t in range(-10, 11)]
    assert rates == sorted(rates, reverse=True)
    assert feature_recovery_rate(decoder, features, 0.3) >= feature_recovery_rate(
        decoder[1:], features, 0.3
    )
