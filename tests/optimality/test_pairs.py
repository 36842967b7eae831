"""Pairs of latents, worked by hand, and where nothing is to be found."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from wsae_plugin.optimality import Coded, nonnegative_lasso, pairs
from wsae_plugin.optimality.pairs import absorbed_pairs, cone, like_atoms, opposites, twins


def of_codes(z: Tensor, atoms: Tensor, x: Tensor | None = None) -> Coded:
    """Codes that are given dense, (n, m), of samples that they are right for."""
    z = z.double()
    values, latents = z.sort(dim=1, descending=True)
    return Coded(z @ atoms if x is None else x, atoms, latents.where(values > 0, -1), values)


def at(*cosines: float) -> Tensor:
    """Unit atoms: the first axis, then one for each cosine with it, in planes of their own."""
    rows = torch.zeros(1 + len(cosines), 1 + len(cosines)).double()
    rows[0, 0] = 1
    for i, cosine in enumerate(cosines, 1):
        rows[i, 0], rows[i, i] = cosine, (1 - cosine**2) ** 0.5
    return rows


def silent_parent(n_parent: int = 100, n_child: int = 40, n_both: int = 0, n: int = 200) -> Tensor:
    z = torch.zeros(n, 2).double()
    z[:n_parent, 0] = 1
    z[n_parent - n_both : n_parent - n_both + n_child, 1] = 2
    return z


def test_alike_atoms_by_hand() -> None:
    atoms = torch.tensor([[1, 0], [0.6, 0.8], [0, 1], [-1, 0], [-0.6, 0.8]]).double()
    found, cosines = like_atoms(atoms, torch.ones(5).bool(), 0.3)
    assert sorted(map(tuple, found.tolist())) == [(0, 1), (1, 2), (2, 4), (3, 4)]
    torch.testing.assert_close(cosines, torch.tensor([0.8, 0.8, 0.6, 0.6]).double())
    counted = torch.tensor([True, True, False, True, True])
    assert sorted(map(tuple, like_atoms(atoms, counted, 0.3)[0].tolist())) == [(0, 1), (3, 4)]
    for nothing in (torch.zeros(5).bool(), torch.tensor([True] + 4 * [False])):
        assert like_atoms(atoms, nothing, 0.3)[0].shape == (0, 2)


def test_alike_atoms_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    atoms = torch.randn(1100, 4, generator=torch.Generator().manual_seed(0)).double()
    atoms /= atoms.norm(dim=1, keepdim=True)
    counted = torch.arange(1100) % 50 != 3
    products = (atoms @ atoms.T).triu(1) * counted * counted.unsqueeze(1)
    expected = {(a, b) for a, b in (products > 0.97).nonzero().tolist()}
    found, cosines = like_atoms(atoms, counted, 0.97)
    assert {(a, b) for a, b in found.tolist()} == expected
    torch.testing.assert_close(cosines, products[found[:, 0], found[:, 1]])
    assert (cosines.diff() <= 0).all()
    monkeypatch.setattr(pairs, "_MOST_PAIRS", 3)
    assert torch.equal(like_atoms(atoms, counted, 0.97)[1], cosines[:3])


@pytest.mark.parametrize("swapped", [False, True])
def test_an_absorbed_pair_by_hand(swapped: bool) -> None:
    z, atoms = silent_parent(), at(0.6)
    if swapped:
        z, atoms = z.flip(1), atoms.flip(0)
    (found,) = absorbed_pairs(of_codes(z, atoms), 0.1)
    assert (found.parent, found.child) == ((1, 0) if swapped else (0, 1))
    assert found.cosine == pytest.approx(0.6)
    assert found.together == 0
    # The child comes without the parent, which its cone allows.
    assert found.cone == pytest.approx(0, abs=1e-9)
    excess = 0.6 + 0.8 - 1
    assert found.pays_below == pytest.approx(2 * excess / (0.36 * 0.64) * 0.1 / 2 * 0.2)


def test_it_pays_where_the_theory_says_for_equal_activations() -> None:
    """A parent and a child of activation a, together: the code is a √2 for a cosine of 1/√2."""
    z = silent_parent()
    z[:, 1] *= 1.5 * 2**0.5 / 2
    (found,) = absorbed_pairs(of_codes(z, at(2**-0.5)), 0.01)
    assert found.pays_below == pytest.approx((8 - 4 * 2**0.5) * 0.01 * 0.2 / 1.5)


@pytest.mark.parametrize("cosine", [0.4, 2**-0.5, 0.85])
def test_it_pays_up_to_where_the_losses_are_equal(cosine: float) -> None:
    """Where the child comes alone so often, two orthogonal atoms lose as much, by the optimal codes
    of both."""
    sine, rate, penalty = (1 - cosine**2) ** 0.5, 0.2, 1e-4
    (found,) = absorbed_pairs(of_codes(silent_parent(), at(cosine)), penalty)
    parent, child = torch.eye(2).double()
    both = 2 * (cosine * parent + sine * child)
    x = torch.stack([both, 2 * sine * child])
    absorbed, orthogonal = (
        nonnegative_lasso(x, atoms, penalty).objective for atoms in (at(cosine), torch.eye(2))
    )
    saved, lost = (orthogonal - absorbed)[0], (absorbed - orthogonal)[1]
    assert found.pays_below == pytest.approx(float(saved * rate / lost), rel=1e-2)


@pytest.mark.parametrize(
    ("cosine", "counts", "n_found"),
    [
        (0.31, (100, 40, 0), 1),
        (0.29, (100, 40, 0), 0),
        # 20 are expected together: a fifth of them is seldom, and more is not.
        (0.6, (100, 40, 4), 1),
        (0.6, (100, 40, 5), 0),
        # 10 are expected, none is found: e⁻¹⁰. Of fewer than 20 samples nothing is said.
        (0.6, (100, 20, 0), 1),
        (0.6, (120, 19, 0), 0),
        # 6 are expected: e⁻⁶ is more than one in a thousand. 7 are: it is less.
        (0.6, (60, 20, 0), 0),
        (0.6, (70, 20, 0), 1),
    ],
)
def test_what_is_believed(cosine: float, counts: tuple[int, int, int], n_found: int) -> None:
    found = absorbed_pairs(of_codes(silent_parent(*counts), at(cosine)), 0.1)
    assert len(found) == n_found
    if found:
        n_parent, n_child, n_both = counts
        assert found[0].together == pytest.approx(n_both * 200 / (n_parent * n_child))


@pytest.mark.parametrize(("n_more", "n_found"), [(7, 1), (8, 0)])
def test_the_more_pairs_the_less_is_believed(n_more: int, n_found: int) -> None:
    """e⁻¹⁰ times 1 + 21 pairs is below one in a thousand, and times 1 + 28 it is not."""
    more = torch.zeros(n_more, 2 + n_more).double()
    more[:, 2:] = torch.eye(n_more) + 1
    atoms = torch.cat([torch.zeros(2, 2 + n_more).double(), more])
    atoms[:2, :2] = at(0.6)
    atoms /= atoms.norm(dim=1, keepdim=True)
    z = torch.cat([silent_parent(100, 20), torch.ones(200, n_more)], dim=1)
    assert len(absorbed_pairs(of_codes(z, atoms), 0.1)) == n_found
    # Of pairs of which nothing could be said none is counted: half a sample is expected together.
    z[:, 2:] = (torch.arange(200) < 22).unsqueeze(1)
    assert len(absorbed_pairs(of_codes(z, atoms), 0.1)) == 1


def test_faint_codes_are_taken_for_none() -> None:
    z = silent_parent()
    z[:100, 1] = 0.9  # below half of (40 · 2² + 100 · 0.9²) / (40 · 2 + 100 · 0.9) = 1.418...
    assert absorbed_pairs(of_codes(z, at(0.6)), 0.1) == []
    z[:100, 1] = 0.5
    for unit in (0.1, 10):
        (found,) = absorbed_pairs(of_codes(unit * z, at(0.6)), 0.1)
        assert found.together == 0
    (found,) = absorbed_pairs(of_codes(z, at(0.6)), 0.1)
    assert (found.parent, found.together) == (0, 0)
    # The child's activation and its rate are without them.
    assert found.pays_below == pytest.approx(2 * 0.4 / (0.36 * 0.64) * 0.1 / 2 * 0.2)


def test_the_most_frequent_children_come_first() -> None:
    z, atoms = torch.zeros(400, 4).double(), torch.zeros(4, 4).double()
    z[:, :2], z[:, 2:] = silent_parent(150, 30, n=400), silent_parent(200, 50, n=400)
    atoms[:2, :2] = atoms[2:, 2:] = at(0.6)
    found = absorbed_pairs(of_codes(z, atoms), 0.1)
    assert [(pair.parent, pair.child) for pair in found] == [(2, 3), (0, 1)]


def test_order_and_units_do_not_matter() -> None:
    z, atoms = torch.zeros(400, 4).double(), torch.zeros(4, 4).double()
    z[:, :2], z[:, 2:] = silent_parent(150, 30, 1, 400), silent_parent(200, 50, 2, 400)
    atoms[:2, :2], atoms[2:, 2:] = at(0.6), at(0.5)
    expected = absorbed_pairs(of_codes(z, atoms), 0.1)
    generator = torch.Generator().manual_seed(0)
    rows, of = torch.randperm(400, generator=generator), torch.tensor([2, 0, 3, 1])
    found = absorbed_pairs(of_codes(7 * z[rows][:, of], atoms[of]), 0.7)
    assert len(found) == 2
    for one, other in zip(found, expected, strict=True):
        assert (int(of[one.parent]), int(of[one.child])) == (other.parent, other.child)
        for name in ("cosine", "together", "cone", "pays_below"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-9)


@pytest.mark.parametrize("is_heavy", [False, True])
def test_independent_latents_absorb_nothing(is_heavy: bool) -> None:
    n_found = 0
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        atoms = torch.randn(40, 4, generator=generator, dtype=torch.float64)
        atoms /= atoms.norm(dim=1, keepdim=True)
        rates = 0.02 + 0.2 * torch.rand(40, generator=generator)
        normal = torch.randn(1000, 40, generator=generator)
        values = (1.5 * normal).exp() if is_heavy else 1 + 0.1 * normal
        z = values * (torch.rand(1000, 40, generator=generator) < rates)
        n_found += len(absorbed_pairs(of_codes(z, atoms), 0.1))
    assert n_found == 0


def test_a_cone_by_hand() -> None:
    """Ten times 1 of each, times what their cosines leave: (4, 2). Without the parent only the
    first is active, so that (0, 2) is missing of a length of √20."""
    z = torch.zeros(40, 3)
    z[:10, 1] = 1
    z[10:20] = torch.tensor([1, 0, 1])
    of = of_codes(z, at(0.6, 0.8))
    assert cone(of, 0) == pytest.approx(2 / math.sqrt(20))
    # Once the other comes alone as well, all is in the cone.
    z[20, 2] = 1e-3
    assert cone(of_codes(z, at(0.6, 0.8)), 0) == pytest.approx(0, abs=1e-9)


def test_a_cone_of_nothing() -> None:
    z = silent_parent(n_both=0)
    # No atom shares a direction, or none that does is ever active.
    assert cone(of_codes(z, at(0.2)), 0) == 0
    assert cone(of_codes(z * torch.tensor([1, 0]), at(0.6)), 0) == 0
    # There is no sample without the parent, and another latent.
    assert cone(of_codes(torch.ones(10, 2), at(0.6)), 0) == 1
    # An atom that is the same wants nothing.
    assert cone(of_codes(torch.ones(10, 2), at(1.0)), 0) == 0


def angles(*of: float) -> Tensor:
    return torch.tensor([[math.cos(a), math.sin(a)] for a in of]).double()


def test_opposites_by_hand() -> None:
    z = torch.zeros(20, 4)
    z[:4, 0], z[3:8, 1] = 1, 1
    z[:10, 2], z[8:14, 3] = 1, 1
    # Cosines of −0.9211 and −0.9801, and of no more than −0.85 else.
    atoms = angles(0, math.pi - 0.4, math.pi / 2 + 0.1, -math.pi / 2 + 0.3)
    first, second = opposites(of_codes(z, atoms))
    assert (first.latent, first.opposite) == (2, 3)
    assert first.cosine == pytest.approx(math.cos(math.pi - 0.2))
    assert (first.density, first.together) == pytest.approx((14 / 20, 2 / 20))
    assert (second.latent, second.opposite) == (0, 1)
    assert second.cosine == pytest.approx(math.cos(math.pi - 0.4))
    assert (second.density, second.together) == pytest.approx((8 / 20, 1 / 20))
    assert opposites(of_codes(z, angles(0, math.pi - 0.46, 1.0, 1.1))) == []


def test_opposites_of_many() -> None:
    """Beyond the first block of products as well, each once."""
    atoms = torch.ones(1030, 1).double()
    atoms[[5, 1027]] = -1
    atoms = torch.cat([atoms, torch.zeros(1030, 1)], dim=1)
    atoms[torch.arange(1030) % 400 != 0] = torch.tensor([0, 1]).double()
    atoms[1027] = torch.tensor([-1, 0]).double()
    z = torch.zeros(3, 1030)
    z[:, 0] = 1
    found = {(pair.latent, pair.opposite) for pair in opposites(of_codes(z, atoms))}
    assert found == {(0, 1027), (400, 1027), (800, 1027)}


def apart(angle: float, counts: Sequence[int] = (20, 20), noise: float = 0.0) -> Coded:
    """Two atoms at as large an angle to the first axis, one after the other, and noise that goes
    along an axis of its own."""
    atoms = torch.cat([angles(angle, -angle), torch.zeros(2, 1)], dim=1)
    z = torch.zeros(sum(counts) + 10, 2)
    z[: counts[0], 0], z[counts[0] : sum(counts), 1] = 1, 1
    x = z.double() @ atoms
    x[:, 2] = noise * (1 - 2.0 * (torch.arange(len(x)) % 2))
    return of_codes(z, atoms, x)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_twins_by_hand(noise: float) -> None:
    """Of both, sin² of the angle is lost: 0.0395, and 0.0612."""
    assert [*twins(apart(0.2, noise=noise))] == [(0, 1)]
    assert [*twins(apart(0.25, noise=noise))] == []


def test_twins_that_are_seldom_are_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [*twins(apart(0.1, (20, 19)))] == []
    assert [*twins(apart(0.1, (20, 21)))] == [(0, 1)]
    monkeypatch.setattr(pairs, "_MOST_TWINS", 0)
    assert [*twins(apart(0.1))] == []


def test_twins_have_a_cosine_above_seven_tenths() -> None:
    little = torch.ones(100, 2) * torch.tensor([1, 0.01])
    assert [*twins(of_codes(little, angles(0.39, -0.39)))] == [(0, 1)]
    assert [*twins(of_codes(little, angles(0.4, -0.4)))] == []
