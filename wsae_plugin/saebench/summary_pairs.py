"""Which runs are compared with which, and which of them may not be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wsae_plugin.compare.manifest import ComparedRun


@dataclass(frozen=True)
class Pair:
    """A run and the baseline it is compared with.

    Args:
        run: Of an arm that is not the baseline.
        baseline: It saw the same data in the same order from the same initial weights.
    """

    run: ComparedRun
    baseline: ComparedRun


@dataclass(frozen=True)
class Refused:
    """A run that is compared with nothing.

    Args:
        run: Its name.
        baseline: The name of its baseline.
        reason: What differs, with both values.
    """

    run: str
    baseline: str
    reason: str


def pair_runs(
    runs: Sequence[ComparedRun], facts: Mapping[str, Mapping[str, Any]]
) -> tuple[list[Pair], list[Refused]]:
    """Pair every run with the baseline of its `pair`, unless they differ in what must be equal.

    Args:
        runs: Every `pair` has exactly one with role "baseline".
        facts: Run → name → value. A value that is None on either side is not known, and is not
            compared.

    Returns:
        The pairs, by layer, sparsity and seed, and the runs that are compared with nothing.
    """
    baselines = {run.pair: run for run in runs if run.role == "baseline"}
    pairs: list[Pair] = []
    refused: list[Refused] = []
    for run in runs:
        if run.role == "baseline":
            continue
        baseline = baselines[run.pair]
        mine, theirs = facts[run.run], facts[baseline.run]
        differing = [
            f"{name}: {_differing(mine[name], theirs[name])}"
            for name in mine
            if mine[name] is not None and theirs[name] is not None and mine[name] != theirs[name]
        ]
        if differing:
            refused.append(Refused(run.run, baseline.run, "; ".join(differing)))
        else:
            pairs.append(Pair(run, baseline))
    return sorted(pairs, key=_place), refused


def sparsity_label(run: ComparedRun) -> str:
    """`k = 16`; empty if the comparison varies no sparsity."""
    return ", ".join(f"{name} = {value:g}" for name, value in run.sparsity.items())


def _differing(mine: Any, theirs: Any) -> str:
    """`768 against 512`; of mappings, only what differs."""
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
        names = [name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)]
        return ", ".join(f"{name} {mine.get(name)} against {theirs.get(name)}" for name in names)
    return f"{mine} against {theirs}"


def _place(pair: Pair) -> tuple[Any, ...]:
    run = pair.run
    layer = -1 if run.layer is None else run.layer
    return layer, run.hook_name, tuple(run.sparsity.values()), run.seed
