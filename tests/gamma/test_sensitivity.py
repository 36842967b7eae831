"""Second moments of a user's own gradients and activations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma.metric import MetricName, rotated
from wsae_plugin.gamma.sensitivity import information_for, stated_as

GRADIENTS = torch.tensor([[3.0, 0.0], [1.0, 2.0]])
ACTIVATIONS = torch.tensor([[1.0, 5.0], [3.0, 5.0], [5.0, 8.0]])


def read(folder: Path, metric: MetricName, **tensors: Tensor) -> Tensor:
    save_file(tensors, folder / "f")
    found = information_for(metric, str(folder / "f"), d_in=2, seed=3)
    assert found is not None
    return found


def test_gradients_of_ones_own_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # (9, 0; 0, 0) and (1, 2; 2, 4), halved: about 0, and not about the mean.
    fisher = torch.tensor([[5.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    assert torch.equal(read(tmp_path, "fisher", gradients=GRADIENTS), fisher)
    half = GRADIENTS.to(torch.bfloat16)
    assert torch.equal(read(tmp_path, "fisher", gradients=half, activations=ACTIVATIONS), fisher)
    turned = read(tmp_path, "rotated_fisher", gradients=GRADIENTS)
    torch.testing.assert_close(turned, rotated(fisher, seed=3))
    covariance = read(tmp_path, "covariance", gradients=GRADIENTS, activations=ACTIVATIONS)
    torch.testing.assert_close(covariance, ACTIVATIONS.double().T.cov(correction=0))
    monkeypatch.setattr("wsae_plugin.gamma.sensitivity._ROWS_AT_ONCE", 1)
    assert torch.equal(read(tmp_path, "fisher", gradients=GRADIENTS), fisher)


@pytest.mark.parametrize(
    ("metric", "tensors", "said"),
    [
        ("fisher", {"gradients": torch.ones(4, 3)}, r"gradients of shape \(4, 3\): must be \(n, 2"),
        ("fisher", {"gradients": torch.ones(2)}, r"gradients of shape \(2,\): must be \(n, 2"),
        ("fisher", {"gradients": torch.ones(0, 2)}, "with one row or more"),
        ("fisher", {"gradients": GRADIENTS / 0}, "gradients hold NaN or infinity"),
        (
            "fisher",
            {"gradients": GRADIENTS, "activations": torch.ones(3, 1)},
            r"activations of shape \(3, 1\)",
        ),
        ("covariance", {"gradients": GRADIENTS}, "holds gradients alone; metric 'covariance'"),
        ("file", {"gradients": GRADIENTS}, "holds gradients; metric 'file' needs the one tensor"),
        ("fisher", {"activations": ACTIVATIONS}, "holds activations; .* it may hold gradients"),
        (
            "fisher",
            {"gradients": GRADIENTS, "gradient": GRADIENTS.clone()},
            "holds gradient, gradients; .* it may hold gradients",
        ),
    ],
)
def test_what_no_gradients_are(
    tmp_path: Path, metric: MetricName, tensors: dict[str, Tensor], said: str
) -> None:
    with pytest.raises(BadInputError, match=f"metric_file = .*{said}"):
        read(tmp_path, metric, **tensors)


def test_a_finished_metric_is_taken_as_what_it_is(tmp_path: Path) -> None:
    file = tmp_path / "metric.safetensors"
    matrix = torch.eye(2, dtype=torch.float64)
    save_file({"metric": matrix}, file, {"metric": stated_as("rotated_fisher", 7)})
    for metric, seed in (("rotated_fisher", 7), ("file", 0)):
        found = information_for(metric, str(file), d_in=2, seed=seed)  # type: ignore[arg-type]
        assert found is not None and torch.equal(found, matrix)
    for metric, seed in (("rotated_fisher", 6), ("fisher", 7), ("covariance", 7)):
        with pytest.raises(
            BadInputError, match="holds the finished metric rotated_fisher of gamma"
        ):
            information_for(metric, str(file), d_in=2, seed=seed)  # type: ignore[arg-type]
    save_file({"metric": matrix}, file)
    with pytest.raises(BadInputError, match="holds the finished metric file, and metric is fisher"):
        information_for("fisher", str(file), d_in=2, seed=0)
