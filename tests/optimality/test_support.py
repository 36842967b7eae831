"""Supports found by swaps against all that there are."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
import torch
from scipy.optimize import nnls
from torch import Tensor

from tests.optimality.test_lasso import alike, problem
from wsae_plugin.errors import BadInputError
from wsae_plugin.optimality import best_support, lasso, nonnegative_lasso, support
from wsae_plugin.optimality.support import Support

NONE = torch.full((30, 0), -1)


def every(n: int, m: int) -> Tensor:
    return torch.arange(m).repeat(n, 1)


def least(x: Tensor, atoms: Tensor, k: int) -> Tensor:
    """The squared error of the best support of all."""
    errors = [
        min(
            nnls(atoms[list(chosen)].T.numpy(), sample.numpy())[1] ** 2
            for chosen in combinations(range(len(atoms)), k)
        )
        for sample in x
    ]
    return torch.tensor(errors, dtype=torch.float64)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_it_finds_nearly_always_what_is_best(k: int) -> None:
    x, atoms = problem(30, 8, 10, seed=k)
    best = least(x, atoms, k)
    start = nonnegative_lasso(x, atoms, 0.05).latents[:, :k]
    found = best_support(x, atoms, k, start, every(30, 10))
    assert (found.squared_error >= best - 1e-9).all()
    assert ((found.squared_error - best) < 1e-9).double().mean() > 0.8
    z = torch.zeros(30, 11, dtype=torch.float64).scatter_(1, found.latents % 11, found.values)
    torch.testing.assert_close((x - z[:, :10] @ atoms).square().sum(dim=1), found.squared_error)
    assert ((found.latents >= 0).sum(dim=1) <= k).all() and (found.values >= 0).all()


def test_it_is_no_worse_than_where_it_starts() -> None:
    x, atoms = problem(30, 8, 40)
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(30, 40, generator=generator).argsort(dim=1)[:, :4]
    by_start = best_support(x, atoms, 4, start, NONE)
    for sample, row, error in zip(x, start, by_start.squared_error, strict=True):
        expected = nnls(atoms[row].T.numpy(), sample.numpy())[1] ** 2
        assert float(error) == pytest.approx(expected)
    swapped = best_support(x, atoms, 4, start, every(30, 40))
    assert (swapped.squared_error <= by_start.squared_error + 1e-12).all()
    assert (swapped.squared_error < 0.7 * by_start.squared_error).double().mean() > 0.5


def test_atoms_that_are_alike_are_no_obstacle() -> None:
    x, atoms = problem(30, 6, 12)[0], alike(6)
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(30, 60, generator=generator).argsort(dim=1)[:, :20]
    start[0] = torch.cat([torch.arange(10), torch.arange(12, 22)])
    found = best_support(x, atoms, 20, start, NONE)
    for sample, row, error in zip(x, start, found.squared_error, strict=True):
        assert float(error) <= nnls(atoms[row].T.numpy(), sample.numpy())[1] ** 2 + 1e-9
    assert torch.equal(found.latents >= 0, found.values > 0)


def test_atoms_named_twice_or_of_no_length_count_once_or_never() -> None:
    x, atoms = problem(30, 8, 10)
    atoms[9] = 0
    odd = torch.tensor([[2, 2, 9]]).repeat(30, 1)
    found = best_support(x, atoms, 1, odd, odd)
    expected = x.square().sum(dim=1) - (x @ atoms[2]).clamp(min=0).square()
    torch.testing.assert_close(found.squared_error, expected)
    assert not (found.latents == 9).any()


def test_nothing_to_choose_from_leaves_everything() -> None:
    x, atoms = problem(30, 8, 10)
    torch.testing.assert_close(
        best_support(x, atoms, 2, NONE, NONE).squared_error, x.square().sum(dim=1)
    )


@pytest.mark.parametrize("k", [-1, 1.5, torch.ones(3).long(), torch.full((30,), -1)])
def test_a_k_that_is_none_is_refused(k: Any) -> None:
    with pytest.raises(BadInputError, match=r"k is \[.*; give a number from 0, or 30 of"):
        best_support(*problem(30, 8, 10), k, NONE, NONE)


def test_candidates_that_there_are_not_are_refused() -> None:
    x, atoms = problem(30, 8, 10)
    with pytest.raises(BadInputError, match="candidates has numbers from 0 to 10"):
        best_support(x, atoms, 2, NONE, every(30, 11))
    with pytest.raises(BadInputError, match="atoms: number 0 has length 2"):
        best_support(x, 2 * atoms, 2, NONE, NONE)


def test_a_wide_pool_is_held_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lasso, "_CHUNK_BYTES", 100_000)
    sizes: list[int] = []

    def spied(x: Tensor, *args: Tensor) -> Support:
        sizes.append(len(x))
        return of_all(x, *args)

    of_all = support._search
    monkeypatch.setattr(support, "_search", spied)
    x, atoms = problem(30, 8, 40)
    best_support(x, atoms, 10, every(30, 10), every(30, 40)[:, 10:30])
    # 8 · 30 · (8 + 3 · 30) bytes each
    assert sizes == [4] * 7 + [2]


def test_from_nothing_it_fills_up() -> None:
    x, atoms = problem(30, 16, 40)
    greedy = best_support(x, atoms, 4, NONE, every(30, 40))
    one = best_support(x, atoms, 1, NONE, every(30, 40))
    assert (greedy.squared_error <= one.squared_error + 1e-12).all()
    correlations = (x @ atoms.T).amax(dim=1).clamp(min=0)
    assert (one.squared_error <= x.square().sum(dim=1) - correlations.square() + 1e-9).all()


def test_a_planted_support_is_found() -> None:
    _, atoms = problem(1, 32, 60)
    generator = torch.Generator().manual_seed(0)
    planted = torch.rand(30, 60, generator=generator).argsort(dim=1)[:, :3]
    codes = 1 + torch.rand(30, 3, 1, generator=generator, dtype=torch.float64)
    x = (codes * atoms[planted]).sum(dim=1)
    found = best_support(x, atoms, 3, NONE, every(30, 60))
    same = (found.latents.sort(dim=1).values == planted.sort(dim=1).values).all(dim=1)
    assert same.double().mean() > 0.8
    assert float(found.squared_error[same].max()) < 1e-9


def test_it_goes_on_while_a_swap_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    x, atoms = problem(30, 32, 60)
    found = best_support(x, atoms, 12, NONE, every(30, 60))
    assert ((found.latents >= 0).sum(dim=1) == 12).double().mean() > 0.8
    monkeypatch.setattr(support, "_MOST_SWAPS", 3)
    fewer = best_support(x, atoms, 12, NONE, every(30, 60))
    assert (fewer.squared_error > found.squared_error + 1e-9).all()


def test_every_sample_may_have_a_k_of_its_own() -> None:
    x, atoms = problem(30, 8, 10)
    k = torch.arange(30) % 4
    found = best_support(x, atoms, k, NONE, every(30, 10))
    assert found.latents.shape == found.values.shape == (30, 3)
    for n in (0, 1, 2, 3):
        of = k == n
        alone = best_support(x[of], atoms, n, NONE[of], every(30, 10)[of])
        torch.testing.assert_close(found.squared_error[of], alone.squared_error)
        assert ((found.values[of] > 0).sum(dim=1) <= n).all()


def test_a_start_of_more_than_k_is_refused() -> None:
    x, atoms = problem(30, 8, 10)
    with pytest.raises(BadInputError, match="start has more atoms than k"):
        best_support(x, atoms, 2, every(30, 10)[:, :3], every(30, 10))


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, atoms = problem(9, 8, 10)
    start = torch.arange(9).unsqueeze(1)
    expected = best_support(x, atoms, 3, start, every(9, 10))
    monkeypatch.setattr(lasso, "_CHUNK_BYTES", 1)
    found = best_support(x, atoms, 3, start, every(9, 10))
    torch.testing.assert_close(found.squared_error, expected.squared_error)
    alone = best_support(x, atoms, 1, start, torch.full((9, 0), -1))
    by_start = x.square().sum(1) - (x * atoms[:9]).sum(1).clamp(min=0).square()
    torch.testing.assert_close(alone.squared_error, by_start)
