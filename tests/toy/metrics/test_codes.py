from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sae_lens import synthetic
from scipy.optimize import linear_sum_assignment

from tests.toy.metrics.draws import draw, seeds, sparse
from wsae_plugin.errors import BadInputError
from wsae_plugin.toy.metrics import (
    align_codes,
    classify_latents,
    dead_latents,
    ground_truth_loss,
    l0,
    latent_variance,
    mcc_code,
)

sizes = st.integers(1, 5)
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
    perfect = ground_truth_loss(X.flip(1), X, align_codes(X.flip(1), X))
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
    loss = ground_truth_loss(z, x, align_codes(z, x))
    assert loss.all_dimensions == pytest.approx(best)
    assert 0 <= loss.nonzero_dimensions <= loss.all_dimensions + 1e-12
    order = torch.randperm(d_sae, generator=torch.Generator().manual_seed(seed))
    permuted = ground_truth_loss(z[:, order], x, align_codes(z[:, order], x))
    assert permuted.all_dimensions == pytest.approx(loss.all_dimensions)


def test_mcc_code_worked_by_hand() -> None:
    features = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    first, second = features.T
    assert mcc_code(torch.stack([1 - second, 3 + 2 * first], 1), features) == 1
    assert mcc_code(torch.stack([second, second], 1), features) == pytest.approx(0.5)
    # (0, 0, 1, 1) against (0, 1, 1, 1): covariance 1/8, variances 1/4 and 3/16.
    either = torch.tensor([[0.0], [1], [1], [1]])
    assert mcc_code(either, features[:, :1]) == pytest.approx(1 / 8 / (1 / 4 * 3 / 16) ** 0.5)


def test_a_constant_correlates_with_nothing() -> None:
    features = draw(7, 1, 0)
    assert mcc_code(torch.full((7, 1), 0.1), features) == 0
    assert mcc_code(features, torch.full((7, 1), 0.1)) == 0


@given(n_features=st.integers(2, 6), d_sae=st.integers(2, 6), seed=seeds)
def test_mcc_code_is_numpys_correlation(n_features: int, d_sae: int, seed: int) -> None:
    x, z = draw(30, n_features, seed), draw(30, d_sae, seed + 1)
    correlation = np.abs(np.corrcoef(x.T, z.T)[:n_features, n_features:])
    rows, columns = linear_sum_assignment(-correlation)
    score = mcc_code(z, x)
    assert score == pytest.approx(correlation[rows, columns].mean())
    assert 0 <= score <= 1
    assert mcc_code(x, z) == pytest.approx(score)
    order = torch.randperm(d_sae, generator=torch.Generator().manual_seed(seed))
    assert mcc_code(z[:, order] * (draw(1, d_sae, seed + 2).abs() + 0.01), x) == pytest.approx(
        score
    )


def test_chance_of_mcc_code_falls_with_the_sample() -> None:
    few, many = (mcc_code(draw(n, 20, 0), draw(n, 20, 1)) for n in (100, 10_000))
    assert few / many == pytest.approx(10, rel=0.2)


def test_classification_worked_by_hand() -> None:
    # Latent 0 follows feature 0: true, false, missed, and nothing. Latent 1 never fires.
    x = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 0], [1, 1]])
    z = torch.tensor([[2.0, 0], [1, 0], [0, 0], [0, 0], [1, 0]])
    found = classify_latents(z, x, torch.eye(2), torch.eye(2))
    assert found.feature.tolist() == [0, 1]
    assert found.precision.tolist() == pytest.approx([2 / 3, 0])
    assert found.recall.tolist() == pytest.approx([2 / 3, 0])
    assert found.f1.tolist() == pytest.approx([2 / 3, 0])


def test_what_never_occurs_is_detected_never() -> None:
    x, z = torch.tensor([[1.0, 0], [1, 0]]), torch.tensor([[1.0, 0], [1, 0]])
    found = classify_latents(z, x, torch.eye(2), torch.eye(2))
    for scores in (found.precision, found.recall, found.f1):
        assert scores.tolist() == [1, 0]


@given(n_features=sizes, d_sae=sizes, seed=seeds)
def test_classification_means_are_saelens(n_features: int, d_sae: int, seed: int) -> None:
    x, z = sparse(20, n_features, seed), sparse(20, d_sae, seed + 1)
    decoder, truth = draw(d_sae, 4, seed + 2), draw(n_features, 4, seed + 3)
    found = classify_latents(z, x, decoder, truth)
    expected = synthetic.compute_classification_metrics(z, x, decoder, truth)
    assert float(found.precision.mean()) == pytest.approx(expected.precision)
    assert float(found.recall.mean()) == pytest.approx(expected.recall)
    assert float(found.f1.mean()) == pytest.approx(expected.f1_score)


def test_counts_and_variance_worked_by_hand() -> None:
    assert l0(Z) == 1
    assert dead_latents(Z) == 1
    assert latent_variance(torch.tensor([[0.0, 3], [2, 3]])).tolist() == [1, 0]
