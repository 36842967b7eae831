"""Intervals, tests and the correction for many cells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsae_plugin.statistics import bootstrap_interval, compare, holm, paired_p_value


def test_holm_worked_by_hand() -> None:
    # sorted 0.01, 0.03, 0.04 times 3, 2, 1 = 0.03, 0.06, 0.04 → running maximum 0.03, 0.06, 0.06
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1, 1]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    assert max(adjusted) <= 1
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert [adjusted[i] for i in order] == sorted(adjusted)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9))
def test_an_interval_holds_its_mean_and_repeats(values: list[float]) -> None:
    interval = bootstrap_interval(values)
    slack = 1e-9 * (1 + max(map(abs, values)))
    assert min(values) - slack <= interval.low <= interval.mean + slack
    assert interval.mean <= interval.high + slack
    assert bootstrap_interval(values) == interval


def test_paired_p_values() -> None:
    assert paired_p_value([0.0, 0.0, 0.0]) == 1
    assert paired_p_value([2.0, 2.0, 2.0]) == 0
    # t = 2/(1/√3) with 2 degrees of freedom
    assert paired_p_value([1.0, 2.0, 3.0]) == pytest.approx(0.0742, abs=1e-4)


def test_clear_needs_the_corrected_p_value_and_the_interval() -> None:
    strong = [1.0, 1.1, 0.9, 1.05]
    weak = [1.0, -0.9, 0.8, -1.1]
    (one,) = compare([strong])
    assert one["clear"] and one["p"] == one["p_holm"]
    first, second = compare([strong, weak])
    assert first["clear"] and not second["clear"]
    assert first["p_holm"] == pytest.approx(2 * first["p"])
