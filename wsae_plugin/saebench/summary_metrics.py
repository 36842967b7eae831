"""One metric over all runs: levels, paired differences seed by seed, and what stands beside them.

The seed is the unit: everything from one seed (layers, sparsities) shares its data and its initial
weights, so it is averaged first, and only then are seeds counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from wsae_plugin.saebench.summary_inputs import Score
from wsae_plugin.saebench.summary_pairs import Pair, sparsity_label
from wsae_plugin.statistics import resolution_of, rounded

Values = Mapping[str, float]


def metric_entry(scores: Sequence[Score], pairs: Sequence[Pair]) -> dict[str, Any]:
    """Everything about one metric but its tests, ready for JSON.

    Args:
        scores: Of one (eval, metric), at most one a run.
        pairs: Those that may be compared, in the order of layers and sparsities.

    Returns:
        The score's own fields, `noise` (mean over the runs), `resolution` (see `resolution_of`),
        `chance`, `control`, `baseline` (a level), and `arms`: arm → level, `per_seed` differences
        (not rounded: they are tested), wins, ties, losses, `per_layer`, `per_sparsity`. A number
        that seeds share, such as their agreement, is counted once, and `shared_over_seeds` says so.
        Arms without a pair in which both runs are measured are left out.
    """
    first = scores[0]
    values = {score.run: score.value for score in scores if score.value is not None}
    noise = _mean_of(score.noise for score in scores)
    measured = [p for p in pairs if p.run.run in values and p.baseline.run in values]
    is_shared = _is_shared(measured, values)
    if is_shared:
        measured = list({(p.run.arm, _layer(p), _sparsity(p)): p for p in measured}.values())
    baselines = list({pair.baseline.run: pair for pair in measured}.values())
    return {
        "eval": first.eval,
        "metric": first.metric,
        "label": first.label,
        "direction": first.direction,
        "headline": first.headline,
        "shared_over_seeds": is_shared,
        "noise": noise,
        "resolution": resolution_of(values.values()),
        "chance": _mean_of(score.chance for score in scores),
        "control": _mean_of(score.control for score in scores),
        "notes": list(dict.fromkeys(score.note for score in scores if score.note)),
        "unmeasured": [score.run for score in scores if score.value is None],
        "baseline": {
            **level((pair.baseline.seed, values[pair.baseline.run]) for pair in baselines),
            "per_layer": _by(baselines, _layer, lambda p: values[p.baseline.run]),
            "per_sparsity": _by(baselines, _sparsity, lambda p: values[p.baseline.run]),
        },
        "arms": {
            arm: _arm(
                [pair for pair in measured if pair.run.arm == arm],
                values,
                first.direction,
                noise or 0.0,
            )
            for arm in dict.fromkeys(pair.run.arm for pair in measured)
        },
    }


def contrast(values: Values, arm: Iterable[Pair], other: Iterable[Pair]) -> list[float]:
    """Differences between two arms within the same `pair`, one for each seed.

    Args:
        values: Run → value.
        arm: Pairs of the arm that is subtracted from.
        other: Pairs of the arm that is subtracted.
    """
    others = {pair.run.pair: pair.run.run for pair in other}
    items = [
        (pair.run.seed, values[pair.run.run] - values[others[pair.run.pair]])
        for pair in arm
        if pair.run.run in values and others.get(pair.run.pair) in values
    ]
    return list(seed_means(items).values())


def seed_means(items: Iterable[tuple[int, float]]) -> dict[int, float]:
    """Seed → mean of its values, in the order of the seeds."""
    by_seed: dict[int, list[float]] = defaultdict(list)
    for seed, value in items:
        by_seed[seed].append(value)
    return {seed: float(np.mean(by_seed[seed])) for seed in sorted(by_seed)}


def level(items: Iterable[tuple[int, float]]) -> dict[str, Any]:
    """The mean over seeds, and their standard deviation (None for one seed)."""
    means = list(seed_means(items).values())
    return {
        "mean": rounded_or_none(np.mean(means)) if means else None,
        "sd": rounded_or_none(np.std(means, ddof=1)) if len(means) > 1 else None,
        "n_seeds": len(means),
    }


def rounded_or_none(value: Any) -> float | None:
    """Four digits, None for what JSON cannot hold."""
    return rounded(float(value)) if np.isfinite(value) else None


def _is_shared(pairs: Sequence[Pair], values: Values) -> bool:
    """Whether seeds differ nowhere although arms do: then there is one number, not one a seed."""
    groups: dict[Any, set[float]] = defaultdict(set)
    for pair in pairs:
        for run in (pair.run, pair.baseline):
            groups[run.arm, run.hook_name, sparsity_label(run)].add(values[run.run])
    return (
        len({pair.run.seed for pair in pairs}) > 1
        and all(len(group) == 1 for group in groups.values())
        and any(values[pair.run.run] != values[pair.baseline.run] for pair in pairs)
    )


def _arm(pairs: list[Pair], values: Values, direction: str, noise: float) -> dict[str, Any]:
    def difference(pair: Pair) -> float:
        return values[pair.run.run] - values[pair.baseline.run]

    sign = {"up": 1, "down": -1, "none": 0}[direction]
    gains = [sign * difference(pair) for pair in pairs]
    per_seed = seed_means((pair.run.seed, difference(pair)) for pair in pairs)
    entry: dict[str, Any] = level((pair.run.seed, values[pair.run.run]) for pair in pairs)
    entry |= {
        "seeds": list(per_seed),
        "per_seed": list(per_seed.values()),
        "n_pairs": len(pairs),
        "wins": None if sign == 0 else sum(gain > noise for gain in gains),
        "ties": None if sign == 0 else sum(abs(gain) <= noise for gain in gains),
        "losses": None if sign == 0 else sum(gain < -noise for gain in gains),
    }
    for name, group in (("per_layer", _layer), ("per_sparsity", _sparsity)):
        levels = _by(pairs, group, lambda pair: values[pair.run.run])
        for row, change in zip(levels, _by(pairs, group, difference), strict=True):
            row["difference"], row["difference_sd"] = change["mean"], change["sd"]
        entry[name] = levels
    return entry


def _by(
    pairs: Sequence[Pair],
    group: Callable[[Pair], tuple[tuple[str, Any], ...]],
    value: Callable[[Pair], float],
) -> list[dict[str, Any]]:
    groups: dict[Any, list[Pair]] = defaultdict(list)
    for pair in pairs:
        groups[group(pair)].append(pair)
    return [
        dict(key) | level((pair.run.seed, value(pair)) for pair in groups[key]) for key in groups
    ]


def _layer(pair: Pair) -> tuple[tuple[str, Any], ...]:
    return (("layer", pair.run.layer), ("hook_name", pair.run.hook_name))


def _sparsity(pair: Pair) -> tuple[tuple[str, Any], ...]:
    return (("sparsity", sparsity_label(pair.run)),)


def _mean_of(numbers: Iterable[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return rounded(float(np.mean(known))) if known else None
