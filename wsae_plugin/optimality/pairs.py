"""Pairs of latents that should not be two, or of which one stands in for the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from scipy.optimize import nnls
from scipy.stats import poisson
from torch import Tensor

from wsae_plugin.optimality.coded import Coded
from wsae_plugin.optimality.lasso import unit

FEWEST = 20
"""A latent that is active on fewer samples is not judged, nor changed."""
_MOST_PAIRS = 100_000
"""Those with the largest cosines."""
_LIKE = 0.3
"""The cosine from which two atoms have a direction in common."""
_SELDOM = 0.2
"""They exclude each other where they are active together on this share of the samples on which
they would be if they knew nothing of each other."""
_BY_CHANCE = 1e-3
"""How likely one such pair is, of all that are looked at, if none knew of the other."""
_FAINT = 0.5
"""Of the mean activation that a latent's own activations weigh: less is taken for none, being what
noise and shrinkage leave."""
_OPPOSITE = -0.9
_TWIN = 0.7
"""The cosine from which two atoms may do the work of one."""
_MOST_TWINS = 512
_LOST = 0.05
"""One atom does the work of two where it loses less of what they explain."""


@dataclass(frozen=True)
class AbsorbedPair:
    """A latent that is silent where another one is active that has its direction in it.

    Args:
        parent: The number of the latent that is silent.
        child: That of the other, which is active less often.
        cosine: Of their atoms.
        together: On how many samples both are active, as a share of what independence expects.
        cone: What is missing for (m_k (1 − d_jᵀd_k))_k to lie in the cone of the codes of the
            latents k that share a direction with the parent j, over the samples without j, as a
            share of its length: T7 of arXiv 2606.02385, for a penalty that vanishes. Above 0
            another dictionary would have a smaller loss.
        pays_below: With features in the directions of the two atoms, the pair beats an orthogonal
            one, under the penalty, where the child's feature comes without the parent's on less
            than this share of the samples. To first order in the penalty; at equal activations
            2.34 λ q / a for features of activation a that come together at rate q.
    """

    parent: int
    child: int
    cosine: float
    together: float
    cone: float
    pays_below: float


def like_atoms(atoms: Tensor, counted: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Which pairs have a cosine above `least`, and their cosines, the largest first.

    Args:
        atoms: Of length 1, shape (m, d_in).
        counted: Which may be in a pair, shape (m,), bool.
        least: A cosine.

    Returns:
        Shape (n, 2), int64, and (n,).
    """
    which = counted.nonzero().flatten()
    chosen, pairs, cosines = atoms[which], [], []
    for first in range(0, len(which), 1024):
        products = chosen[first : first + 1024] @ chosen.T
        a, b = products.triu(first + 1).gt(least).nonzero(as_tuple=True)
        pairs.append(torch.stack([which[first + a], which[b]], dim=1))
        cosines.append(products[a, b])
    if not pairs:
        return torch.zeros(0, 2, dtype=torch.long), atoms.new_zeros(0)
    both, cosine = torch.cat(pairs), torch.cat(cosines)
    largest = cosine.argsort(descending=True)[:_MOST_PAIRS]
    return both[largest], cosine[largest]


def absorbed_pairs(own: Coded, penalty: float) -> list[AbsorbedPair]:
    """Find latents that absorbed a part of another: their atoms share a direction, and yet they are
    active together far less often than by chance.

    Exclusive features with a direction in common look the same: no code can tell them apart. So do
    all latents where one alone may be active, as with k = 1.

    Args:
        own: The SAE's codes.
        penalty: λ, for `AbsorbedPair.pays_below`.

    Returns:
        The most frequent children first.
    """
    n, codes = len(own.x), own.sparse().cpu()
    columns = _without_faint(codes.T.coalesce())
    counts = columns.indices()[0].bincount(minlength=len(own.atoms))
    pairs, cosines = like_atoms(own.atoms.cpu(), counts >= FEWEST, _LIKE)
    expected = counts[pairs].double().prod(dim=1) / n
    # Where so few are expected, none says nothing.
    tested = expected * _SELDOM >= 0.5
    pairs, cosines, expected = pairs[tested], cosines[tested], expected[tested]
    starts = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(dim=0)])
    rows, values = columns.indices()[1], columns.values()

    def of(latent: int) -> slice:
        return slice(int(starts[latent]), int(starts[latent + 1]))

    found: list[AbsorbedPair] = []
    for (a, b), cosine, by_chance in zip(
        pairs.tolist(), cosines.tolist(), expected.tolist(), strict=True
    ):
        both = int(torch.isin(rows[of(a)], rows[of(b)]).sum())
        likely = poisson.cdf(both, by_chance) * len(pairs)
        if both > _SELDOM * by_chance or likely > _BY_CHANCE:
            continue
        parent, child = (a, b) if counts[a] >= counts[b] else (b, a)
        code, rate = float(values[of(child)].mean()), int(counts[child]) / n
        both_sides = cosine**2 * (1 - cosine**2)
        excess = cosine + (1 - cosine**2) ** 0.5 - 1
        pays = 2 * excess / both_sides * penalty / code * rate
        together = both / by_chance
        found.append(AbsorbedPair(parent, child, cosine, together, cone(own, parent), pays))
    return sorted(found, key=lambda pair: -int(counts[pair.child]))


def _without_faint(columns: Tensor) -> Tensor:
    """Codes, (m, n), without those that are faint for their latent."""
    (latents, _), values = columns.indices(), columns.values()
    sums, squares = (
        torch.zeros(len(columns), dtype=values.dtype).index_add_(0, latents, each)
        for each in (values, values.square())
    )
    means = squares / sums
    stays = values > _FAINT * means[latents]
    return torch.sparse_coo_tensor(
        columns.indices()[:, stays],
        values[stays],
        columns.shape,
        is_coalesced=True,
        check_invariants=False,
    )


def cone(own: Coded, latent: int) -> float:
    """See `AbsorbedPair.cone`, over the latents that share a direction with it and are active."""
    cosines = own.atoms @ own.atoms[latent]
    beside = (cosines > _LIKE).nonzero().flatten()
    beside = beside[(beside != latent) & (own.counts[beside] > 0)]
    if not len(beside):
        return 0.0
    is_off = ~(own.latents == latent).any(dim=1)
    codes = torch.stack(
        [(own.values * (own.latents == other)).sum(dim=1) for other in beside.tolist()]
    )
    wanted = codes.sum(dim=1) * (1 - cosines[beside])
    rays = codes[:, is_off]
    rays = rays[:, rays.any(dim=0)]
    if not wanted.any() or not rays.shape[1]:
        return float(wanted.any())
    _, missing = nnls(rays.cpu().numpy(), (wanted / wanted.norm()).cpu().numpy())
    return float(missing)


@dataclass(frozen=True)
class Opposites:
    """Two latents that point apart.

    Args:
        latent: The number of the one.
        opposite: That of the other.
        cosine: Of their atoms.
        density: On which share of the samples one or the other is active.
        together: On which share both are.
    """

    latent: int
    opposite: int
    cosine: float
    density: float
    together: float


def opposites(own: Coded) -> list[Opposites]:
    """The pairs with a cosine below −0.9 (arXiv 2506.15679), the densest first."""
    found: list[Opposites] = []
    for first in range(0, len(own.atoms), 1024):
        products = own.atoms[first : first + 1024] @ own.atoms.T
        for a, b in products.tril(first).lt(_OPPOSITE).nonzero().tolist():
            if own.is_signed and first + a - b == len(own.atoms) // 2:
                continue
            on = [(own.latents == latent).any(dim=1) for latent in (first + a, b)]
            densities = ((on[0] | on[1]), (on[0] & on[1]))
            shares = (float(each.double().mean()) for each in densities)
            found.append(Opposites(b, first + a, float(products[a, b]), *shares))
    return sorted(found, key=lambda pair: -pair.density)


def twins(best: Coded) -> Iterator[tuple[int, int]]:
    """Pairs that one atom could stand for: it loses less than a twentieth of what they explain.

    Args:
        best: Codes that suit the dictionary.
    """
    pairs, _ = like_atoms(best.atoms, best.counts >= FEWEST, _TWIN)
    residual = best.residual
    for a, b in pairs[:_MOST_TWINS].tolist():
        z = torch.stack([(best.values * (best.latents == j)).sum(dim=1) for j in (a, b)], dim=1)
        is_on = z.any(dim=1)
        z, left = z[is_on], residual[is_on]
        explained = z @ best.atoms[[a, b]]
        both = left + explained
        atom = unit(z.sum(dim=1) @ both, dim=0)
        after = both.square().sum() - (both @ atom).clamp(min=0).square().sum()
        before = left.square().sum()
        if after - before < _LOST * (both.square().sum() - before):
            yield a, b
