"""What is kept of each measurement, and the scores that are made from these records alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from wsae_plugin.files import write_json_atomic
from wsae_plugin.saebench import library
from wsae_plugin.saebench.evals.base import Metric
from wsae_plugin.saebench.evals.table import REFUSED
from wsae_plugin.scores import Score, ScoreFile
from wsae_plugin.validation import read_json

if TYPE_CHECKING:
    from wsae_plugin.saebench.request import Request

FILENAME = "scores.json"
NAME = "saebench"
"""Of the file of scores in an SAE's folder."""


class Record(BaseModel):
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
        values: The scores, as yet without their noise.
    """

    model_config = ConfigDict(strict=True, frozen=True)

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
    values: list[Score]

    def write(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(file, self.model_dump())

    @classmethod
    def read(cls, file: Path) -> Record | None:
        """The record in `file`; None if there is none, or one that would be written otherwise."""
        if not file.is_file():
            return None
        document = read_json(file, made_by="wsae bench")
        try:
            record = cls.model_validate(document)
        except ValidationError:
            return None
        return record if record.model_dump() == document else None


def record_file(folder: Path, eval_name: str, run: str, seed: int) -> Path:
    """Where the record is: `records/core/<run>.seed-0.json`."""
    return folder / "records" / eval_name / f"{run}.seed-{seed}.json"


def read_records(folder: Path) -> list[Record]:
    """All records of a results folder, by eval, run and seed."""
    files = sorted((folder / "records").glob("*/*.json"))
    return [record for file in files if (record := Record.read(file)) is not None]


def values_of(
    eval_name: str, metrics: Sequence[Metric], result_file: Path, further: Mapping[str, float]
) -> list[Score]:
    """The numbers of a result of SAEBench, and those measured beside it.

    Args:
        eval_name: As on the command line.
        metrics: What to read.
        result_file: SAEBench's JSON, which may hold NaN.
        further: Numbers measured beside it, by name.
    """
    result = json.loads(result_file.read_text(encoding="utf-8"))["eval_result_metrics"]
    scores: list[Score] = []
    for metric in metrics:
        place = result.get(metric.category) if metric.category else further
        value, note = (place or {}).get(metric.metric), metric.note
        if value is None:
            note = "SAEBench gives no value: the quantity is not defined for this SAE"
        elif not math.isfinite(value) or value == metric.missing:
            value, note = None, "not a number"
        own = {"eval": metric.eval or f"saebench/{eval_name}", "value": value, "note": note}
        scores.append(Score.model_validate(dict(metric) | own))
    return scores


def scores_of(records: Sequence[Record], seed: int, noise_seed: int | None) -> list[dict[str, Any]]:
    """The scores of those measured with `seed`, with the noise of their hook.

    `noise` is how far the same SAE's score moves under `noise_seed`: |difference|.
    """
    measured = [record for record in records if record.seed == seed]
    again = {(r.eval, r.run): r for r in records if noise_seed is not None and r.seed == noise_seed}
    noise: dict[tuple[str, ...], float] = {}
    for record in measured:
        other = again.get((record.eval, record.run))
        if other is None or other.sae != record.sae:
            continue
        values = {(score.eval, score.metric): score.value for score in other.values}
        for score in record.values:
            key = score.eval, score.metric
            if score.value is not None and (value := values.get(key)) is not None:
                noise[(record.hook, *key)] = abs(score.value - value)
    return [
        {"run": record.run}
        | score.model_dump()
        | {
            "noise": noise.get((record.hook, score.eval, score.metric)),
            "note": "; ".join(filter(None, (score.note, *record.notes))),
        }
        for record in measured
        for score in record.values
    ]


def write_scores(
    folder: Path,
    records: Sequence[Record],
    request: Request,
    failures: Mapping[str, str],
    runs: Mapping[str, Path],
) -> dict[str, Any]:
    """Write scores/saebench.json of every run, and all of them into scores.json, for readers.

    Args:
        folder: Of the results.
        records: Those that go in.
        request: What was asked for.
        failures: Eval → what went wrong.
        runs: Run → its folder, of all that were to be measured.

    Returns:
        What scores.json holds.
    """
    measured = [record for record in records if record.seed == request.seed]
    scores = scores_of(records, request.seed, request.noise_seed)
    versions = library.versions()

    def evals_of(records: Sequence[Record]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in dict.fromkeys([*(record.eval for record in records), *failures]):
            mine = [record for record in records if record.eval == name]
            found[name] = {
                "status": "failed" if name in failures else "done",
                "profile": request.profile,
                "config": mine[0].config if mine else {},
                "seconds": round(sum(record.seconds for record in mine), 3),
                "seed": request.seed,
                "noise_seed": request.noise_seed,
            } | ({"error": failures[name]} if name in failures else {})
        return found

    for run, path in runs.items():
        ScoreFile(
            run=run,
            scores=[Score.model_validate(score) for score in scores if score["run"] == run],
            evals=evals_of([record for record in measured if record.run == run]),
            refused=REFUSED,
            versions=versions,
        ).write(path, NAME)
    files: dict[str, dict[str, str]] = {}
    for record in measured:
        file = f"results/{record.eval}/{record.run}_custom_sae_eval_results.json"
        files.setdefault(record.eval, {})[record.run] = file
    document = {
        "bench": 1,
        "evals": evals_of(measured),
        "refused": REFUSED,
        "versions": versions,
        "scores": scores,
        "files": files,
    }
    write_json_atomic(folder / FILENAME, document)
    return document
