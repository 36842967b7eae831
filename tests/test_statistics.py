"""Intervals, tests and the correction for many tests."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsae_plugin.statistics import (
    compare,
    holm,
    paired_p_value,
    resolution_of,
    rounded_cell,
    t_interval,
)


def test_holm_worked_by_hand() -> None:
    # sorted 0.01, 0.03, 0.04 times 3, 2, 1 = 0.03, 0.06, 0.04 → running maximum 0.03, 0.06, 0.06
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    assert max(adjusted) <= 1
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert [adjusted[i] for i in order] == sorted(adjusted)


def test_an_interval_by_hand() -> None:
    # mean 2, standard error 1/√3, Student's t of 2 degrees of freedom at 0.975 is 4.3027
    interval = t_interval([1.0, 2.0, 3.0])
    half = 4.3027 / 3**0.5
    assert (interval.low, interval.mean, interval.high) == pytest.approx(
        (2 - half, 2, 2 + half), rel=1e-4
    )
    # the step of the metric is larger than what the seeds scatter
    assert t_interval([1.0, 2.0, 3.0], resolution=5).high == pytest.approx(2 + 5 * half, rel=1e-4)


@pytest.mark.parametrize("n_seeds", [2, 3, 5, 8])
def test_the_interval_holds_the_mean_as_often_as_it_says(n_seeds: int) -> None:
    draw = np.random.default_rng(n_seeds).normal(size=(4000, n_seeds))
    intervals = [t_interval(values) for values in draw.tolist()]
    held = np.mean([interval.low <= 0 <= interval.high for interval in intervals])
    # 4000 draws: standard error 0.0034
    assert held == pytest.approx(0.95, abs=0.012)


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9),
    st.sampled_from([0.0, 1e-3, 10.0]),
)
def test_the_interval_and_the_test_agree(values: list[float], resolution: float) -> None:
    interval = t_interval(values, resolution)
    assert interval.low <= interval.mean <= interval.high
    p = paired_p_value(values, resolution)
    if abs(p - 0.05) > 1e-9 and interval.low < interval.high:
        assert (p < 0.05) == (interval.low * interval.high > 0)


def test_paired_p_values() -> None:
    assert paired_p_value([0.0, 0.0, 0.0]) == 1
    # t = 2/(1/√3) with 2 degrees of freedom
    assert paired_p_value([1.0, 2.0, 3.0]) == pytest.approx(0.0742, abs=1e-4)


def test_equal_differences_are_no_certainty() -> None:
    # Without a step, nothing says how far they scatter, rounding least of all.
    assert paired_p_value([2.0, 2.0, 2.0]) == 1
    assert paired_p_value([0.3 - 0.1, 0.2, 0.5 - 0.3]) == 1
    # With one: t = 2 √3 / 0.5, 2 degrees of freedom
    assert paired_p_value([1.0, 1.0, 1.0], resolution=1e-9) == 1  # no more than rounding
    assert paired_p_value([2.0, 2.0, 2.0], resolution=0.5) == pytest.approx(0.0203, abs=1e-4)


def test_the_resolution_is_the_smallest_step_that_is_no_rounding() -> None:
    assert resolution_of([0.75, 0.5, 0.625, 0.5 + 1e-12, 0.75]) == pytest.approx(0.125)
    assert resolution_of([0.1 + 0.2, 0.3, 0.3]) == 0
    assert resolution_of([]) == resolution_of([1.0]) == 0


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=20), st.floats(1e-3, 1e3))
def test_values_on_a_grid_have_a_resolution_of_steps(values: list[int], step: float) -> None:
    found = resolution_of(value * step for value in values) / step
    assert found == pytest.approx(round(found), abs=1e-6)
    assert (found > 0) == (len(set(values)) > 1)


def test_clear_needs_the_corrected_p_value() -> None:
    strong = [1.0, 1.1, 0.9, 1.05]
    weak = [1.0, -0.9, 0.8, -1.1]
    (one,) = compare([strong], [0])
    assert one["clear"] and one["p"] == one["p_holm"]
    first, second = compare([strong, weak], [0, 0])
    assert first["clear"] and not second["clear"]
    assert first["p_holm"] == pytest.approx(2 * first["p"])
    (coarse,) = compare([strong], [1.0])
    assert not coarse["clear"] and coarse["p"] > 0.05
    assert compare([], []) == []


def test_json_has_four_digits_and_booleans() -> None:
    cell = rounded_cell({"mean": -1.23456, "p": 1.23456e-7, "clear": True})
    assert json.dumps(cell) == '{"mean": -1.235, "p": 1.235e-07, "clear": true}'


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
@pytest.mark.parametrize("step", [0.0, 1.0, 2.0])
def test_a_family_is_seldom_wrong_where_nothing_differs(n_seeds: int, step: float) -> None:
    # A metric in steps of so many standard deviations, four arms, five metrics of that kind.
    draw = np.random.default_rng(n_seeds)
    wrong = 0
    for _ in range(300):
        values = draw.normal(size=(5, 5, n_seeds))
        if step:
            values = np.round(values / step) * step
        differences = (values[:, 1:] - values[:, :1]).reshape(-1, n_seeds).tolist()
        resolutions = [resolution_of(metric.ravel()) for metric in values for _ in range(4)]
        wrong += any(cell["clear"] for cell in compare(differences, resolutions))
    # Holm: at most 0.05; standard error 0.0126
    assert wrong / 300 <= 0.05 + 3 * 0.0126


def test_float32_rounding_is_no_step() -> None:
    """Means of the same shares, added in another order."""
    values = np.float32([0.8, 0.8000001, 0.8333333, 0.8333334, 0.9])
    assert resolution_of(map(float, values)) == pytest.approx(1 / 30, rel=1e-5)


def test_intervals_of_a_family_know_the_resolution() -> None:
    (cell,) = compare([[0.1, 0.1, 0.1]], [0.1])
    interval = t_interval([0.1, 0.1, 0.1], 0.1)
    assert (cell["low"], cell["high"]) == (interval.low, interval.high)
    assert cell["low"] < 0 < cell["high"]


def test_a_family_has_a_resolution_for_each_test() -> None:
    with pytest.raises(ValueError, match="zip"):
        compare([[1.0, 1.0], [2.0, 2.0]], [0.5])
