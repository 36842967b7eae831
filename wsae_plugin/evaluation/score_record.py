"""One score as it stands in eval.json: a value with its direction, chance level and control.

A score that is not finite is null, with the reason in its note.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from torch import Tensor

from wsae_plugin.errors import RunFailedError
from wsae_plugin.evaluation import measures
from wsae_plugin.evaluation.measures import HeldOutSums

Record = dict[str, Any]
Direction = Literal["up", "down", "none"]


def record(
    run: str,
    metric: str,
    label: str,
    value: float | None,
    direction: Direction,
    *,
    headline: bool = False,
    chance: float | None = None,
    control: float | None = None,
    spread: float | None = None,
    note: str = "",
) -> Record:
    """One score of eval.json."""
    if value is not None and not math.isfinite(value):
        value, note = None, f"not finite; {note}".removesuffix("; ")
    return {
        "run": run,
        "eval": "held_out",
        "metric": metric,
        "label": label,
        "value": value,
        "direction": direction,
        "headline": headline,
        "chance": _finite(chance),
        "control": _finite(control),
        "noise": None,
        "spread": _finite(spread),
        "note": note,
    }


def record_of_sums(
    run: str,
    metric: str,
    label: str,
    score: measures.Score,
    sums: HeldOutSums,
    direction: Direction = "up",
    *,
    headline: bool = False,
    chance: float | None = None,
    note: str = "",
) -> Record:
    """A score of sums over batches, with half its 95 % interval over them."""
    value, spread = None, None
    try:
        summary = measures.summarize(score, [sums])
    except RunFailedError as error:
        note = str(error)
    else:
        low, high = summary["interval"]
        value, spread = summary["value"], (high - low) / 2
    return record(
        run,
        metric,
        label,
        value,
        direction,
        headline=headline,
        chance=chance,
        spread=spread,
        note=note,
    )


def finite_list(values: Tensor) -> list[float | None]:
    return [_finite(value) for value in values.tolist()]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
