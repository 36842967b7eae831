"""One metric over all runs: levels, paired differences seed by seed, and what stands beside them.

The seed is the unit: everything from one seed (layers, sparsities) shares its data and its initial
weights, so it is averaged first, and only then are seeds counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from wsae_plugin.compare.manifest import ComparedRun
from wsae_plugin.report.inputs import Frame, sparsity_label
from wsae_plugin.statistics import resolution_of, rounded, t_interval

Entry = dict[str, Any]

_PLACE = ["hook_name", "sparsity"]


def pair_runs(
    runs: Sequence[ComparedRun], facts: Mapping[str, Mapping[str, Any]]
) -> tuple[Frame, list[dict[str, str]]]:
    """Pair every run with the baseline of its `pair`, unless they differ in what must be equal.

    Args:
        runs: Every `pair` has exactly one with role "baseline".
        facts: Run → name → value. A value that is None on either side is not known, and is not
            compared.

    Returns:
        A row for each pair, by layer, sparsity and seed: `run`, `baseline`, `arm`, `hook_name`,
        `sparsity`, `seed`, `pair`; and the runs that are compared with nothing: `run`, `baseline`
        and the `reason`, what differs with both values.
    """
    baselines = {run.pair: run.run for run in runs if run.role == "baseline"}
    rows: list[dict[str, Any]] = []
    refused: list[dict[str, str]] = []
    for run in sorted((r for r in runs if r.role != "baseline"), key=_order):
        baseline = baselines[run.pair]
        mine, theirs = facts[run.run], facts[baseline]
        differing = [
            f"{name}: {_differing(mine[name], theirs[name])}"
            for name in mine
            if None not in (mine[name], theirs[name]) and mine[name] != theirs[name]
        ]
        if differing:
            refused.append({"run": run.run, "baseline": baseline, "reason": "; ".join(differing)})
        else:
            place = (run.arm, run.hook_name, sparsity_label(run), run.seed, run.pair)
            rows.append(dict(zip(_COLUMNS, (run.run, baseline, *place), strict=True)))
    order = [run.run for run in runs]
    refused.sort(key=lambda each: order.index(each["run"]))
    return pd.DataFrame(rows, columns=_COLUMNS), refused


_COLUMNS = ["run", "baseline", "arm", "hook_name", "sparsity", "seed", "pair"]


def measured(rows: Frame, pairs: Frame) -> Frame:
    """The pairs in which both runs have the metric, with `after`, `before` and their `difference`.

    Args:
        rows: Scores of one metric, at most one a run.
        pairs: From `pair_runs`.
    """
    values = rows.set_index("run")["value"].astype(float)
    both = pairs.assign(after=pairs["run"].map(values), before=pairs["baseline"].map(values))
    both["difference"] = both["after"] - both["before"]
    return both.dropna(subset=["after", "before"])


def metric_entry(
    rows: Frame,
    pairs: Frame,
    layers: Mapping[str, int | None],
    per_batch: Mapping[str, Sequence[float | None]],
) -> Entry:
    """Everything about one metric but its tests, ready for JSON.

    Args:
        rows: Scores of one (eval, metric), at most one a run.
        pairs: Those that may be compared, from `pair_runs`.
        layers: Hook → its layer.
        per_batch: Run → the metric on each held-out batch, where there is one.

    Returns:
        The score's own fields, `noise` (mean over the runs), `resolution` (of what is paired),
        `chance`, `control`, the `values` and `spreads` of runs, `baseline` (a level), and `arms`:
        arm → level, `per_seed` differences (not rounded: they are tested), wins, ties, losses,
        `over_batches` (half the 95 % interval of the difference over held-out batches, seeds as
        they are), `per_layer`, `per_sparsity`. A number that seeds share, such as their agreement,
        is counted once, and `shared_over_seeds` says so. Arms without a pair in which both runs are
        measured are left out.
    """
    first = rows.iloc[0]
    numbers = rows.set_index("run")[["value", "spread"]].astype(float)
    noise = mean_of(rows["noise"])
    both = measured(rows, pairs)
    resolution = _resolution(both)
    is_shared = _is_shared(both)
    if is_shared:
        both = both.drop_duplicates(["arm", *_PLACE], keep="last")
    baselines = both.drop_duplicates("baseline", keep="last")
    arms: Entry = {}
    for arm in dict.fromkeys(both["arm"]):
        mine = both[both["arm"] == arm]
        arms[arm] = _arm(mine, first["direction"], noise or 0.0, layers)
        arms[arm]["over_batches"] = _over_batches(mine, per_batch)
    return {
        **{n: first[n] for n in ("eval", "metric", "label", "direction", "unit", "definition")},
        "headline": bool(first["headline"]),
        "shared_over_seeds": is_shared,
        "noise": noise,
        "resolution": resolution,
        "chance": mean_of(rows["chance"]),
        "control": mean_of(rows["control"]),
        "notes": list(dict.fromkeys(filter(None, rows["note"]))),
        "unmeasured": [run for run, value in numbers["value"].items() if np.isnan(value)],
        "values": _rounded(numbers["value"]),
        "spreads": _rounded(numbers["spread"]),
        "baseline": level(baselines, "before") | _by_place(baselines, "before", layers),
        "arms": arms,
    }


def contrast(rows: Frame, pairs: Frame, arm: str, other: str) -> list[float]:
    """Differences between two arms within the same `pair`, one for each seed."""
    values = rows.set_index("run")["value"].astype(float)
    valued = pairs.assign(value=pairs["run"].map(values)).dropna(subset=["value"])
    theirs = valued[valued["arm"] == other].set_index("pair")["value"]
    mine = valued[valued["arm"] == arm]
    mine = mine.assign(difference=mine["value"] - mine["pair"].map(theirs))
    return list(seed_means(mine.dropna(subset=["difference"]), "difference").values())


def seed_means(rows: Frame, column: str) -> dict[int, float]:
    """Seed → mean of its values, in the order of the seeds."""
    return {int(seed): float(np.mean(group)) for seed, group in rows.groupby("seed")[column]}


def level(rows: Frame, column: str) -> Entry:
    """The mean over seeds, and their standard deviation (None for one seed)."""
    means = list(seed_means(rows, column).values())
    return {
        "mean": _finite(np.mean(means)) if means else None,
        "sd": _finite(np.std(means, ddof=1)) if len(means) > 1 else None,
        "n_seeds": len(means),
    }


def _arm(rows: Frame, direction: str, noise: float, layers: Mapping[str, int | None]) -> Entry:
    gains = {"up": 1, "down": -1, "none": 0}[direction] * rows["difference"]
    counts = {
        "wins": gains > noise,
        "ties": gains.abs() <= noise,
        "losses": gains < -noise,
    }
    per_seed = seed_means(rows, "difference")
    places = _by_place(rows, "after", layers)
    changes = _by_place(rows, "difference", layers)
    for name, levels in places.items():
        for row, change in zip(levels, changes[name], strict=True):
            row["difference"], row["difference_sd"] = change["mean"], change["sd"]
    return {
        **level(rows, "after"),
        "seeds": list(per_seed),
        "per_seed": list(per_seed.values()),
        "n_pairs": len(rows),
        **{name: None if direction == "none" else int(c.sum()) for name, c in counts.items()},
        **places,
    }


def _by_place(rows: Frame, column: str, layers: Mapping[str, int | None]) -> Entry:
    def by(key: str) -> list[tuple[str, Entry]]:
        return [(str(k), level(group, column)) for k, group in rows.groupby(key, sort=False)]

    return {
        "per_layer": [
            {"layer": layers[hook], "hook_name": hook} | found for hook, found in by("hook_name")
        ],
        "per_sparsity": [{"sparsity": label} | found for label, found in by("sparsity")],
    }


def _over_batches(rows: Frame, per_batch: Mapping[str, Sequence[float | None]]) -> float | None:
    """Half the interval of the mean difference over batches; None unless every pair has two."""
    pairs = [
        (per_batch.get(r), per_batch.get(b))
        for r, b in zip(rows["run"], rows["baseline"], strict=True)
    ]
    if not all(mine and theirs and len(mine) == len(theirs) > 1 for mine, theirs in pairs):
        return None
    differences = [np.asarray(m, dtype=float) - np.asarray(t, dtype=float) for m, t in pairs]
    interval = t_interval(np.mean(differences, axis=0).tolist())
    return _finite((interval.high - interval.low) / 2)


def _resolution(rows: Frame) -> float:
    """The smallest step between runs of pairs; 0 where those of one place are all the same.

    L0 of Top-k is its k, and the step from one k to another says nothing of a difference at one.
    """
    values = rows.melt(_PLACE, ["after", "before"])
    moves = [resolution_of(here) > 0 for _, here in values.groupby(_PLACE)["value"]]
    return resolution_of(values["value"]) if any(moves) else 0.0


def _is_shared(rows: Frame) -> bool:
    """Whether seeds differ nowhere although arms do: then there is one number, not one a seed."""
    same = rows.groupby(["arm", *_PLACE])["after"].nunique().max() == 1
    same_baseline = rows.groupby(_PLACE)["before"].nunique().max() == 1
    several = rows.duplicated(["arm", *_PLACE]).any()
    return bool(several and same and same_baseline and rows["difference"].any())


def _differing(mine: Any, theirs: Any) -> str:
    """`768 against 512`; of mappings, only what differs."""
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
        names = [name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)]
        return ", ".join(f"{name} {mine.get(name)} against {theirs.get(name)}" for name in names)
    return f"{mine} against {theirs}"


def _order(run: ComparedRun) -> tuple[Any, ...]:
    layer = -1 if run.layer is None else run.layer
    return layer, run.hook_name, tuple(run.sparsity.values()), run.seed


def mean_of(numbers: Any) -> float | None:
    """The mean of those that are known, four digits; None where none is."""
    known = numbers.dropna().astype(float)
    return rounded(float(np.mean(known))) if len(known) else None


def _rounded(numbers: Any) -> dict[str, float]:
    return {str(run): rounded(float(value)) for run, value in numbers.dropna().items()}


def _finite(value: Any) -> float | None:
    """Four digits, None for what JSON cannot hold."""
    return rounded(float(value)) if np.isfinite(value) else None
