"""Metrics against a known truth, worked by hand, and what holds of all of them."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sae_lens import synthetic
from scipy.integrate import quad
from scipy.stats import beta

from tests.measures.draws import draw, seeds, sparse
from wsae_plugin.errors import BadInputError
from wsae_plugin.measures.matching import assign, best_matches
from wsae_plugin.toy.metrics import (
    GroundTruthLoss,
    activated_features,
    code_sums,
    feature_recovery_rate,
)

sizes, rows = st.integers(1, 5), st.integers(2, 8)


def align_codes(feature_acts: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    return code_sums(feature_acts.double(), features.double()).alignment


def ground_truth_loss(
    feature_acts: torch.Tensor, features: torch.Tensor, latents: torch.Tensor | None = None
) -> GroundTruthLoss:
    """Of one SAE; checks that None is the alignment of these samples."""
    sums = code_sums(feature_acts.double(), features.double())
    if latents is None:
        assert sums.ground_truth_loss() == sums.ground_truth_loss(sums.alignment)
    return sums.ground_truth_loss(latents)


X = torch.tensor([[1.0, 0], [0, 2], [0, 0], [1, 0]])
# Latent 0 is half of feature 1; latent 1 is feature 0 with a false activation; latent 2 is dead.
Z = torch.tensor([[0, 1.0, 0], [1, 0, 0], [0, 0.5, 0], [0, 1, 0]])


def test_ground_truth_loss_worked_by_hand() -> None:
    alignment = align_codes(Z, X)
    assert alignment.tolist() == [1, 0]
    # E‖x‖² ∝ 1 + 4 + 1; the false activation costs 0.25, the half value (2 − 1)² = 1.
    loss = ground_truth_loss(Z, X, alignment)
    assert loss.all_dimensions == pytest.approx(1.25 / 6)
    assert loss.nonzero_dimensions == pytest.approx(1 / 6)


def test_predicting_zero_is_one_and_the_truth_is_zero() -> None:
    nothing = ground_truth_loss(Z, X, torch.tensor([-1, -1]))
    assert (nothing.all_dimensions, nothing.nonzero_dimensions) == (1, 1)
    dead = ground_truth_loss(torch.zeros(4, 3), X, torch.tensor([2, 0]))
    assert (dead.all_dimensions, dead.nonzero_dimensions) == (1, 1)
    perfect = ground_truth_loss(X.flip(1), X)
    assert (perfect.all_dimensions, perfect.nonzero_dimensions) == (0, 0)
    with pytest.raises(BadInputError, match="features are all zero"):
        ground_truth_loss(Z, torch.zeros_like(X), torch.tensor([0, 1]))


def test_too_few_latents_go_where_they_save_most() -> None:
    # Exact for feature 0 (energy 2) or half for feature 1 (saves 4 − 1 = 3): feature 1 gets it.
    codes = torch.tensor([[1.0], [1.0], [0.0], [1.0]])
    assert align_codes(codes, X).tolist() == [0, -1]  # saves 2 − 1 = 1 there, 4 − 3 = 1 − 2 here
    assert align_codes(Z[:, :1], X).tolist() == [-1, 0]


def test_chance_of_the_ground_truth_loss() -> None:
    for threshold, expected in ((1.5, 1.9), (-9.0, 0.73)):
        x = draw(20_000, 3, 0)
        x = x.abs() * (x > threshold)
        shuffled = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(1))]
        chance = 2 * float(x.var(dim=0).sum() / x.square().mean(dim=0).sum())
        loss = ground_truth_loss(shuffled, x, torch.arange(3))
        assert loss.all_dimensions == pytest.approx(chance, rel=0.02)
        assert chance == pytest.approx(expected, abs=0.05)


@given(n_features=sizes, d_sae=sizes, seed=seeds)
def test_no_permutation_has_a_smaller_ground_truth_loss(
    n_features: int, d_sae: int, seed: int
) -> None:
    x, z = sparse(12, n_features, seed) + 0.01, sparse(12, d_sae, seed + 1)
    padded = [*range(d_sae), *[-1] * max(0, n_features - d_sae)]
    best = min(
        ground_truth_loss(z, x, torch.tensor(order)).all_dimensions
        for order in permutations(padded, n_features)
    )
    loss = ground_truth_loss(z, x)
    assert loss.all_dimensions == pytest.approx(best)
    assert 0 <= loss.nonzero_dimensions <= loss[0] + 1e-12
    order = torch.randperm(d_sae, generator=torch.Generator().manual_seed(seed))
    permuted = ground_truth_loss(z[:, order], x)
    assert permuted.all_dimensions == pytest.approx(loss.all_dimensions)


def test_counts_and_variance_worked_by_hand() -> None:
    sums = code_sums(Z, X)
    assert float(sums.l0) == 1
    assert float(sums.dead) == pytest.approx(1 / 3)
    assert code_sums(torch.tensor([[0.0, 3], [2, 3]]), X[:2]).latent_variance.tolist() == [1, 0]


@given(n_features=sizes, d_sae=sizes, seed=seeds)
def test_counts_are_saelens(n_features: int, d_sae: int, seed: int) -> None:
    x, z = sparse(20, n_features, seed), sparse(20, d_sae, seed + 1)
    l0, dead = synthetic.L0Calculator(), synthetic.DeadLatentsCalculator(d_sae)
    l0.add_batch(z)
    dead.add_batch(z)
    sums = code_sums(z, x)
    assert float(sums.l0) == pytest.approx(l0.compute())
    assert float(sums.dead) * d_sae == pytest.approx(dead.compute())


@given(n_features=sizes, d_sae=sizes, seed=seeds)
def test_replicas_and_chunks_give_what_one_sae_and_one_sample_do(
    n_features: int, d_sae: int, seed: int
) -> None:
    x = torch.stack([sparse(12, n_features, seed + i) + 0.01 for i in range(3)])
    z = torch.stack([sparse(12, d_sae, seed + 3 + i) for i in range(3)])
    whole = code_sums(z, x)
    chunked = code_sums(z[:, :5], x[:, :5]) + code_sums(z[:, 5:], x[:, 5:])
    loss = whole.ground_truth_loss(whole.alignment)
    for number in range(3):
        alone = code_sums(z[number], x[number])
        expected = ground_truth_loss(z[number], x[number])
        assert whole.alignment[number].equal(alone.alignment)
        for found, one in zip(loss, expected, strict=True):
            assert float(found[number]) == pytest.approx(float(one))
        assert float(whole.scaled_loss[number]) == pytest.approx(float(alone.scaled_loss))
        assert float(chunked.l0[number]) == pytest.approx(float(alone.l0))
        assert chunked.latent_variance[number].tolist() == pytest.approx(
            alone.latent_variance.tolist()
        )
    assert (whole.scaled_loss <= loss[0] + 1e-12).all()


# --- the decoder against the true directions -----------------------------------------------------

FEATURES = torch.eye(3)
# |cosine| with the features: (1, 0, 0), (0, 1, 0) with a minus, (√½, √½, 0), (0.6, 0, 0.8).
DECODER = torch.tensor([[2.0, 0, 0], [0, -1, 0], [1, 1.0001, 0], [0.6, 0, 0.8]])
HALF = 0.5**0.5


def mcc_decoder(decoder: torch.Tensor, features: torch.Tensor) -> float:
    return float(assign(decoder, features).cosines.abs().mean())


def mmcs(vectors: torch.Tensor, candidates: torch.Tensor) -> float:
    return float(best_matches(vectors, candidates)[0].mean())


def test_recovery_worked_by_hand() -> None:
    assert mcc_decoder(DECODER, FEATURES) == pytest.approx((1 + 1 + 0.8) / 3)
    assert mmcs(FEATURES, DECODER) == pytest.approx((1 + HALF + 0.8) / 3, abs=1e-4)
    assert mmcs(DECODER, FEATURES) == pytest.approx((1 + 0 + HALF + 0.8) / 4, abs=1e-4)
    rates = [feature_recovery_rate(DECODER, FEATURES, t) for t in (0.7, 0.75, 0.9, 1.0)]
    assert rates == pytest.approx([1, 2 / 3, 1 / 3, 1 / 3])


def test_a_true_decoder_is_perfect() -> None:
    features = draw(20, 8, 0)
    decoder = features.flip(0) * torch.linspace(0.1, 9, 20).unsqueeze(1)
    assert mcc_decoder(decoder, features) == pytest.approx(1, abs=1e-12)
    assert mmcs(features, decoder) == mmcs(decoder, features) == 1
    assert feature_recovery_rate(decoder, features, 1.0) == 1


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


@given(n=rows, m=rows, d=rows, seed=seeds)
def test_the_mean_of_an_assignment_is_saelenss_mcc(n: int, m: int, d: int, seed: int) -> None:
    decoder, features = draw(n, d, seed), draw(m, d, seed + 1)
    mcc = synthetic.mean_correlation_coefficient(decoder, features)
    assert mcc_decoder(decoder, features) == pytest.approx(mcc)


def scores(decoder: torch.Tensor, features: torch.Tensor) -> list[float]:
    return [
        mcc_decoder(decoder, features),
        mmcs(features, decoder),
        mmcs(decoder, features),
        feature_recovery_rate(decoder, features, 0.5),
    ]


@given(n=rows, m=rows, d=rows, seed=seeds)
def test_order_and_norms_of_the_decoder_do_not_matter(n: int, m: int, d: int, seed: int) -> None:
    decoder, features = draw(n, d, seed), draw(m, d, seed + 1)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    norms = draw(n, 1, seed + 2).abs() + 0.01
    before = scores(decoder, features)
    assert scores((decoder * norms)[order], features) == pytest.approx(before)
    assert all(-1 <= score <= 1 + 1e-12 for score in before)


@given(n=rows, m=rows, d=rows, seed=seeds)
def test_more_latents_never_lose_a_feature(n: int, m: int, d: int, seed: int) -> None:
    decoder, features = draw(n, d, seed), draw(m, d, seed + 1)
    assert mmcs(features, decoder) >= mmcs(features, decoder[1:]) - 1e-12
    rates = [feature_recovery_rate(decoder, features, t / 10) for t in range(-10, 11)]
    assert rates == sorted(rates, reverse=True)
    assert feature_recovery_rate(decoder, features, 0.3) >= feature_recovery_rate(
        decoder[1:], features, 0.3
    )


# --- what a feature activates alone --------------------------------------------------------------

# Columns: answers to feature 0; to 0 and half as much to 2, a twentieth to 1; to nothing.
ENCODER = torch.tensor([[1.0, 1.0, -1.0], [0.0, 0.05, -1.0], [0.0, 0.5, 0.0]])


def encode(x: torch.Tensor) -> torch.Tensor:
    return (x @ ENCODER).relu()


def test_activated_features_worked_by_hand() -> None:
    assert activated_features(encode, FEATURES).tolist() == [1, 2, 0]
    assert activated_features(encode, FEATURES, threshold=0.01).tolist() == [1, 3, 0]
    assert activated_features(encode, FEATURES, threshold=0).tolist() == [1, 3, 0]
    with pytest.raises(BadInputError, match="threshold is 1"):
        activated_features(encode, FEATURES, threshold=1)


def test_a_dead_latent_counts_nothing_and_one_that_is_always_on_everything() -> None:
    counts = activated_features(lambda x: x.new_zeros(len(x), 4), FEATURES)
    assert counts.tolist() == [0] * 4
    assert activated_features(lambda x: x.new_ones(len(x), 4), FEATURES).tolist() == [3] * 4


def test_replicas_are_counted_apart() -> None:
    both = torch.stack([FEATURES, FEATURES.flip(0)])
    counts = activated_features(encode, both)
    assert counts.tolist() == [activated_features(encode, one).tolist() for one in both]


@pytest.mark.parametrize("rectify", [False, True])
def test_chance_of_activated_features(rectify: bool) -> None:
    vectors, encoder = draw(200, 20, 0), draw(20, 100, 1)
    counts = activated_features(lambda x: (x @ encoder).relu() if rectify else x @ encoder, vectors)
    assert float(counts.double().mean()) == pytest.approx(0.4 * 200, rel=0.1)


@given(n_features=st.integers(1, 6), seed=seeds)
def test_order_and_scale_of_the_latents_do_not_matter(n_features: int, seed: int) -> None:
    vectors = draw(n_features, 4, seed + 1)
    encoder, scale = draw(4, 5, seed + 2), draw(1, 5, seed + 3).abs() + 0.01
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    counts = activated_features(lambda x: (x @ encoder).relu(), vectors)
    moved = activated_features(lambda x: (x @ (encoder * scale)[:, order]).relu(), vectors)
    assert moved.equal(counts[order])
    assert ((counts >= 0) & (counts <= n_features)).all()
