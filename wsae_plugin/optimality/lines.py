"""What any optimum of a dictionary satisfies, a number for each (T1 to T6 of arXiv 2606.02385)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from wsae_plugin.measures.measure import HeldOutScore, measure
from wsae_plugin.measures.sums import Found
from wsae_plugin.optimality.coded import Coded
from wsae_plugin.optimality.evidence import OptimalityEvidence
from wsae_plugin.optimality.pairs import FEWEST, twins

EVAL = "optimality"

_MOST_SPLIT = 512
"""Latents, the busiest, that are looked at for a split."""
_FAINT = 0.1
"""Of the mean squared code; a latent with less explains next to nothing where it is active."""
OPPOSITE = -0.9
"""The cosine below which two atoms are a pair of opposites (arXiv 2506.15679)."""


_line = partial(measure, eval=EVAL)


@_line("error that better codes recover", "down", headline=True)
def codes(evidence: OptimalityEvidence) -> Found:
    """Share of the squared error that other codes of the same dictionary recover, with as few
    latents active on each sample: what the encoder loses at least (T1)."""
    return _recovered(evidence, evidence.best.residual)


@_line("error that other activations recover", "down")
def codes_on_support(evidence: OptimalityEvidence) -> Found:
    """Share of the squared error that other activations of the very same latents recover."""
    own = _squares(evidence.own.residual)
    return evidence.share(own - evidence.on_own_support.squared_error, own)


@_line("error that a refit recovers", "down", headline=True)
def dictionary(evidence: OptimalityEvidence) -> Found:
    """Share of the squared error at the best codes that the dictionary recovers when it is fitted
    to these codes once more, on one half of the samples, and tried on the other (T2, T3)."""
    before = _squares(evidence.best.residual)
    return evidence.share(before - _squares(evidence.after_refit), before)


@_line("error that splitting latents recovers", "down")
def split(evidence: OptimalityEvidence) -> Found:
    """Share of the squared error at the best codes and after a refit that is recovered by splitting
    in two the latents that gain most by it, one for every hundred: found on one half of the
    samples, tried on the other (T6)."""
    best, residual, half = evidence.best, evidence.after_refit, evidence.is_first_half
    n_split = -(-len(best.atoms) // 100)
    gain = torch.zeros(len(best.x), dtype=best.x.dtype, device=best.x.device)
    for fits, tries in ((half, ~half), (~half, half)):
        inside, outside = best.of(fits), best.of(tries)
        left, left_outside = residual[fits], residual[tries]
        busiest = inside.sparse().sum(dim=0).to_dense().topk(min(_MOST_SPLIT, len(best.atoms)))
        found = [_split_of(inside, left, latent) for latent in busiest.indices.tolist()]
        chosen = sorted((each for each in found if each), key=lambda each: -each[0])[:n_split]
        for _, latent, along, steps in chosen:
            gain[tries] += _gain_of(outside, left_outside, latent, along, steps)
    return evidence.share(gain, _squares(residual))


def _split_of(
    coded: Coded, residual: Tensor, latent: int
) -> tuple[float, int, Tensor, Tensor] | None:
    """Along which direction a latent is best split, and how far to either side: the gain, the
    latent, the direction (d_in,) and the two steps (2,); None where it is active too rarely."""
    rows, z = _active(coded, latent)
    if len(rows) < FEWEST:
        return None
    atom, own = coded.atoms[latent], residual[rows]
    across = own - (own @ atom).unsqueeze(1) * atom
    weighted = z.unsqueeze(1) * across
    _, _, vectors = torch.linalg.svd(weighted, full_matrices=False)
    along, side = vectors[0], (across @ vectors[0] > 0).long()
    squares = torch.zeros(2, dtype=z.dtype, device=z.device).index_add_(0, side, z.square())
    pulls = torch.zeros_like(squares).index_add_(0, side, z * (own @ along))
    steps = pulls / squares.clamp(min=torch.finfo(z.dtype).tiny)
    return float(_gain_of(coded, residual, latent, along, steps).sum()), latent, along, steps


def _gain_of(coded: Coded, residual: Tensor, latent: int, along: Tensor, steps: Tensor) -> Tensor:
    """By how much a split lowers each squared error, shape (n,), where each sample has the half
    that suits it."""
    rows, z = _active(coded, latent)
    pull = residual[rows] @ along
    # ‖r‖² − ‖r − z s t‖² = 2 z s tᵀr − z² s².
    each = 2 * z.unsqueeze(1) * pull.unsqueeze(1) * steps - (z.unsqueeze(1) * steps).square()
    gain = torch.zeros(len(coded.x), dtype=z.dtype, device=z.device)
    gain[rows] = each.amax(dim=1)
    return gain


def _active(coded: Coded, latent: int) -> tuple[Tensor, Tensor]:
    rows, places = (coded.latents == latent).nonzero(as_tuple=True)
    return rows, coded.values[rows, places]


@_line("active latents that cost nothing to drop", "down")
def prune(evidence: OptimalityEvidence) -> Found:
    """Share of active latents whose removal does not raise the squared error of the sample."""
    own = evidence.own
    is_free = (own.values > 0) & (costs_of_dropping(own) <= 0)
    return evidence.share(is_free.sum(dim=1), own.l0)


def costs_of_dropping(coded: Coded) -> Tensor:
    """By how much each squared error grows without one active latent, shape (n, a)."""
    residual = coded.residual
    # ‖r + z d‖² − ‖r‖² = 2 z dᵀr + z², sample by sample: their atoms together are many.
    along = torch.stack(
        [
            coded.atoms[latents] @ left
            for latents, left in zip(coded.latents.clamp(min=0), residual, strict=True)
        ]
    )
    return coded.values * (2 * along + coded.values)


@_line("active latents that absorbed another", "down")
def absorption(evidence: OptimalityEvidence) -> Found:
    """Share of active latents that share a direction with another one, which is active more often
    and yet silent beside them, see `absorbed_pairs` (T7)."""
    return _share_of(evidence, evidence.own, [pair.child for pair in evidence.absorbed])


@_line("active latents with a twin", "down")
def redundant(evidence: OptimalityEvidence) -> Found:
    """Share of active latents, at the best codes, that are one of two of which one atom loses less
    than a twentieth of what both explain."""
    pairs = twins(evidence.best)
    return _share_of(evidence, evidence.best, [latent for pair in pairs for latent in pair])


@_line("active latents that are faint", "down")
def faint(evidence: OptimalityEvidence) -> Found:
    """Share of active latents, at the best codes, that have less than a tenth of the mean
    squared code where they are active."""
    best = evidence.best
    is_atom = best.latents >= 0
    of, squares = best.latents[is_atom], best.values[is_atom].square()
    n_active = of.bincount(minlength=len(best.atoms))
    mean = squares.new_zeros(len(best.atoms)).index_add_(0, of, squares) / n_active.clamp(min=1)
    is_faint = (n_active > 0) & (mean < _FAINT * squares.mean())
    return _share_of(evidence, best, is_faint.nonzero().flatten().tolist())


def _share_of(evidence: OptimalityEvidence, coded: Coded, latents: list[int]) -> Found:
    is_one = torch.zeros(len(coded.atoms), dtype=torch.bool, device=coded.x.device)
    is_one[latents] = True
    is_one = (coded.values > 0) & is_one[coded.latents.clamp(min=0)]
    return evidence.share(is_one.sum(dim=1), coded.l0)


@_line("active latents with an opposite", "down")
def antipodal(evidence: OptimalityEvidence) -> Found:
    """Share of active latents of which another one points the other way, by a cosine below −0.9."""
    own = evidence.own
    smallest = torch.cat([(rows @ own.atoms.T).amin(dim=1) for rows in own.atoms.split(1024)])
    return _share_of(evidence, own, (smallest < OPPOSITE).nonzero().flatten().tolist())


@_line("what one more atom recovers", "down", unit="×")
def width(evidence: OptimalityEvidence) -> Found:
    """Share of the squared error at the best codes and after a refit that one more atom recovers,
    found on one half of the samples and tried on the other, beside the same share where the
    dictionary is right, see `OptimalityEvidence.if_right`: 1 where it is wide enough.

    As printed, T5 says nothing: a sample with an active atom has ‖r‖ ≥ d·r = λ.
    """
    right = evidence.if_right
    expected = _gain_of_one_more(right).sum() / _squares(right.after_refit).sum()
    return evidence.share(_gain_of_one_more(evidence), expected * _squares(evidence.after_refit))


def _gain_of_one_more(evidence: OptimalityEvidence) -> Tensor:
    residual, half = evidence.after_refit, evidence.is_first_half
    gain = torch.zeros(len(residual), dtype=residual.dtype, device=residual.device)
    for fits, tries in ((half, ~half), (~half, half)):
        atom = one_more_atom(residual[fits], evidence.seed)
        gain[tries] = (residual[tries] @ atom).clamp(min=0).square()
    return gain


def one_more_atom(residual: Tensor, seed: int, n_starts: int = 8, n_steps: int = 50) -> Tensor:
    """The direction t of length 1 with the largest Σ max(0, t·r)², of those that a few random
    starts climb to, shape (d_in,).

    Args:
        residual: Shape (n, d_in).
        seed: Of the starts.
        n_starts: How many.
        n_steps: Of the rectified power iteration.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(residual), (n_starts,), generator=generator)
    t = torch.nn.functional.normalize(residual[chosen], dim=1)
    for _ in range(n_steps):
        t = torch.nn.functional.normalize((residual @ t.T).clamp(min=0).T @ residual, dim=1)
    return t[(residual @ t.T).clamp(min=0).square().sum(dim=0).argmax()]


def _recovered(evidence: OptimalityEvidence, residual: Tensor) -> Found:
    own = _squares(evidence.own.residual)
    return evidence.share(own - _squares(residual), own)


def _squares(residual: Tensor) -> Tensor:
    return residual.square().sum(dim=1)


@dataclass(frozen=True)
class Line:
    """One condition of optimality, and what to do about an SAE that does not meet it.

    Args:
        score: Measures it.
        above: Beyond this it is not met.
        action: What to do then.
    """

    score: Callable[[OptimalityEvidence], Iterable[HeldOutScore]]
    above: float
    action: str


LINES = {
    "codes": Line(codes, 0.1, "refine the encoder: train longer, or with another k or penalty"),
    "codes_on_support": Line(codes_on_support, 0.05, "refit the activations, as --refit does"),
    "dictionary": Line(dictionary, 0.03, "train longer, and let the learning rate decay"),
    "split": Line(split, 0.02, "widen: each of these latents stands for two"),
    "prune": Line(prune, 0.05, "lower k, or raise the penalty"),
    "absorption": Line(absorption, 0.005, "train a Matryoshka SAE, or with a smaller penalty"),
    "redundant": Line(redundant, 0.02, "narrow, or merge the pairs"),
    "faint": Line(faint, 0.02, "narrow, or raise the penalty"),
    "antipodal": Line(antipodal, 0.02, "merge the pairs, or accept them"),
    "width": Line(width, 1.45, "widen"),
}
"""Name → line, in the order in which they are shown."""
