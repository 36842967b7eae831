from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from wsae_plugin.saes.gba_rule import adapted_bias, groups_of_latents, target_frequencies


def test_targets_are_geometric() -> None:
    expected = torch.tensor([0.5, 0.05, 0.005], dtype=torch.float64)
    torch.testing.assert_close(target_frequencies(3, 0.5, 0.005), expected)


def test_one_group_aims_for_the_highest() -> None:
    assert target_frequencies(1, 0.2, 0.001).tolist() == [0.2]


def test_groups_are_neighbours_of_equal_size() -> None:
    assert groups_of_latents(6, 3).tolist() == [0, 0, 1, 1, 2, 2]
    assert groups_of_latents(7, 3).tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert groups_of_latents(3, 3).tolist() == [0, 1, 2]


def update(
    bias: list[float],
    firings: list[int],
    largest: list[float],
    groups: list[int],
    targets: list[float],
    n_samples: int = 100,
    lowest: float = -1.0,
    step_size: float = 0.1,
) -> Tensor:
    return adapted_bias(
        torch.tensor(bias),
        torch.tensor(firings),
        torch.tensor(n_samples),
        torch.tensor(largest),
        torch.tensor(groups),
        torch.tensor(targets),
        step_size,
        torch.tensor(lowest),
    )


def test_by_hand() -> None:
    new = update(
        #     above   dead   between  at target  above, other group
        bias=[-0.5, -0.5, -0.5, -0.5, -0.2],
        firings=[21, 0, 1, 20, 6],
        largest=[1.5, 0.4, 0.6, 3.0, 2.2],
        groups=[0, 0, 0, 0, 1],
        targets=[0.2, 0.05],
    )
    # r = 1.0, 0, 0.1, 2.5, 2.0; the mean of the positive ones in group 0 is 1.2.
    torch.testing.assert_close(new, torch.tensor([-0.6, -0.38, -0.5, -0.5, -0.4]))


def test_limits() -> None:
    new = update([-0.95, -0.05], [50, 0], [3.0, 0.0], [0, 0], [0.1])
    assert new.tolist() == [-1.0, 0.0]


def test_a_group_that_is_dead_whole_stays() -> None:
    assert update([-0.5, -0.25], [0, 0], [0.1, 0.2], [0, 0], [0.1]).tolist() == [-0.5, -0.25]


latents = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        st.lists(st.floats(-1, 0, width=32), min_size=n, max_size=n),
        st.lists(st.integers(0, 100), min_size=n, max_size=n),
        st.lists(st.floats(-2, 5, width=32), min_size=n, max_size=n),
        st.integers(1, n),
    )
)


@given(latents)
def test_stays_in_range_and_moves_the_right_way(drawn: tuple[list[float], ...]) -> None:
    bias, firings, largest, n_groups = drawn
    groups = groups_of_latents(len(bias), n_groups).tolist()  # type: ignore[arg-type]
    targets = target_frequencies(n_groups, 0.5, 0.01).float().tolist()  # type: ignore[arg-type]
    new = update(bias, firings, largest, groups, targets)  # type: ignore[arg-type]
    old = torch.tensor(bias)
    assert ((new >= -1) & (new <= 0)).all()
    for b, b_new, fired, group in zip(old, new, firings, groups, strict=True):
        if fired > targets[group] * 100:
            assert b_new <= b
        elif fired == 0:
            assert b_new >= b
        else:
            assert b_new == b


@given(latents, st.sampled_from([0.125, 4.0]))
def test_follows_the_units(drawn: tuple[list[float], ...], unit: float) -> None:
    bias, firings, largest, _ = drawn
    args = ([0] * len(bias), [0.3])
    new = update(bias, firings, largest, *args)  # type: ignore[arg-type]
    scaled = update(
        [b * unit for b in bias],
        firings,  # type: ignore[arg-type]
        [y * unit for y in largest],
        *args,
        lowest=-unit,
    )
    torch.testing.assert_close(scaled, new * unit, rtol=1e-5, atol=1e-37)


@pytest.mark.parametrize("step_size", [0.01, 1.0])
def test_a_latent_keeps_firing_however_large_the_step(step_size: float) -> None:
    # r is how far the bias could fall before the latent stops: a share of it never gets there.
    new = update([0.0], [100], [0.5], [0], [0.1], step_size=step_size)
    assert new.item() >= -0.5
