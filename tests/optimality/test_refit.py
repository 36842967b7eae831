"""A refit against the dense solution, and against what it cannot know."""

from __future__ import annotations

from dataclasses import replace

import torch

from tests.optimality.test_lasso import problem
from wsae_plugin.optimality import Coded, nonnegative_lasso
from wsae_plugin.optimality.refit import PRIORS, best_prior, refitted, worst_atoms


def learned(n: int, seed: int = 0) -> Coded:
    x, atoms = problem(n, 16, 24, seed)
    codes = nonnegative_lasso(x, atoms, 0.05)
    return Coded(x, atoms, codes.latents, codes.values)


def test_it_is_the_ridge_solution() -> None:
    of = learned(200)
    z = of.sparse().to_dense()
    ridge = 0.1 * z.square().sum(dim=0).mean()
    system = z.T @ z + ridge * torch.eye(24, dtype=torch.float64)
    expected = of.atoms + torch.linalg.solve(system, z.T @ of.residual)
    torch.testing.assert_close(refitted(of, 0.1), expected, atol=1e-4, rtol=0)


def test_atoms_that_are_never_active_stay() -> None:
    of = learned(200)
    silent = replace(of, atoms=torch.cat([of.atoms, torch.ones(1, 16).double() / 4]))
    assert torch.equal(refitted(silent, 0.01)[24], silent.atoms[24])
    torch.testing.assert_close(refitted(silent, 3.0)[:24], refitted(of, 3.0))


def test_noise_is_not_fitted_and_a_shift_is() -> None:
    of = learned(60)
    half = torch.arange(60) % 2 == 0
    assert best_prior(of, half) >= 1
    shifted = learned(4000)
    codes = shifted.sparse()
    moved = shifted.atoms + 0.2 * torch.randn(24, 16, generator=torch.Generator().manual_seed(1))
    away = replace(shifted, x=torch.sparse.mm(codes, moved))
    assert best_prior(away, torch.arange(4000) % 2 == 0) == PRIORS[0]
    torch.testing.assert_close(refitted(away, 0.0), moved, atol=1e-2, rtol=0)


def test_the_worst_atoms_by_moving_each_alone() -> None:
    of = learned(100)
    z, residual = of.sparse().to_dense(), of.residual
    expected = [
        residual.square().sum()
        - (residual - column @ torch.linalg.lstsq(column, residual).solution).square().sum()
        for column in z.unsqueeze(2).unbind(dim=1)
    ]
    torch.testing.assert_close(worst_atoms(of), torch.stack(expected))
    # Whatever the units; and 0 for an atom that is never active.
    scaled = replace(of, x=3 * of.x, values=3 * of.values)
    torch.testing.assert_close(worst_atoms(scaled), 9 * worst_atoms(of))
    silent = replace(of, atoms=torch.cat([of.atoms, torch.ones(1, 16).double() / 4]))
    assert float(worst_atoms(silent)[24]) == 0


def test_no_atom_is_bad_after_a_refit() -> None:
    of = learned(2000)
    refit = worst_atoms(replace(of, atoms=refitted(of, 0.0)))
    assert float(refit.max()) < 1e-6 * float(worst_atoms(of).max())


def test_the_prior_is_chosen_where_it_was_not_fitted() -> None:
    """Where the two halves ask for opposite moves, staying is best: less of it fits either."""
    of = learned(400)
    half = torch.arange(400) < 200
    move = 0.2 * torch.randn(24, 16, generator=torch.Generator().manual_seed(1)).double()
    moved = torch.sparse.mm(of.sparse(), move) * (2 * half.double() - 1).unsqueeze(1)
    assert best_prior(replace(of, x=of.x + moved), half) == PRIORS[-1]
