"""scores.json: every score of every run, with its noise; made from records alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wsae_plugin.files import write_json_atomic
from wsae_plugin.saebench.records import Record

FILENAME = "scores.json"


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
            **value,
            "control": None,
            "noise": noise.get((record.hook, value["eval"], value["metric"])),
            "spread": None,
            "note": "; ".join(filter(None, (value["note"], *record.notes))),
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
) -> dict[str, Any]:
    """Write scores.json and return it.

    Args:
        folder: Of the results.
        records: Those that go in.
        seed: Of the measurement.
        noise_seed: For `noise`.
        profile: "quick" or "standard".
        failures: Eval → what went wrong.
        refused: Eval → why it cannot be run.
        versions: Library → version.
    """
    measured = [record for record in records if record.seed == seed]
    evals: dict[str, Any] = {}
    for name in dict.fromkeys([*(record.eval for record in measured), *failures]):
        mine = [record for record in measured if record.eval == name]
        evals[name] = {
            "status": "failed" if name in failures else "done",
            "profile": profile,
            "config": mine[0].config if mine else {},
            "seconds": round(sum(record.seconds for record in mine), 1),
            "seed": seed,
            "noise_seed": noise_seed,
        } | ({"error": failures[name]} if name in failures else {})
    files: dict[str, dict[str, str]] = {}
    for record in measured:
        file = f"results/{record.eval}/{record.run}_custom_sae_eval_results.json"
        files.setdefault(record.eval, {})[record.run] = file
    document = {
        "bench": 1,
        "evals": evals,
        "refused": dict(refused),
        "versions": dict(versions),
        "scores": scores_of(records, seed, noise_seed),
        "files": files,
    }
    write_json_atomic(folder / FILENAME, document)
    return document
