from __future__ import annotations

import numpy as np
import pytest
import torch

from wsae_plugin.toy.batched.activation import top_k
from wsae_plugin.toy.claims.search import (
    best_encoders,
    limit_loss,
    minimise,
    superposed_features,
    top_one_solutions,
)
from wsae_plugin.toy.claims.worlds import DIGON, PRINTED, TRIANGLE
from wsae_plugin.toy.theory import reconstruction_loss


def test_minimise_finds_the_minimum_and_sorts() -> None:
    # (m² − 4)² has minima 0 at ±2.
    found = minimise(lambda matrix: matrix**2 - 4, (1, 1), n_starts=4)
    assert [one.loss for one in found] == sorted(one.loss for one in found)
    assert found[0].loss < 1e-20
    assert abs(float(found[0].matrix)) == pytest.approx(2)


def test_the_search_minimises_the_loss_that_is_measured() -> None:
    gamma = torch.tensor([1.0, 3.0])
    chances = torch.tensor([0.5, 0.2, 0.3])
    best = best_encoders(PRINTED, 1, 10, gamma=gamma, probabilities=chances)[0]
    measured = reconstruction_loss(best.matrix, PRINTED, gamma=gamma, probabilities=chances)
    assert best.loss == pytest.approx(measured)
    # One latent takes the largest of 0.5·1, 0.2·9 and 0.3·9: the third feature.
    assert best.loss == pytest.approx(0.5 + 1.8)
    assert best.matrix.tolist()[0] == pytest.approx([0, -1], abs=1e-6)


def test_limit_loss_worked_by_hand() -> None:
    # W_m = 0 loses ‖p_u‖² = 1 for each of three features.
    assert limit_loss(torch.zeros(3, 2), PRINTED) == 3
    assert limit_loss(PRINTED, PRINTED) == 0
    # W_p = (2, −2): 2 − 2·4 = −6 and its mirror image.
    assert limit_loss(2 * DIGON, 2 * DIGON) == 72


def test_superposed_features_of_three_in_a_line() -> None:
    # L_Sup = 2 − 2s + s² for a² + b² = s, so 1 at its least, and the third is alone.
    vectors = superposed_features(3, 1)
    products = vectors @ vectors.T
    assert float((products.relu() - torch.eye(3)).square().sum()) == pytest.approx(1)


def test_top_one_has_the_orders_of_the_features_and_no_other_solution() -> None:
    solutions = top_one_solutions(TRIANGLE)
    assert len(solutions) == 6
    rows = {tuple(np.round(row, 9)) for encoder in solutions for row in encoder.numpy()}
    assert rows == {tuple(np.round(row, 9)) for row in TRIANGLE.numpy()}
    assert all(limit_loss(encoder, TRIANGLE, top_k(1)) < 1e-20 for encoder in solutions)


def test_two_equal_features_leave_a_latent_free() -> None:
    twins = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    solutions = top_one_solutions(twins)
    # Four assignments; where both answer one latent, the other is zero.
    assert len(solutions) == 4
    assert sum(bool((encoder == 0).all(dim=1).any()) for encoder in solutions) == 2
