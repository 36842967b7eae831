"""A refit against the dense solution, and against what it cannot know."""

from __future__ import annotations

from dataclasses import replace

import torch

from tests.optimality.test_lasso import problem
from wsae_plugin.optimality import Coded, nonnegative_lasso
from wsae_plugin.optimality.refit import PRIORS, best_prior, refitted


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
