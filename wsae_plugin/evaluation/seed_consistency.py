"""How far SAEs that differ in their seed alone found the same latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

from torch import Tensor

from wsae_plugin.measures.identifiability import Agreement, agreement, random_like, rotated
from wsae_plugin.measures.identify import LARGEST_ASSIGNMENT

# The number matters only in that no SAE is likely to have been initialised from it.
_CONTROL_SEED = 2505_20254


@dataclass(frozen=True)
class Matched:
    """A mean over all pairs of seeds, beside what knows nothing of the other seed.

    Attributes:
        value: as it is, in [−1, 1], higher is better.
        random: against random directions.
        rotated: against a rotated copy, which keeps the angles between its latents.
    """

    value: float
    random: float
    rotated: float


@dataclass(frozen=True)
class SeedConsistency:
    """Agreement of the decoders of two or more seeds.

    Attributes:
        assigned: mean |cosine| of the one-to-one partners (Hungarian); None with more than
            `LARGEST_ASSIGNMENT` latents.
        best_match: mean of the largest cosine of each latent, both ways (MMCS).
    """

    assigned: Matched | None
    best_match: Matched


def seed_consistency(decoders: Sequence[Tensor]) -> SeedConsistency:
    """Compare every two decoders.

    Args:
        decoders: W_dec of two or more seeds, each (d_sae, d_in).
    """
    measured = [_with_controls(first, second) for first, second in combinations(decoders, 2)]
    small_enough = all(pair[0].assignment is not None for pair in measured)
    return SeedConsistency(
        assigned=_mean(measured, _assigned) if small_enough else None,
        best_match=_mean(measured, _best_match),
    )


def _with_controls(first: Tensor, second: Tensor) -> list[Agreement]:
    others = (second, random_like(second, _CONTROL_SEED), rotated(second, _CONTROL_SEED))
    return [agreement(first, other, largest_assignment=LARGEST_ASSIGNMENT) for other in others]


def _mean(measured: list[list[Agreement]], of: Callable[[Agreement], float]) -> Matched:
    return Matched(*(sum(map(of, column)) / len(column) for column in zip(*measured, strict=True)))


def _assigned(measured: Agreement) -> float:
    assert measured.assignment is not None
    return measured.assignment.mean_cosine


def _best_match(measured: Agreement) -> float:
    return (measured.forward.mmcs + measured.backward.mmcs) / 2
