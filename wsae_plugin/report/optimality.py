"""How far the SAEs of each arm are from any optimum of a dictionary, condition by condition."""

from __future__ import annotations

from typing import Any

from wsae_plugin.report.inputs import Frame, Inputs
from wsae_plugin.report.paired import level, mean_of
from wsae_plugin.scores import OPTIMALITY, OptimalityFile
from wsae_plugin.statistics import rounded


def optimality(inputs: Inputs) -> dict[str, Any] | None:
    """What scores/optimality.json of the runs say together; None where no run has one.

    Returns:
        `lines`: for each condition `metric`, `label`, `direction`, the `actions` where it is not
        met, and `arms`: arm → level, `spread` (half the interval over batches, of an arm of one
        run), `control`, `n_runs`, `n_unmet`. Then `duality_gap`, the largest; `samples` and
        `penalty`, their [smallest, largest]; and `is_matched`, whether λ was chosen so that optimal
        codes are as sparse as the SAE's, everywhere.
    """
    files = {
        run: file
        for run, scores in inputs.scores.items()
        if isinstance(file := scores.get(OPTIMALITY), OptimalityFile)
    }
    if not files:
        return None
    rows = inputs.table[inputs.table["eval"] == OPTIMALITY]
    actions = {
        (run, line["name"]): line["action"] for run, file in files.items() for line in file.lines
    }
    names = dict.fromkeys(name for _, name in actions)
    samples, penalties = ([getattr(f, n) for f in files.values()] for n in ("samples", "penalty"))
    return {
        "lines": [_line(rows[rows["metric"] == name], actions) for name in names],
        "duality_gap": rounded(max(file.duality_gap for file in files.values())),
        "samples": [min(samples), max(samples)],
        "penalty": [rounded(min(penalties)), rounded(max(penalties))],
        "is_matched": all(file.settings["penalty"] is None for file in files.values()),
    }


def _line(rows: Frame, actions: dict[tuple[str, str], str | None]) -> dict[str, Any]:
    """One condition.

    Args:
        rows: The scores of its metric.
        actions: (run, metric) → what to do; None where the condition is met.
    """
    first = rows.iloc[0]
    told = rows.assign(
        value=rows["value"].astype(float),
        action=[actions.get(key) for key in zip(rows["run"], rows["metric"], strict=True)],
    ).dropna(subset=["value"])
    return {
        **{name: first[name] for name in ("metric", "label", "direction")},
        "actions": [*told["action"].dropna().unique()],
        "arms": {
            arm: {
                **level(of_arm, "value"),
                "spread": mean_of(of_arm["spread"]) if len(of_arm) == 1 else None,
                "control": mean_of(of_arm["control"]),
                "n_runs": len(of_arm),
                "n_unmet": int(of_arm["action"].count()),
            }
            for arm, of_arm in told.groupby("arm", sort=False)
        },
    }
