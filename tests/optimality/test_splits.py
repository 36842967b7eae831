"""Splits of latents, worked by hand and against what a sample loses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.optimality.test_pairs import of_codes
from wsae_plugin.optimality import Coded, splits
from wsae_plugin.optimality.splits import Split, best_splits


def gain_of(split: Split, of: Coded, residual: Tensor) -> Tensor:
    return residual.square().sum(dim=1) - split.left(of, residual).square().sum(dim=1)


def stands_for_two(n: int = 40, m: int = 2) -> Coded:
    """On even samples the first latent's atom is off by 0.5 t, on odd ones by −0.25 t, where codes
    are twice as large; on the last ten samples it is silent."""
    atoms = torch.eye(4).double().repeat(m, 1)[:m]
    z = torch.zeros(n + 10, m).double()
    z[:n, 0] = torch.tensor([1.0, 2.0]).repeat(n // 2)
    x = z @ atoms
    x[:n, 3] = torch.tensor([0.5, -0.5]).repeat(n // 2)
    x[n:, 3] = 9
    return of_codes(z, atoms, x)


def test_a_split_by_hand() -> None:
    of = stands_for_two()
    (split,) = best_splits(of, of.residual)
    sign = split.along[3].sign()
    torch.testing.assert_close(sign * split.along, torch.eye(4)[3].double())
    torch.testing.assert_close(
        (sign * split.steps).sort().values, torch.tensor([-0.25, 0.5]).double()
    )
    gain = gain_of(split, of, of.residual)
    torch.testing.assert_close(gain, torch.tensor(40 * [0.25] + 10 * [0.0]).double())


def test_what_lies_along_the_atom_is_no_reason_to_split() -> None:
    of = stands_for_two()
    residual = of.residual
    residual[:20, 0] = 50.0
    (split,) = best_splits(of, residual)
    assert abs(float(split.along[0])) < 1e-9
    torch.testing.assert_close(gain_of(split, of, residual)[:40], torch.full((40,), 0.25).double())


def test_a_gain_is_by_how_much_the_squared_error_falls() -> None:
    generator = torch.Generator().manual_seed(0)
    of = of_codes(torch.rand(50, 3, generator=generator), torch.eye(4).double()[:3])
    residual = torch.randn(50, 4, generator=generator).double()
    along = torch.nn.functional.normalize(torch.randn(4, generator=generator).double(), dim=0)
    split = Split(1, along, torch.tensor([0.7, -0.2]).double())
    z = of.sparse().to_dense()[:, 1:2]
    left = torch.stack([(residual - z * s * along).square().sum(dim=1) for s in split.steps])
    expected = residual.square().sum(dim=1) - left.amin(dim=0)
    torch.testing.assert_close(gain_of(split, of, residual), expected)
    assert (expected < 0).any()


def test_it_is_the_same_in_any_order_and_units() -> None:
    of = stands_for_two()
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    mixed = Coded(3 * of.x[order], of.atoms, of.latents[order], 3 * of.values[order])
    (one,), (other,) = best_splits(of, of.residual), best_splits(mixed, mixed.residual)
    gain = gain_of(other, mixed, mixed.residual)
    torch.testing.assert_close(gain, 9 * gain_of(one, of, of.residual)[order])
    torch.testing.assert_close(other.steps.abs().sort().values, one.steps.abs().sort().values)


@pytest.mark.parametrize(("n", "n_found"), [(20, 1), (18, 0)])
def test_what_is_seldom_active_is_not_split(n: int, n_found: int) -> None:
    of = stands_for_two(n)
    assert len(best_splits(of, of.residual)) == n_found


@pytest.mark.parametrize(("m", "n_found"), [(100, 1), (101, 2), (201, 3)])
def test_one_of_every_hundred_is_split_the_best_first(m: int, n_found: int) -> None:
    atoms = torch.eye(5).double()[:1].expand(m, 5)
    z = torch.zeros(90, m)
    z[:30, 4], z[30:60, 2], z[60:, 3] = 1, 1, 1
    x = z.double() @ atoms
    signs = 1 - 2.0 * (torch.arange(30) % 2)
    x[:30, 4], x[30:60, 2], x[60:, 3] = 0.1 * signs, 0.3 * signs, 0.2 * signs
    of = of_codes(z, atoms, x)
    assert [each.latent for each in best_splits(of, of.residual)] == [2, 3, 4][:n_found]


def test_the_busiest_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "_MOST_TRIED", 1)
    z = torch.zeros(100, 2)
    z[:30, 0], z[30:, 1] = 1, 1
    x = z.double() @ torch.eye(3)[:2].double()
    x[:30, 2] = 1 - 2.0 * (torch.arange(30) % 2)
    of = of_codes(z, torch.eye(3)[:2].double(), x)
    assert [each.latent for each in best_splits(of, of.residual)] == [1]


def test_the_direction_is_the_one_with_the_largest_residual() -> None:
    """The largest singular vector, though one sample has more along another axis."""
    generator = torch.Generator().manual_seed(0)
    of = of_codes(torch.ones(400, 1), torch.eye(4).double()[:1])
    residual = torch.randn(400, 4, generator=generator).double() * torch.tensor([9, 1, 2, 1])
    residual[7] = torch.tensor([0, 9, 0, 0])
    (split,) = best_splits(of, residual)
    expected = torch.linalg.svd(residual[:, 1:])[2][0]
    assert abs(float(split.along[1:] @ expected)) > 0.999


def test_what_two_latents_share_is_gained_once() -> None:
    z = torch.zeros(60, 101).double()
    z[:, :2] = 1
    z[:20, 0] = 0
    atoms = torch.eye(3)[:1].double().expand(101, 3)
    residual = torch.zeros(60, 3).double()
    residual[:, 2] = 1 - 2.0 * (torch.arange(60) % 2)
    of = of_codes(z, atoms)
    first, second = best_splits(of, residual)
    assert (first.latent, second.latent) == (1, 0)
    torch.testing.assert_close(second.left(of, first.left(of, residual)), 0 * residual)
