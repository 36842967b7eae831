"""The metric as pure functions, worked by hand where it can be."""

from __future__ import annotations

import pytest
import torch

from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma.metric import (
    directions_that_hold,
    metric_from,
    rotated,
    square_roots,
)

INFORMATION = torch.tensor([[3.0, 1.0], [1.0, 1.0]], dtype=torch.float64)


def test_a_metric_by_hand() -> None:
    # Trace 4, two dimensions: F̄ · 2/4 = [[1.5, .5], [.5, .5]]; with ε = 1, plus I, halved.
    expected = torch.tensor([[1.25, 0.25], [0.25, 0.75]], dtype=torch.float64)
    torch.testing.assert_close(metric_from(INFORMATION, ridge=1.0), expected)
    torch.testing.assert_close(metric_from(1000 * INFORMATION, ridge=1.0), expected)


@pytest.mark.parametrize("ridge", [0.0, 0.3, 1.0, 100.0])
def test_a_metric_has_the_trace_of_the_ordinary_loss(ridge: float) -> None:
    metric = metric_from(INFORMATION, ridge)
    assert float(metric.trace()) == pytest.approx(2)
    smallest = float(torch.linalg.eigvalsh(metric)[0])
    assert smallest >= ridge / (1 + ridge) - 1e-12


def test_the_roots_of_a_metric() -> None:
    metric = metric_from(INFORMATION)
    root, inverse = square_roots(metric)
    torch.testing.assert_close(root @ root, metric)
    torch.testing.assert_close(root @ inverse, torch.eye(2, dtype=torch.float64))
    delta = torch.tensor([2.0, -1.0], dtype=torch.float64)
    assert float((delta @ root).square().sum()) == pytest.approx(float(delta @ metric @ delta))


def test_a_rotation_keeps_the_eigenvalues_and_forgets_the_directions() -> None:
    matrix = torch.diag(torch.tensor([5.0, 2.0, 1.0, 0.0], dtype=torch.float64))
    turned = rotated(matrix, seed=1)
    torch.testing.assert_close(torch.linalg.eigvalsh(turned), torch.linalg.eigvalsh(matrix))
    torch.testing.assert_close(rotated(matrix, seed=1), turned)
    assert not torch.allclose(rotated(matrix, seed=2), turned)
    # Uniform over rotations: on average every direction has the mean eigenvalue.
    mean = torch.stack([rotated(matrix, seed) for seed in range(4000)]).mean(dim=0)
    torch.testing.assert_close(mean, 2 * torch.eye(4, dtype=torch.float64), atol=0.1, rtol=0)


def test_how_many_directions_hold_half() -> None:
    assert directions_that_hold(torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0]))) == 2
    assert directions_that_hold(torch.diag(torch.tensor([1.0, 1.0, 1.0, 1.0])), 0.5) == 2
    assert directions_that_hold(torch.diag(torch.tensor([9.0, 1.0]))) == 1


@pytest.mark.parametrize(
    ("matrix", "ridge", "said"),
    [
        (torch.ones(2, 3), 1.0, r"shape \(2, 3\): must be square"),
        (torch.tensor([[1.0, float("nan")], [0.0, 1.0]]), 1.0, "NaN"),
        (torch.tensor([[1.0, 2.0], [0.0, 1.0]]), 1.0, "not symmetric"),
        (torch.zeros(2, 2), 1.0, "no direction matters"),
        (torch.eye(2), -0.1, "metric_ridge = -0.1"),
        (torch.eye(2), float("nan"), "metric_ridge = nan"),
    ],
)
def test_what_is_no_metric(matrix: torch.Tensor, ridge: float, said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        metric_from(matrix, ridge)


def test_a_direction_without_weight_is_refused() -> None:
    singular = metric_from(torch.diag(torch.tensor([1.0, 0.0])), ridge=0.0)
    with pytest.raises(BadInputError, match="smallest eigenvalue of the metric is 0.*metric_ridge"):
        square_roots(singular)
    with pytest.raises(BadInputError, match="smallest eigenvalue of the metric is -"):
        square_roots(torch.diag(torch.tensor([1.0, -0.5], dtype=torch.float64)))
