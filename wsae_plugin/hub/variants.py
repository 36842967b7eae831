"""Many SAEs by what they have in common: one variant is trained in one way, at hooks and seeds."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from wsae_plugin.hub.records import SAERecord

MOST_ROWS = 12
"""A table of more SAEs than this is not read row by row."""


@dataclass(frozen=True)
class Variant:
    """SAEs that differ in their hook and seed alone.

    Args:
        label: For readers.
        records: The SAEs.
    """

    label: str
    records: tuple[SAERecord, ...]

    @property
    def first(self) -> SAERecord:
        return self.records[0]

    @property
    def pattern(self) -> str:
        """The names of the SAEs: with `*` where they differ if that tells them all."""
        patterns = {_pattern(record) for record in self.records}
        if len(self.records) == 1:
            return self.first.sae_id
        return patterns.pop() if len(patterns) == 1 else f"{self.first.sae_id}, …"


@dataclass(frozen=True)
class Level:
    """A number of several SAEs.

    Args:
        mean: Over hooks within each seed, then over seeds.
        sd: Standard deviation over seeds; None for one seed.
    """

    mean: float
    sd: float | None


def variants_of(records: Sequence[SAERecord]) -> list[Variant]:
    """In the order of the records."""
    groups: dict[tuple[object, ...], list[SAERecord]] = {}
    for record in records:
        key = (record.variant, record.sparsity, record.cfg["d_sae"], record.cfg["architecture"])
        groups.setdefault(key, []).append(record)
    labels = [found[0].variant for found in groups.values()]
    return [
        Variant(
            found[0].variant
            if labels.count(found[0].variant) == 1
            else f"{found[0].variant}, {found[0].sparsity}, {found[0].cfg['d_sae']:,} latents",
            tuple(found),
        )
        for found in groups.values()
    ]


def is_worth_grouping(records: Sequence[SAERecord]) -> bool:
    """Whether there are too many SAEs for a row each, and variants are clearly fewer."""
    return len(records) > MOST_ROWS and 2 * len(variants_of(records)) <= len(records)


def level(records: Sequence[SAERecord], value: Callable[[SAERecord], float | None]) -> Level | None:
    """A number over hooks and seeds; None unless every SAE has it. The seed is the unit."""
    by_seed: dict[int, list[float]] = {}
    for record in records:
        found = value(record)
        if found is None:
            return None
        by_seed.setdefault(record.run.seed, []).append(found)
    if not by_seed:
        return None
    means = [fmean(values) for values in by_seed.values()]
    return Level(fmean(means), stdev(means) if len(means) > 1 else None)


def hooks_of(records: Sequence[SAERecord]) -> list[str]:
    """Every hook once, layer by layer."""
    layers = {record.run.hook_name: record.run.layer for record in records}
    return sorted(layers, key=lambda hook: (layers[hook] is None, layers[hook], hook))


def _pattern(record: SAERecord) -> str:
    name = re.sub(rf"(?<![a-z])layer-{record.run.layer}(?=-|$)", "layer-*", record.sae_id)
    return re.sub(rf"(?<![a-z])seed-{record.run.seed}(?=-|$)", "seed-*", name)
