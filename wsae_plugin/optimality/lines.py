"""What any optimum of a dictionary satisfies, a number for each (T1 to T6 of arXiv 2606.02385)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from wsae_plugin.measures.measure import HeldOutScore, measure
from wsae_plugin.measures.sums import Found
from wsae_plugin.optimality.evidence import OptimalityEvidence
from wsae_plugin.optimality.refit import refitted

EVAL = "optimality"

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
    best, half = evidence.best, _halves(evidence)
    after = torch.zeros_like(best.x)
    for fits, tries in ((half, ~half), (~half, half)):
        atoms = refitted(best.of(fits))
        after[tries] = replace(best.of(tries), atoms=atoms).residual
    before = _squares(best.residual)
    return evidence.share(before - _squares(after), before)


@_line("active latents that cost nothing to drop", "down")
def prune(evidence: OptimalityEvidence) -> Found:
    """Share of active latents whose removal does not raise the squared error of the sample."""
    own = evidence.own
    # ‖r + z d‖² − ‖r‖² = 2 z dᵀr + z².
    along = torch.einsum("nad,nd->na", own.atoms[own.latents.clamp(min=0)], own.residual)
    is_free = (own.values > 0) & (2 * along + own.values <= 0)
    return evidence.share(is_free.sum(dim=1), own.l0)


@_line("active latents with an opposite", "down")
def antipodal(evidence: OptimalityEvidence) -> Found:
    """Share of active latents of which another one points the other way, by a cosine below −0.9."""
    own = evidence.own
    smallest = torch.cat([(rows @ own.atoms.T).amin(dim=1) for rows in own.atoms.split(1024)])
    is_one = (own.values > 0) & (smallest < OPPOSITE)[own.latents.clamp(min=0)]
    return evidence.share(is_one.sum(dim=1), own.l0)


@_line("error that one more atom recovers", "down")
def width(evidence: OptimalityEvidence) -> Found:
    """Share of the squared error at the best codes that one more atom recovers, times the number of
    atoms that there are: found on one half of the samples, tried on the other.

    As printed, T5 says nothing: a sample with an active atom has ‖r‖ ≥ d·r = λ.
    """
    residual, half = evidence.best.residual, _halves(evidence)
    gain = torch.zeros(len(residual), dtype=residual.dtype, device=residual.device)
    for fits, tries in ((half, ~half), (~half, half)):
        atom = one_more_atom(residual[fits], evidence.seed)
        gain[tries] = (residual[tries] @ atom).clamp(min=0).square()
    return evidence.share(len(evidence.own.atoms) * gain, _squares(residual))


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


def _halves(evidence: OptimalityEvidence) -> Tensor:
    """Every other batch, shape (n,), bool."""
    return evidence.batch % 2 == 0


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
    "prune": Line(prune, 0.05, "lower k, or raise the penalty"),
    "antipodal": Line(antipodal, 0.05, "merge the pairs, or accept them"),
    "width": Line(width, 2.0, "widen"),
}
"""Name → line, in the order in which they are shown."""
