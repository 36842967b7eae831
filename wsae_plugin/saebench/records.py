"""What is kept of each measurement: what was asked, what came out, how long it took."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wsae_plugin.files import write_json_atomic
from wsae_plugin.json_fields import read_json
from wsae_plugin.saebench.evals.base import Metric


@dataclass(frozen=True)
class Record:
    """One SAE, measured in one eval.

    Args:
        eval: The eval's name.
        run: The run's name.
        arm: The arm's.
        hook: The language model and the hook; baselines of one hook give its noise.
        protocol: Fingerprint of all that the measurement depends on but the SAE; scores of
            different protocols must not be compared.
        sae: Fingerprint of the SAE.
        seed: Of the measurement.
        config: What SAEBench was asked.
        seconds: Wall-clock time, without what is shared by SAEs.
        notes: What is to be said of the scores.
        values: One dict a number, with `eval`, `metric`, `value` and the fields of its `Metric`.
    """

    eval: str
    run: str
    arm: str
    hook: str
    protocol: str
    sae: str
    seed: int
    config: dict[str, Any]
    seconds: float
    notes: list[str]
    values: list[dict[str, Any]]

    def write(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(file, asdict(self))

    @classmethod
    def read(cls, file: Path) -> Record | None:
        """The record in `file`; None if there is none, or one of another version."""
        if not file.is_file():
            return None
        try:
            return cls(**read_json(file, made_by="wsae bench"))
        except TypeError:
            return None


def record_file(folder: Path, eval_name: str, run: str, seed: int) -> Path:
    """Where the record is: `records/core/<run>.seed-0.json`."""
    return folder / "records" / eval_name / f"{run}.seed-{seed}.json"


def values_of(
    eval_name: str, metrics: Sequence[Metric], result_file: Path, further: Mapping[str, float]
) -> list[dict[str, Any]]:
    """The numbers of a result of SAEBench, and those measured beside it.

    Args:
        eval_name: As on the command line.
        metrics: What to read.
        result_file: SAEBench's JSON, which may hold NaN.
        further: Numbers measured beside it, by name.
    """
    result = json.loads(result_file.read_text(encoding="utf-8"))["eval_result_metrics"]
    places = [result.get(m.category) if m.category else further for m in metrics]
    return [
        _value(metric.eval or f"saebench/{eval_name}", metric, (place or {}).get(metric.name))
        for metric, place in zip(metrics, places, strict=True)
    ]


def _value(eval_name: str, metric: Metric, value: float | None) -> dict[str, Any]:
    note = metric.note
    if value is None:
        note = "SAEBench gives no value: the quantity is not defined for this SAE"
    elif not math.isfinite(value) or value == metric.missing:
        value, note = None, "not a number"
    return {
        "eval": eval_name,
        "metric": metric.name,
        "label": metric.label,
        "value": value,
        "direction": metric.direction,
        "headline": metric.headline,
        "chance": metric.chance,
        "note": note,
        "definition": metric.definition,
    }
