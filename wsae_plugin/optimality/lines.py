"""What any optimum of a dictionary satisfies, a number for each (T1 to T6 of arXiv 2606.02385)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch
from torch import Tensor

from wsae_plugin.measures.measure import HeldOutScore, measure
from wsae_plugin.measures.sums import Found
from wsae_plugin.optimality.coded import Coded
from wsae_plugin.optimality.evidence import OptimalityEvidence
from wsae_plugin.optimality.lasso import unit
from wsae_plugin.optimality.pairs import opposites
from wsae_plugin.optimality.refit import worst_atoms
from wsae_plugin.optimality.splits import best_splits

EVAL = "optimality"

_FAINT = 0.1
"""Of the mean squared code; a latent with less explains next to nothing where it is active."""
_SHOWN = 10
"""Latents, or pairs, that are named for a line."""


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
    best, residual = evidence.best, evidence.after_refit
    left = residual.clone()
    for fits, tries in evidence.halves:
        for each in best_splits(best.of(fits), residual[fits]):
            left[tries] = each.left(best.of(tries), left[tries])
    before = _squares(residual)
    return evidence.share(before - _squares(left), before)


@_line("active latents that cost nothing to drop", "down")
def prune(evidence: OptimalityEvidence) -> Found:
    """Share of active latents whose removal does not raise the squared error of the sample."""
    own = evidence.own
    is_free = (own.values > 0) & (own.costs <= 0)
    return evidence.share(is_free.sum(dim=1), own.l0)


@_line("active latents that absorbed another", "down")
def absorption(evidence: OptimalityEvidence) -> Found:
    """Share of active latents that share a direction with another one, which is active more often
    and yet silent where they are (T7)."""
    return _share_of(evidence, evidence.own, [pair.child for pair in evidence.absorbed])


@_line("active latents with a twin", "down")
def redundant(evidence: OptimalityEvidence) -> Found:
    """Share of active latents, at the best codes, that are one of two of which one atom loses less
    than a twentieth of what both explain."""
    pairs = evidence.twins
    return _share_of(evidence, evidence.best, [latent for pair in pairs for latent in pair])


@_line("active latents that are faint", "down")
def faint(evidence: OptimalityEvidence) -> Found:
    """Share of active latents, at the best codes, that have less than a tenth of the mean
    squared code where they are active."""
    best = evidence.best
    is_atom = best.latents >= 0
    of, squares = best.latents[is_atom], best.values[is_atom].square()
    n_active = best.counts
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
    """Share of active latents of which another one points the other way, with a cosine below
    −0.9."""
    pairs = opposites(evidence.own)
    latents = [latent for pair in pairs for latent in (pair.latent, pair.opposite)]
    return _share_of(evidence, evidence.own, latents)


@_line("what one more atom recovers", "down", unit="×")
def width(evidence: OptimalityEvidence) -> Found:
    """Share of the squared error at the best codes and after a refit that one more atom recovers,
    found on one half of the samples and tried on the other, beside the same share where the
    dictionary is right and noise is alike in all directions: 1 where it is wide enough."""
    # T5 as printed says nothing: a sample with an active atom has ‖r‖ ≥ d·r = λ.
    found, expected = (
        of.share(_gain_of_one_more(of), _squares(of.after_refit))
        for of in (evidence, evidence.if_right)
    )
    if not (found.value and expected.value):
        return replace(found, note="no more atom was found")
    value = found.value / expected.value
    relative = [(each.spread or 0) / (each.value or 1) for each in (found, expected)]
    per_batch = [each / expected.value for each in found.per_batch]
    return Found(value, spread=value * math.hypot(*relative), per_batch=per_batch)


def _gain_of_one_more(evidence: OptimalityEvidence) -> Tensor:
    residual = evidence.after_refit
    gain = torch.zeros_like(residual[:, 0])
    for fits, tries in evidence.halves:
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
    t = unit(residual[chosen], dim=1)
    for _ in range(n_steps):
        t = unit((residual @ t.T).clamp(min=0).T @ residual, dim=1)
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
        latents: Which latents meet it least.
    """

    score: Callable[[OptimalityEvidence], Iterable[HeldOutScore]]
    above: float
    action: str
    latents: Callable[[OptimalityEvidence], list[dict[str, float]]] = lambda _: []


def _worst(evidence: OptimalityEvidence) -> list[dict[str, float]]:
    best = evidence.best
    share = worst_atoms(best) / best.residual.square().sum()
    largest = share.topk(min(_SHOWN, len(share)))
    found = zip(largest.indices.tolist(), largest.values.tolist(), strict=True)
    return [{"latent": latent, "recovers": value} for latent, value in found]


def _split(evidence: OptimalityEvidence) -> list[dict[str, float]]:
    best, left = evidence.best, evidence.after_refit
    whole, found = left.square().sum(), list[dict[str, float]]()
    for each in best_splits(best, left)[:_SHOWN]:
        before, left = left, each.left(best, left)
        recovers = (before.square().sum() - left.square().sum()) / whole
        found.append({"latent": each.latent, "recovers": float(recovers)})
    return found


def _absorbed(evidence: OptimalityEvidence) -> list[dict[str, float]]:
    return [asdict(pair) for pair in evidence.absorbed[:_SHOWN]]


def _twins(evidence: OptimalityEvidence) -> list[dict[str, float]]:
    return [{"latent": a, "twin": b} for a, b in evidence.twins[:_SHOWN]]


def _opposites(evidence: OptimalityEvidence) -> list[dict[str, float]]:
    return [asdict(pair) for pair in opposites(evidence.own)[:_SHOWN]]


LINES = {
    "codes": Line(codes, 0.1, "lower k or raise the penalty, or take an encoder that iterates"),
    "codes_on_support": Line(codes_on_support, 0.05, "the same: the encoder's activations are off"),
    "dictionary": Line(
        dictionary, 0.03, "train longer, let the learning rate decay, or --refit", _worst
    ),
    "split": Line(split, 0.02, "widen: each of these latents stands for two", _split),
    "prune": Line(prune, 0.05, "lower k, raise the penalty, or --prune"),
    "absorption": Line(
        absorption, 0.005, "train a Matryoshka SAE, or with a smaller penalty", _absorbed
    ),
    "redundant": Line(redundant, 0.02, "narrow, or merge the pairs", _twins),
    "faint": Line(faint, 0.02, "narrow, or raise the penalty"),
    "antipodal": Line(antipodal, 0.02, "merge the pairs, or accept them", _opposites),
    "width": Line(width, 1.3, "widen"),
}
"""Name → line, in the order in which they are shown."""
