"""The scores of a benchmark, with their noise; made from records alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wsae_plugin.files import write_json_atomic
from wsae_plugin.saebench.records import Record
from wsae_plugin.scores import Score, ScoreFile

FILENAME = "scores.json"
NAME = "saebench"
"""Of the file of scores in an SAE's folder."""


def read_records(folder: Path) -> list[Record]:
    """All records of a results folder, by eval, run and seed."""
    files = sorted((folder / "records").glob("*/*.json"))
    return [record for file in files if (record := Record.read(file)) is not None]


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
        values = {(v["eval"], v["metric"]): v["value"] for v in other.values}
        for value in record.values:
            key = value["eval"], value["metric"]
            if value["value"] is not None and values.get(key) is not None:
                noise[(record.hook, *key)] = abs(value["value"] - values[key])
    return [
        {
            "run": record.run,
            **dict(
                Score.model_validate(
                    value
                    | {
                        "noise": noise.get((record.hook, value["eval"], value["metric"])),
                        "note": "; ".join(filter(None, (value["note"], *record.notes))),
                    }
                )
            ),
        }
        for record in measured
        for value in record.values
    ]


def write_scores(
    folder: Path,
    records: Sequence[Record],
    seed: int,
    noise_seed: int | None,
    profile: str,
    failures: Mapping[str, str],
    refused: Mapping[str, str],
    versions: Mapping[str, str | None],
    runs: Mapping[str, Path],
) -> dict[str, Any]:
    """Write scores/saebench.json of every run, and all of them into scores.json, for readers.

    Args:
        folder: Of the results.
        records: Those that go in.
        seed: Of the measurement.
        noise_seed: For `noise`.
        profile: "quick" or "standard".
        failures: Eval → what went wrong.
        refused: Eval → why it cannot be run.
        versions: Library → version.
        runs: Run → its folder, of all that were to be measured.

    Returns:
        What scores.json holds.
    """
    measured = [record for record in records if record.seed == seed]
    scores = scores_of(records, seed, noise_seed)

    def evals_of(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for name in dict.fromkeys([*(record.eval for record in records), *failures]):
            mine = [record for record in records if record.eval == name]
            found[name] = {
                "status": "failed" if name in failures else "done",
                "profile": profile,
                "config": mine[0].config if mine else {},
                "seconds": round(sum(record.seconds for record in mine), 3),
                "seed": seed,
                "noise_seed": noise_seed,
            } | ({"error": failures[name]} if name in failures else {})
        return found

    for run, path in runs.items():
        ScoreFile(
            run=run,
            scores=[Score.model_validate(score) for score in scores if score["run"] == run],
            evals=evals_of([record for record in measured if record.run == run]),
            refused={**refused},
            versions={**versions},
        ).write(path, NAME)
    files: dict[str, dict[str, str]] = {}
    for record in measured:
        file = f"results/{record.eval}/{record.run}_custom_sae_eval_results.json"
        files.setdefault(record.eval, {})[record.run] = file
    document = {
        "bench": 1,
        "evals": evals_of(measured),
        "refused": dict(refused),
        "versions": dict(versions),
        "scores": scores,
        "files": files,
    }
    write_json_atomic(folder / FILENAME, document)
    return document
