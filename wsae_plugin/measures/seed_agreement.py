"""How far SAEs that differ in their seed alone found the same latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from torch import Tensor

from wsae_plugin.measures.identifiability import Agreement, agreement, random_like, rotated
from wsae_plugin.measures.identify import LARGEST_ASSIGNMENT
from wsae_plugin.measures.measure import Found

# The number matters only in that no SAE is likely to have been initialised from it.
_CONTROL_SEED = 2505_20254


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
    def agreement(self) -> tuple[Found | None, Found] | None:
        """See `seed_agreement`; None for a single seed."""
        return seed_agreement(self.decoders()) if len(self.seeds) > 1 else None


def seed_agreement(decoders: Sequence[Tensor]) -> tuple[Found | None, Found]:
    """Compare every two decoders.

    Args:
        decoders: W_dec of two or more seeds, each (d_sae, d_in).

    Returns:
        Means over the pairs, in [−1, 1]: of |cosine| of the one-to-one partners (Hungarian; None
        with more than `LARGEST_ASSIGNMENT` latents), and of the largest cosine of each latent, both
        ways (MMCS). Beside each is what knows nothing of the other seed: random directions
        (chance), and a rotated copy, which keeps the angles between its latents (control).
    """
    measured = [_with_controls(first, second) for first, second in combinations(decoders, 2)]
    small_enough = all(pair[0].assignment is not None for pair in measured)
    return (
        _mean(measured, lambda a: a.assignment.mean_cosine if a.assignment else 0.0)
        if small_enough
        else None,
        _mean(measured, lambda a: (a.forward.mmcs + a.backward.mmcs) / 2),
    )


def _with_controls(first: Tensor, second: Tensor) -> list[Agreement]:
    others = (second, random_like(second, _CONTROL_SEED), rotated(second, _CONTROL_SEED))
    return [agreement(first, other, largest_assignment=LARGEST_ASSIGNMENT) for other in others]


def _mean(measured: list[list[Agreement]], of: Callable[[Agreement], float]) -> Found:
    columns = zip(*measured, strict=True)
    value, random, turned = (sum(map(of, column)) / len(column) for column in columns)
    return Found(value, chance=random, control=turned)
