"""Optimal codes against scikit-learn's, by hand, and by what the theory says of any optimum."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import SparseCoder
from torch import Tensor

from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.optimality import Coded, lasso
from wsae_plugin.optimality.lasso import Codes, choice, nonnegative_lasso, nonnegative_quadratic


def problem(n: int, d: int, m: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Samples of a few atoms each and noise, and unit atoms."""
    generator = torch.Generator().manual_seed(seed)
    atoms = torch.randn(m, d, generator=generator, dtype=torch.float64)
    atoms /= atoms.norm(dim=1, keepdim=True)
    codes = torch.rand(n, m, generator=generator).double()
    codes *= torch.rand(n, m, generator=generator) < 4 / m
    noise = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return codes @ atoms + 0.05 * noise, atoms


def dense(codes: Codes, m: int) -> Tensor:
    """The codes, shape (n, m)."""
    return Coded(codes.values, torch.zeros(m, 1), codes.latents, codes.values).sparse().to_dense()


def objective(x: Tensor, atoms: Tensor, z: Tensor, penalty: float) -> Tensor:
    return (x - z @ atoms).square().sum(dim=1) / 2 + penalty * z.sum(dim=1)


@pytest.mark.parametrize(("d", "m", "penalty"), [(16, 8, 0.05), (16, 64, 0.1), (32, 200, 0.02)])
def test_it_is_what_scikit_learn_finds(d: int, m: int, penalty: float) -> None:
    x, atoms = problem(60, d, m)
    found = nonnegative_lasso(x, atoms, penalty, tolerance=1e-9)
    coder = SparseCoder(
        atoms.numpy(),
        transform_algorithm="lasso_cd",
        transform_alpha=penalty,
        positive_code=True,
        transform_max_iter=100_000,
    )
    theirs = torch.from_numpy(coder.transform(x.numpy()))
    z = dense(found, m)
    torch.testing.assert_close(found.objective, objective(x, atoms, z, penalty))
    # No worse than theirs, and no better than the gap of neither allows.
    assert (found.objective <= objective(x, atoms, theirs, penalty) + 1e-12).all()
    torch.testing.assert_close(z, theirs, atol=1e-4, rtol=0)


def test_orthogonal_atoms_are_thresholded() -> None:
    x = torch.tensor([[3.0, 0.5, -2.0], [0.2, 0.1, 0.0], [0.0, 0.0, 0.0]])
    found = nonnegative_lasso(x, torch.eye(3), 0.4)
    expected = torch.tensor([[2.6, 0.1, 0], [0, 0, 0], [0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(dense(found, 3), expected, atol=1e-6, rtol=0)
    # ½(0.16 + 0.16 + 4) + 0.4 · 2.7, and half the squared length where nothing is active.
    by_hand = torch.tensor([3.24, 0.025, 0.0], dtype=torch.float64)
    torch.testing.assert_close(found.objective, by_hand, atol=1e-6, rtol=0)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.floats(0.01, 0.5), st.integers(2, 40))
def test_an_optimum_is_what_theory_says(seed: int, penalty: float, m: int) -> None:
    """T1 and T4 of any optimum of nonnegative dictionary learning."""
    x, atoms = problem(10, 12, m, seed)
    found = nonnegative_lasso(x, atoms, penalty, tolerance=1e-9)
    z = dense(found, m)
    residual = x - z @ atoms
    correlations = residual @ atoms.T
    assert (correlations <= penalty * (1 + 1e-6)).all()
    active = z > 1e-9
    assert ((correlations - penalty).abs()[active] < 1e-6).all()
    reconstructed = ((z @ atoms) * residual).sum(dim=1)
    torch.testing.assert_close(reconstructed, penalty * z.sum(dim=1), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("start", ["right", "wrong", "all"])
def test_where_it_starts_changes_nothing(start: str) -> None:
    x, atoms = problem(50, 16, 64)
    cold = nonnegative_lasso(x, atoms, 0.1, tolerance=1e-9)
    generator = torch.Generator().manual_seed(1)
    begin = {
        "right": cold.latents,
        "wrong": torch.rand(50, 64, generator=generator).argsort(dim=1)[:, :5],
        "all": torch.arange(64).repeat(50, 1),
    }[start]
    begin = begin.clone()
    begin[::2] = -1
    warm = nonnegative_lasso(x, atoms, 0.1, begin, tolerance=1e-9)
    torch.testing.assert_close(dense(warm, 64), dense(cold, 64), atol=1e-6, rtol=0)


def test_the_gap_bounds_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, atoms = problem(80, 16, 200)
    best = nonnegative_lasso(x, atoms, 0.05, tolerance=1e-9).objective
    monkeypatch.setattr(lasso, "_N_ADDED", 1)
    monkeypatch.setattr(lasso, "_NEAR", math.inf)
    rough = nonnegative_lasso(x, atoms, 0.05, tolerance=0.2)
    missing = (rough.objective - best) / rough.objective
    assert missing.max() > 1e-3
    assert (missing <= rough.gap + 1e-12).all()
    assert (rough.gap <= 0.2).all()


@pytest.mark.parametrize("n_bytes", [1, 2**28])
def test_chunks_change_nothing(n_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, atoms = problem(9, 16, 64)
    expected = dense(nonnegative_lasso(x, atoms, 0.1, tolerance=1e-9), 64)
    monkeypatch.setattr(lasso, "_CHUNK_BYTES", n_bytes)
    found = dense(nonnegative_lasso(x, atoms, 0.1, tolerance=1e-9), 64)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)
    monkeypatch.setattr(lasso, "_CHUNK_BYTES", 3 * 8 * 64)
    assert lasso.rows_a_chunk(64) == 3


def test_equal_atoms_share_a_code() -> None:
    atoms = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = nonnegative_lasso(torch.tensor([[2.0, 0.0]]), atoms, 0.5)
    z = dense(found, 3)[0]
    assert float(z[:2].sum()) == pytest.approx(1.5, abs=1e-6)
    assert found.gap.max() < lasso.TOLERANCE


def test_a_gap_that_stays_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    x, atoms = problem(20, 16, 64)
    monkeypatch.setattr(lasso, "_MOST_ROUNDS", 1)
    monkeypatch.setattr(lasso, "_N_ADDED", 1)
    with pytest.raises(RunFailedError, match="20 samples stays above 1e-06 of the objective; give"):
        nonnegative_lasso(x, atoms, 0.01)


def test_a_quadratic_programme_by_hand() -> None:
    # Unconstrained (−1, 1.5): the first is held at 0, and the second is alone.
    gram = torch.tensor([[[2.0, 1.0], [1.0, 2.0]]], dtype=torch.float64)
    linear = torch.tensor([[-0.5, 2.0]], dtype=torch.float64)
    for positive in ([True, True], [True, False], [False, False]):
        z = nonnegative_quadratic(gram, linear, torch.tensor([positive]))
        assert z.tolist() == [[0.0, pytest.approx(1.0)]]


def test_where_pivots_find_no_end_scipy_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    x, atoms = problem(40, 8, 60)
    expected = nonnegative_lasso(x, atoms, 0.05, tolerance=1e-9).objective
    monkeypatch.setattr(lasso, "_MOST_PIVOTS", 0)
    found = nonnegative_lasso(x, atoms, 0.05)
    assert (found.gap <= lasso.TOLERANCE).all()
    torch.testing.assert_close(found.objective, expected, rtol=2e-6, atol=0)


def test_more_atoms_than_dimensions_with_hardly_a_penalty() -> None:
    """Gram matrices are then as good as singular."""
    x, atoms = problem(30, 8, 60)
    found = nonnegative_lasso(x, atoms, 1e-4)
    assert (found.gap <= lasso.TOLERANCE).all()
    assert float(found.objective.max()) < 1e-4 * float(x.norm(dim=1).max()) * 3


@pytest.mark.parametrize("penalty", [1e-2, 1e-3, 1e-4])
def test_a_residual_far_above_the_penalty_is_no_obstacle(penalty: float) -> None:
    """float32 errs by more than the penalty's 1e-4 then."""
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(64, 256, generator=generator).double()
    atoms /= atoms.norm(dim=1, keepdim=True)
    x = torch.randn(20, 256, generator=generator).double()
    assert nonnegative_lasso(x, atoms, penalty).gap.max() <= lasso.TOLERANCE


def far_off(n: int, mean: float) -> tuple[Tensor, Tensor]:
    """Samples that are nearly all mean, and eight times as many atoms as dimensions."""
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(512, 64, generator=generator).double()
    x = mean + torch.randn(n, 64, generator=generator).double()
    return x, atoms / atoms.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("penalty", [1e-2, 1e-4])
@pytest.mark.parametrize("is_free", [False, True])
def test_a_large_mean_is_no_obstacle(penalty: float, is_free: bool) -> None:
    x, atoms = far_off(4, 100)
    if is_free:
        atoms -= atoms.mean(dim=1, keepdim=True)
        atoms /= atoms.norm(dim=1, keepdim=True)
    assert nonnegative_lasso(x, atoms, penalty).gap.max() <= lasso.TOLERANCE


def test_what_rounding_forbids_ends_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lasso, "_MOST_ROUNDS", 1000)
    sizes: list[int] = []

    def counted(active: Tensor, *args: Any) -> Tensor:
        sizes.append(len(active))
        return of_all(active, *args)

    of_all = lasso._with_most_violated
    monkeypatch.setattr(lasso, "_with_most_violated", counted)
    with pytest.raises(RunFailedError, match="give a larger penalty than 1e-06, or x with its mea"):
        nonnegative_lasso(*far_off(4, 1e4), 1e-6)
    assert len(sizes) < 100


def test_what_exceeds_the_penalty_by_less_than_float32_tells_is_added() -> None:
    x = torch.tensor([[5.0, 0.1 * (1 + 1e-8)]], dtype=torch.float64)
    found = nonnegative_lasso(x, torch.eye(2), 0.1, torch.tensor([[0]]), tolerance=1e-10)
    assert found.values[0, 1].item() == pytest.approx(1e-9)


def test_units_change_nothing() -> None:
    x, atoms = problem(20, 16, 64)
    expected = nonnegative_lasso(x, atoms, 0.1)
    for unit in (1e-12, 1e12):
        found = nonnegative_lasso(unit * x, atoms, unit * 0.1)
        torch.testing.assert_close(found.values / unit, expected.values, atol=1e-6, rtol=0)
        assert torch.equal(found.latents >= 0, found.values > 0)


def alike(d: int) -> Tensor:
    """Ten times as many atoms as dimensions: all of them twice and reversed, and of every pair what
    lies between."""
    atoms = problem(1, d, 2 * d)[1]
    between = atoms + atoms.roll(1, dims=0)
    between /= between.norm(dim=1, keepdim=True)
    return torch.cat([atoms, atoms, -atoms, between, between])


@pytest.mark.parametrize("penalty", [0.3, 1e-2, 1e-4])
def test_atoms_that_are_alike_are_no_obstacle(penalty: float) -> None:
    x, atoms = problem(30, 6, 12)[0], alike(6)
    found = nonnegative_lasso(x, atoms, penalty, torch.arange(60).repeat(30, 1))
    assert (found.gap <= lasso.TOLERANCE).all()
    torch.testing.assert_close(found.objective, objective(x, atoms, dense(found, 60), penalty))
    # Copies and what lies between are no help.
    fewer = nonnegative_lasso(x, torch.cat([atoms[:12], atoms[24:48]]), penalty)
    torch.testing.assert_close(found.objective, fewer.objective, rtol=2e-6, atol=0)


@pytest.mark.parametrize(("shift", "n_pivots"), [(0, 10), (1e-12, 0)])
def test_matrices_that_rounding_made_indefinite(
    shift: float, n_pivots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lasso, "_MOST_PIVOTS", n_pivots)
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(20, 6, 3, generator=generator).double()
    atoms /= atoms.norm(dim=2, keepdim=True)
    gram = atoms @ atoms.mT - shift * torch.eye(6).double()
    linear = (atoms @ torch.randn(20, 3, 1, generator=generator).double()).squeeze(2) - 0.01
    z = nonnegative_quadratic(gram, linear, torch.ones(20, 6) > 0)
    gradient = (gram @ z.unsqueeze(2)).squeeze(2) - linear
    assert (z >= 0).all() and (gradient > -1e-7).all() and (gradient * z).abs().max() < 1e-7


def test_scipy_that_finds_no_end_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(*_: Any, **__: Any) -> None:
        raise RuntimeError("Maximum number of iterations reached.")

    monkeypatch.setattr(lasso, "nnls", endless)
    monkeypatch.setattr(lasso, "_MOST_PIVOTS", 0)
    with pytest.raises(RunFailedError, match=r"iterations reached\. give a larger penalty"):
        nonnegative_lasso(*problem(3, 8, 10), 0.1)


def test_an_atom_named_twice_is_one() -> None:
    x, atoms = problem(10, 8, 10)
    twice = torch.tensor([[3, -1, 3, 7, 3]]).repeat(10, 1)
    found = nonnegative_lasso(x, atoms, 0.1, twice.int())
    torch.testing.assert_close(dense(found, 10), dense(nonnegative_lasso(x, atoms, 0.1), 10))
    assert choice("start", twice, x, atoms).tolist() == [[7, 3]] * 10


def test_an_atom_of_no_length_is_never_active() -> None:
    x, atoms = problem(10, 8, 10)
    atoms[4] = 0
    found = nonnegative_lasso(x, atoms, 0.1, torch.arange(10).repeat(10, 1))
    assert not (found.latents == 4).any()
    without = torch.cat([atoms[:4], atoms[5:]])
    torch.testing.assert_close(found.objective, nonnegative_lasso(x, without, 0.1).objective)
    assert choice("start", torch.tensor([[4, 2]]), x[:1], atoms).tolist() == [[2]]


def test_a_wide_start_is_held_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lasso, "_CHUNK_BYTES", 100_000)
    sizes: list[int] = []

    def spied(gram: Tensor, *args: Tensor) -> Tensor:
        n, a, _ = gram.shape
        sizes.append(8 * n * a * (16 + 3 * a))
        return nonnegative_quadratic(gram, *args)

    monkeypatch.setattr(lasso, "nonnegative_quadratic", spied)
    x, atoms = problem(20, 16, 40)
    nonnegative_lasso(x, atoms, 0.1, torch.arange(40).repeat(20, 1))
    # One sample takes 43,520 bytes at first.
    assert sizes[0] == 2 * 43_520
    assert max(sizes) <= 100_000


@pytest.mark.parametrize("tolerance", [0.0, 1e-12, 1.0, math.nan])
def test_a_tolerance_that_is_none_is_refused(tolerance: float) -> None:
    with pytest.raises(BadInputError, match="tolerance is .* from 1e-10 to below 1"):
        nonnegative_lasso(*problem(3, 8, 10), 0.1, tolerance=tolerance)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": torch.zeros(5)}, r"x has no sample, .* in shape \(5,\)"),
        ({"atoms": torch.full((2, 8), math.inf)}, "atoms has no atom, or one that is not finite"),
        ({"atoms": torch.zeros(0, 8)}, "atoms has no atom"),
        ({"atoms": torch.eye(7)}, "atoms have 7 dimensions and x has 8"),
        (
            {"atoms": torch.eye(8) * torch.ones(8).index_fill_(0, torch.tensor(5), 2)},
            "number 5 has",
        ),
        ({"atoms": torch.eye(8) / 2}, "number 0 has length 0.5; divide each by its length"),
        ({"start": torch.zeros(2, 2).long()}, r"start has shape \(2, 2\); .* each of 3 samples"),
        ({"start": torch.zeros(3).long()}, r"start has shape \(3,\)"),
        ({"start": torch.zeros(3, 1)}, "start is of type torch.float32"),
        ({"start": torch.zeros(3, 1) > 0}, "start is of type torch.bool"),
        ({"start": torch.full((3, 1), 10)}, "start has numbers from 10 to 10; .* from 0 to 9"),
        ({"start": torch.full((3, 1), -2)}, "start has numbers from -2 to -2"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, Tensor], message: str) -> None:
    x, atoms = problem(3, 8, 10)
    with pytest.raises(BadInputError, match=message):
        nonnegative_lasso(**{"x": x, "atoms": atoms, **changed}, penalty=0.1)


def test_the_gap_of_others_codes() -> None:
    file = Path(__file__).parents[2] / "eval" / "perf" / "lasso.py"
    spec = importlib.util.spec_from_file_location("perf_lasso", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    x, atoms = torch.tensor([[-2.0, 0.0]]).double(), torch.eye(2).double()[:1]
    # All correlations are negative: nothing is the optimum.
    assert module.gap(x, atoms, torch.zeros(1, 1).double(), 0.1) == 0
    # Of x = 2 at 0.1, no code costs 2 where θ = 0.1 bounds it by 0.195.
    assert module.gap(-x, atoms, torch.zeros(1, 1).double(), 0.1) == pytest.approx(1 - 0.195 / 2)


@pytest.mark.parametrize("penalty", [0.0, -0.1, math.nan, math.inf])
def test_a_penalty_that_is_none_is_refused(penalty: float) -> None:
    with pytest.raises(BadInputError, match="penalty is"):
        nonnegative_lasso(*problem(3, 8, 10), penalty)


@pytest.mark.parametrize("x", [torch.full((2, 8), math.nan), torch.zeros(0, 8)])
def test_samples_that_are_none_are_refused(x: Tensor) -> None:
    with pytest.raises(BadInputError, match="x has no sample"):
        nonnegative_lasso(x, problem(3, 8, 10)[1], 0.1)


def test_a_start_without_columns_is_no_start() -> None:
    x, atoms = problem(5, 8, 10)
    empty = torch.zeros(5, 0, dtype=torch.int64)
    found = nonnegative_lasso(x, atoms, 0.1, empty)
    assert torch.equal(found.values, nonnegative_lasso(x, atoms, 0.1).values)


def test_every_chunk_has_its_own_start_and_order(monkeypatch: pytest.MonkeyPatch) -> None:
    x, atoms = problem(50, 16, 64)
    x[::3] = 0
    found = nonnegative_lasso(x, atoms, 0.05)
    z = dense(found, 64)
    torch.testing.assert_close(found.objective, objective(x, atoms, z, 0.05))
    assert found.latents.shape[1] == int((z > 0).sum(dim=1).max())
    # From the optimum one round is enough, whatever the chunk.
    monkeypatch.setattr(lasso, "_CHUNK_BYTES", 1)
    monkeypatch.setattr(lasso, "_MOST_ROUNDS", 1)
    again = nonnegative_lasso(x, atoms, 0.05, found.latents)
    torch.testing.assert_close(again.objective, found.objective)


def test_a_quadratic_programme_leaves_its_arguments() -> None:
    gram, linear = torch.eye(2).double()[None], torch.tensor([[-1.0, 1.0]]).double()
    positive = torch.tensor([[True, False]])
    nonnegative_quadratic(gram, linear, positive)
    assert positive.tolist() == [[True, False]]


def test_the_gap_by_hand() -> None:
    # x = 2, r = 1: θ = 2r is best, and θ = r all that an atom with d·r = λ lets through.
    x, residual, objective = torch.tensor([[2.0]]), torch.tensor([[1.0]]), torch.tensor([4.0])
    assert lasso._gap(x, residual, objective, torch.tensor([0.1]), 1.0).item() == 0.5
    assert lasso._gap(x, residual, objective, torch.tensor([1.0]), 1.0).item() == 0.625
    assert lasso._gap(x, residual, objective, torch.tensor([2.0]), 1.0).item() == 0.78125


def test_a_latent_is_named_only_where_it_has_a_code() -> None:
    x, atoms = problem(50, 16, 64)
    found = nonnegative_lasso(x, atoms, 0.1, torch.arange(64).repeat(50, 1))
    assert torch.equal(found.latents >= 0, found.values > 0)


def test_pivots_end_without_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Atoms that are much alike: blocks alone go in circles."""
    monkeypatch.setattr(lasso, "nnls", None)
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(400, 12, 14, generator=generator).double()
    gram, linear = atoms @ atoms.mT, torch.randn(400, 12, generator=generator).double()
    z = nonnegative_quadratic(gram, linear, torch.zeros(400, 12, dtype=torch.bool))
    gradient = (gram @ z.unsqueeze(2)).squeeze(2) - linear
    assert (gradient > -1e-6).all() and (gradient * z).abs().max() < 1e-6
