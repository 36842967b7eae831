"""One SAE's decoder against another's: would a second training have found the same directions?

Agreement is symmetric and needs no truth; its level means something only beside chance, so two
decoders that know nothing of the other are made here too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import torch
from torch import Tensor

from wsae_plugin.measures.matching import assign, best_matches

LARGEST_ASSIGNMENT = 4096
"""Up to this many latents a one-to-one assignment takes seconds."""

_CURVE_POINTS = 101
_SEEDS_FROM = 7_340_039_000_003
"""Far from every seed that an SAE or its data is likely to be drawn from."""
_CONTROL_SEED = 2505_20254


@dataclass(frozen=True)
class AssignmentAgreement:
    """Latents paired one to one for the largest sum of |cosine| (arXiv 2505.20254's matching).

    Symmetric in the two SAEs where the assignment is unique, as it is for decoders without ties.

    Attributes:
        share: of the pairs whose |cosine| exceeds the threshold, in [0, 1], higher is better.
        mean_cosine: mean |cosine| of the pairs, in [0, 1], higher is better.
        opposite_share: of the pairs whose cosine is negative: opposite directions, which in SAEs
            with non-negative codes are different latents.
        curve: |cosine| of the pairs, highest first; of more than 101, those at 101
            evenly spaced ranks.
    """

    share: float
    mean_cosine: float
    opposite_share: float
    curve: list[float]


@dataclass(frozen=True)
class BestMatchAgreement:
    """Each latent of one SAE with the closest of the other, signed; several may share a partner.

    Attributes:
        share: of the latents whose best cosine exceeds the threshold, in [0, 1], higher is better:
            the consistency of arXiv 2506.14002. One-sided.
        mmcs: mean of the best cosines, in [−1, 1], higher is better. One-sided.
        curve: the best cosines, highest first; of more than 101, those at 101
            evenly spaced ranks.
    """

    share: float
    mmcs: float
    curve: list[float]


@dataclass(frozen=True)
class Agreement:
    """Two SAEs compared.

    Attributes:
        assignment: None where the smaller dictionary exceeds what was allowed.
        forward: the first SAE's latents in the second.
        backward: the second's in the first.
    """

    assignment: AssignmentAgreement | None
    forward: BestMatchAgreement
    backward: BestMatchAgreement


def agreement(
    first: Tensor, second: Tensor, threshold: float = 0.9, largest_assignment: int | None = None
) -> Agreement:
    """Compare two decoders; neither's norms nor the order of its latents matter.

    The one-to-one part takes memory n·m and up to cubic time (see `assign`), the best matches a
    block of cosines.

    Args:
        first: W_dec, shape (n, d_in).
        second: W_dec, shape (m, d_in). With m ≠ n the smaller is assigned whole, and its size is
            what the assignment's share refers to.
        threshold: a cosine; "exceeds" is strict.
        largest_assignment: with min(n, m) above it the assignment is left out; None for no limit.
    """
    small_enough = largest_assignment is None or min(len(first), len(second)) <= largest_assignment
    return Agreement(
        assignment=_assignment(first, second, threshold) if small_enough else None,
        forward=BestMatchAgreement(*_summary(best_matches(first, second)[0], threshold)),
        backward=BestMatchAgreement(*_summary(best_matches(second, first)[0], threshold)),
    )


def agreement_beside_chance(
    first: Tensor, second: Tensor, threshold: float = 0.9, largest_assignment: int | None = None
) -> dict[str, Agreement]:
    """Compare two decoders, and the first with two that know nothing of it.

    Args:
        first: As for `agreement`, as are the others.

    Returns:
        "agreement" of the two; "random", with random directions in place of the second; "rotated",
        with a rotated copy of the second: chance for a dictionary of just this shape.
    """
    others = {
        "agreement": second,
        "random": random_like(second, _CONTROL_SEED),
        "rotated": rotated(second, _CONTROL_SEED),
    }
    return {
        name: agreement(first, other, threshold, largest_assignment)
        for name, other in others.items()
    }


@dataclass(frozen=True)
class Seeds:
    """Runs that differ in their seed alone.

    Args:
        seeds: Theirs.
        decoders: Loads W_dec of each, (d_sae, d_in), when first it is asked how far they agree.
    """

    seeds: Sequence[int]
    decoders: Callable[[], Sequence[Tensor]] = tuple

    @cached_property
    def pairs(self) -> list[dict[str, Agreement]]:
        """`agreement_beside_chance` of every two; none for a single seed."""
        decoders = self.decoders() if len(self.seeds) > 1 else ()
        return [
            agreement_beside_chance(*pair, largest_assignment=LARGEST_ASSIGNMENT)
            for pair in combinations(decoders, 2)
        ]


def random_like(W_dec: Tensor, seed: int) -> Tensor:
    """Draw random directions, uniform on the sphere, with the norms of `W_dec`: chance."""
    directions = torch.nn.functional.normalize(_gaussian(W_dec.shape, seed), dim=1)
    return (directions * W_dec.detach().cpu().double().norm(dim=1, keepdim=True)).to(W_dec)


def rotated(W_dec: Tensor, seed: int) -> Tensor:
    """Turn the input space of `W_dec` by a random orthogonal matrix.

    Every angle between its own latents is kept, so agreement that comes of the dictionary's shape
    alone (clusters, antipodal pairs) survives, and knowledge of the other SAE's axes does not.
    """
    d_in = W_dec.shape[1]
    q, r = torch.linalg.qr(_gaussian((d_in, d_in), seed))
    # Without the signs of r's diagonal, q is not uniform over the orthogonal matrices.
    return (W_dec.detach().cpu().double() @ (q * r.diagonal().sign())).to(W_dec)


def _assignment(first: Tensor, second: Tensor, threshold: float) -> AssignmentAgreement:
    signed = assign(first, second).cosines
    share, mean, curve = _summary(signed.abs(), threshold)
    return AssignmentAgreement(share, mean, float((signed < 0).double().mean()), curve)


def _summary(cosines: Tensor, threshold: float) -> tuple[float, float, list[float]]:
    """The share above the threshold, the mean, and the sorted curve."""
    ranks = torch.linspace(0, len(cosines) - 1, min(len(cosines), _CURVE_POINTS)).round().long()
    curve = cosines.sort(descending=True).values.cpu()[ranks].tolist()
    return float((cosines > threshold).double().mean()), float(cosines.mean()), curve


def _gaussian(shape: Sequence[int], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(_SEEDS_FROM + seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)
