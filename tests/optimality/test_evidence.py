"""What is known of an SAE: what is fitted where, and what a control is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.optimality.test_lasso import problem
from tests.optimality.test_pairs import of_codes
from wsae_plugin.optimality import Coded, matched_penalty, nonnegative_lasso
from wsae_plugin.optimality.evidence import OptimalityEvidence
from wsae_plugin.optimality.refit import best_prior, refitted

D, M = 12, 16


def evidence(n: int = 400, off: float = 0.2, seed: int = 0, **fields: Any) -> OptimalityEvidence:
    """Eight batches of samples, and an SAE whose atoms and activations are off."""
    x, atoms = problem(n, D, M, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    atoms = atoms + off * torch.randn(M, D, generator=generator) / D**0.5
    atoms /= atoms.norm(dim=1, keepdim=True)
    codes = nonnegative_lasso(x, atoms, 0.1)
    own = Coded(x, atoms, codes.latents, codes.values)
    return OptimalityEvidence(own, torch.arange(n) * 8 // n, 0.1, **fields)


def squares(residual: Tensor) -> Tensor:
    return residual.square().sum(dim=1)


def test_halves_are_every_other_batch() -> None:
    of = evidence(16)
    (fits, tries), (other_fits, other_tries) = of.halves
    assert fits.tolist() == 4 * [True, True, False, False]
    assert torch.equal(tries, ~fits)
    assert torch.equal(other_fits, tries) and torch.equal(other_tries, fits)


def test_better_codes_are_no_worse_and_no_denser() -> None:
    of = evidence()
    own, on_own, best = squares(of.own.residual), of.on_own_support, of.best
    assert (on_own.squared_error <= own + 1e-12).all()
    assert (squares(best.residual) <= on_own.squared_error + 1e-12).all()
    assert (best.l0 <= of.own.l0).all()
    is_on = on_own.latents >= 0
    inside = (on_own.latents.unsqueeze(2) == of.own.latents.unsqueeze(1)).any(dim=2)
    assert (inside | ~is_on).all()
    # Other latents are looked at too: here those of another sample are active.
    latents, values = (each.roll(1, dims=0) for each in (of.own.latents, of.own.values))
    wrong = replace(of, own=replace(of.own, latents=latents, values=values))
    on_wrong = wrong.on_own_support.squared_error.sum()
    assert squares(wrong.best.residual).sum() < 0.5 * on_wrong
    assert torch.equal(best.x, of.own.x) and torch.equal(best.atoms, of.own.atoms)


def test_a_refit_is_tried_where_it_was_not_fitted() -> None:
    of = evidence()
    for fits in (of.batch % 2 == 0, of.batch % 2 == 1):
        inside, outside = of.best.of(fits), of.best.of(~fits)
        first = of.batch[fits] % 4 < 2
        atoms = refitted(inside, best_prior(inside, first))
        torch.testing.assert_close(of.after_refit[~fits], replace(outside, atoms=atoms).residual)


def test_samples_of_one_half_do_not_change_their_own_refit() -> None:
    of = evidence()
    fits = of.batch % 2 == 0
    x = of.own.x.clone()
    x[fits] += 0.1
    best = replace(of.best, x=x)
    other = replace(of, own=replace(of.own, x=x))
    vars(other)["best"] = best
    shift = 0.1 * torch.ones(D).double()
    torch.testing.assert_close(other.after_refit[fits], of.after_refit[fits] + shift)
    assert not torch.allclose(other.after_refit[~fits], of.after_refit[~fits])


def test_where_the_dictionary_is_right_the_noise_is_as_large_in_all_directions() -> None:
    of = evidence(2000)
    right = of.if_right
    n_free = of.best.x.numel() - int(of.best.l0.sum())
    size = float(of.best.residual.square().sum()) / n_free
    # Codes that noise could have are noise.
    clear = of.best.values > 3 * size**0.5
    assert 0 < float(clear.sum()) < float(of.best.l0.sum())
    signal = replace(of.best, values=of.best.values * clear)
    made = of.best.x - signal.residual
    noise = right.own.x - made
    size = float(signal.residual.square().sum()) / (of.best.x.numel() - int(clear.sum()))
    assert float(noise.var()) == pytest.approx(size, rel=0.03)
    values = torch.linalg.eigvalsh(noise.T @ noise / len(noise)) / size
    assert float(values.min()) > 0.8 and float(values.max()) < 1.2
    assert torch.equal(right.own.latents, of.best.latents)
    assert torch.equal(right.own.atoms, of.own.atoms)
    assert right.penalty == of.penalty and torch.equal(right.batch, of.batch)
    # It is drawn of the seed.
    assert torch.equal(noise, evidence(2000).if_right.own.x - made)
    assert not torch.equal(right.own.x, replace(of, seed=1).if_right.own.x)


def test_of_the_right_dictionary_the_noise_is_known() -> None:
    """Atoms and codes took their share of it."""
    generator = torch.Generator().manual_seed(0)
    z = (5 + torch.rand(2000, 6, generator=generator)) * (torch.rand(2000, 6) < 0.5)
    atoms = torch.eye(8)[:6].double()
    x = z.double() @ atoms + 0.1 * torch.randn(2000, 8, generator=generator)
    of = OptimalityEvidence(of_codes(z, atoms, x), torch.arange(2000) // 250, 0.1)
    made = of.own.x - of.best.residual
    assert float((of.if_right.own.x - made).std()) == pytest.approx(0.1, rel=0.03)


def test_the_control_is_random_and_as_sparse() -> None:
    of = replace(evidence(2500), seed=7)
    control = of.of_random_atoms
    assert len(control.batch) == len(control.own.x) == 834
    assert torch.equal(control.own.x, of.own.x[::3])
    assert torch.equal(control.batch, of.batch[::3])
    assert control.own.atoms.shape == of.own.atoms.shape
    torch.testing.assert_close(control.own.atoms.norm(dim=1), torch.ones(M).double())
    assert float((control.own.atoms * of.own.atoms).sum(dim=1).abs().max()) < 0.9
    assert (control.own.l0 <= of.own.l0[::3]).all()
    # Some that correlate are of no use beside the others.
    assert float(control.own.l0.double().mean()) > 0.6 * float(of.own.l0.double().mean())
    assert control.penalty == matched_penalty(control.own)
    # Those that correlate most with a sample are active, with their best codes.
    correlations = control.own.x @ control.own.atoms.T
    largest = correlations.argsort(dim=1, descending=True)
    for row in range(0, 834, 50):
        active = {j for j in control.own.latents[row].tolist() if j >= 0}
        assert active <= {*largest[row, : int(of.own.l0[3 * row])].tolist()}
        assert (correlations[row, [*active]] > 0).all()
    torch.testing.assert_close(control.on_own_support.squared_error, squares(control.own.residual))
    assert len(evidence(1000).of_random_atoms.batch) == 1000
    other = replace(of, seed=1).of_random_atoms
    assert not torch.equal(other.own.atoms, control.own.atoms)


def test_a_share_by_hand() -> None:
    of = evidence(16)
    part, whole = torch.arange(16.0), torch.full((16,), 10.0)
    found = of.share(part, whole)
    assert found.value == pytest.approx(7.5 / 10)
    assert found.per_batch == pytest.approx([(2 * b + 0.5) / 10 for b in range(8)])
    assert found.spread is not None and 0.2 < found.spread < 0.4
    few = of.share(part, whole, torch.arange(16) % 2 == 1)
    assert few.value == pytest.approx(8 / 10)
    # It is a share of sums, not a mean of shares.
    whole[:2] = 1000
    assert of.share(part, whole).value == pytest.approx(120 / 2140)
    assert of.share(part, 0 * whole).value is None
    assert of.tokens.tolist() == 8 * [2.0]
