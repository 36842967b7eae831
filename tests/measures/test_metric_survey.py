"""How a metric is described, on second moments whose axes are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wsae_plugin.gamma.sensitivity import Sensitivity
from wsae_plugin.measures.metric_survey import _described

D_IN = 16


def rotation(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(D_IN, D_IN, generator=generator, dtype=torch.float64))[0]


def moments(of_x: Tensor, of_g: Tensor, is_centred: bool = False) -> Sensitivity:
    """Of x and g whose axes are the rows of two matrices, with shares over four decades."""
    generator = torch.Generator().manual_seed(0)
    x, g = torch.randn(2, 5000, D_IN, generator=generator, dtype=torch.float64)
    scale = torch.logspace(-1, 1, D_IN, dtype=torch.float64)
    x, g = 3 * of_x[-1] + (x * scale) @ of_x, (g * scale) @ of_g
    if is_centred:
        # As TransformerLens centres what is written to the residual stream, in its precision.
        x, g = (each.sub(each.mean(dim=1, keepdim=True)).float() for each in (x, g))
    found = Sensitivity.of_none(D_IN)
    found.add(x, g)
    return found


def test_axes_that_are_the_same_and_axes_that_are_not() -> None:
    same = moments(rotation(0), rotation(0))
    found = _described(same.fisher, same)
    assert found["alignment"] > 0.99
    # The mean lies along the last axis, the largest.
    assert found["mean_in_top"] == pytest.approx(1, abs=0.01)
    against = moments(rotation(0), rotation(0).flip(0))
    found = _described(against.fisher, against)
    assert found["alignment"] < -0.99
    assert found["mean_in_top"] < 0.01


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_direction_that_is_empty_in_both_aligns_nothing(seed: int) -> None:
    free, centred = (moments(rotation(0), rotation(seed), c) for c in (False, True))
    expected = _described(free.fisher, free)["alignment"]
    assert _described(centred.fisher, centred)["alignment"] == pytest.approx(expected, abs=0.3)
