"""What a metric can gain at a rate."""

from __future__ import annotations

from math import comb, log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rate_distortion import best_error, nats_of_choice, predicted_change
from torch import Tensor


def positive(seed: int, d: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(2 * d, d, generator=generator, dtype=torch.float64)
    return rows.T @ (rows * torch.rand(2 * d, 1, generator=generator).double().pow(3))


def test_nats_of_choice() -> None:
    assert nats_of_choice(512, 32) == pytest.approx(log(comb(512, 32)), rel=1e-12)
    assert nats_of_choice(7, 0) == pytest.approx(0, abs=1e-12)


def test_reverse_water_filling_by_hand() -> None:
    covariance = torch.diag(torch.tensor([1.6, 0.4, 0.1], dtype=torch.float64))
    # ½ ln(1.6/0.4): all of it is spent on the first.
    expected = torch.diag(torch.tensor([0.4, 0.4, 0.1], dtype=torch.float64))
    exactly: dict[str, float] = {"rtol": 1e-13, "atol": 0}
    torch.testing.assert_close(best_error(covariance, log(2)), expected, **exactly)
    # ½ ln(1.6/0.1) + ½ ln(0.4/0.1).
    tenths = torch.eye(3).double() / 10
    torch.testing.assert_close(best_error(covariance, log(4) + log(2)), tenths, **exactly)
    torch.testing.assert_close(best_error(covariance, 0.0), covariance, **exactly)
    # Beyond, all of them alike: half of it for 3 · ½ ln 4.
    nats = log(8) + 1.5 * log(4)
    torch.testing.assert_close(best_error(covariance, nats), tenths / 4, **exactly)


def test_a_metric_by_hand() -> None:
    # Two directions of variance 4, of which one costs 9 times as much; the ridge is 0.
    information = torch.diag(torch.tensor([1.8, 0.2]).double())
    covariance = 4 * torch.eye(2).double()
    # As it is: both to 2 with ln 2 nats. Under the metric: 7.2 and 0.8, all of ln 2 for the first:
    # 7.2 / 4 = 1.8, and 1.8 + 0.8 in place of 2 · (1.8 + 0.2).
    found = predicted_change(information, covariance, log(2), ridge=0.0)
    assert found == pytest.approx(2.6 / 4 - 1)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.integers(2, 6), st.floats(0.01, 20), st.floats(0, 5))
def test_a_metric_never_costs_what_it_weighs(seed: int, d: int, nats: float, ridge: float) -> None:
    information, covariance = positive(seed, d), positive(seed + 1, d)
    assert predicted_change(information, covariance, nats, ridge) <= 1e-7
    same = predicted_change(torch.eye(d), covariance, nats, ridge)
    assert same == pytest.approx(0, abs=1e-7)


def test_a_singular_covariance_is_no_obstacle() -> None:
    covariance = positive(0, 4)
    covariance[3], covariance[:, 3] = 0.0, 0.0
    assert -1 < predicted_change(positive(1, 4), covariance, 2.0) < 0
