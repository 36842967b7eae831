"""What a report is computed from: the manifest and the two sources of scores, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from wsae_plugin.compare.manifest import ComparedRun, Comparison
from wsae_plugin.errors import BadInputError
from wsae_plugin.json_fields import JsonSection, read_json
from wsae_plugin.yaml_file import read_yaml

Direction = Literal["up", "down", "none"]


@dataclass(frozen=True)
class Score:
    """One number of one run; the fields are those of a score in eval.json.

    Args:
        run: Whose it is.
        eval: Which evaluation.
        metric: Which of its numbers.
        label: For readers.
        value: None if it could not be measured; `note` says why.
        direction: Which way is better; "none" for what only describes.
        headline: Whether it belongs into the main table.
        chance: What a random answer would score.
        control: What the evaluation's own shuffled control scored.
        noise: Absolute difference under another seed of the measurement.
        note: Remarks.
    """

    run: str
    eval: str
    metric: str
    label: str
    value: float | None
    direction: Direction
    headline: bool
    chance: float | None
    control: float | None
    noise: float | None
    note: str


@dataclass(frozen=True)
class Inputs:
    """Everything that a summary is computed from.

    Args:
        comparison: The manifest.
        scores: Of all runs, from both sources.
        facts: Run → what has to be equal within a pair: name → value, None where not known.
        per_dimension: Run → `gamma` and `explained_variance`, one for each input dimension.
        evaluated: The runs that have an eval.json.
        bench: scores.json without its scores, None if there is none.
        settings: Of the training and of the held-out text, for readers.
        config: The text of comparison.yaml, None if there is none.
    """

    comparison: Comparison
    scores: tuple[Score, ...]
    facts: Mapping[str, Mapping[str, Any]]
    per_dimension: Mapping[str, Mapping[str, list[float | None]]]
    evaluated: frozenset[str]
    bench: Mapping[str, Any] | None
    settings: Mapping[str, Any]
    config: str | None


def read_inputs(folder: Path) -> Inputs:
    """Read manifest.json, every runs/*/eval.json and saebench/scores.json of a comparison folder.

    Raises:
        BadInputError: It is no comparison folder, a file is broken, or there are no scores at all.
    """
    comparison = Comparison.load(folder)
    scores: list[Score] = []
    facts: dict[str, Mapping[str, Any]] = {}
    per_dimension: dict[str, Mapping[str, list[float | None]]] = {}
    evaluated: set[str] = set()
    held_out: dict[str, Any] | None = None
    for run in comparison.runs:
        evaluation = _read_evaluation(run)
        facts[run.run] = _facts(run, evaluation)
        if evaluation is not None:
            evaluated.add(run.run)
            scores += _scores(evaluation, {run.run})
            per_dimension[run.run] = evaluation.value("per_dimension", dict)
            held_out = held_out or evaluation.value("held_out", dict)
    bench_file = comparison.folder / "saebench" / "scores.json"
    bench = None
    if bench_file.is_file():
        bench = JsonSection(read_json(bench_file, made_by="wsae bench"), str(bench_file))
        scores += _scores(bench, {run.run for run in comparison.runs})
    if not scores:
        raise BadInputError(
            f"{comparison.folder}: has no scores, neither runs/*/eval.json nor "
            f"saebench/scores.json; run `wsae eval {folder}` or `wsae bench {folder}` first"
        )
    config_file = comparison.folder / "comparison.yaml"
    if config_file.is_file():
        read_yaml(config_file)  # which refuses what must not be shown
    return Inputs(
        comparison=comparison,
        scores=tuple(scores),
        facts=facts,
        per_dimension=per_dimension,
        evaluated=frozenset(evaluated),
        bench=None if bench is None else {k: v for k, v in bench.fields.items() if k != "scores"},
        settings=_training(comparison) | {"held_out": held_out},
        config=config_file.read_text(encoding="utf-8") if config_file.is_file() else None,
    )


def _read_evaluation(run: ComparedRun) -> JsonSection | None:
    file = run.path / "eval.json"
    if not file.is_file():
        return None
    section = JsonSection(read_json(file, made_by="wsae eval"), str(file))
    if section.value("run", str) != run.run:
        section.refuse("run", f"must be {run.run!r}, the run it lies in; run `wsae eval` again")
    return section


def _facts(run: ComparedRun, evaluation: JsonSection | None) -> dict[str, Any]:
    file = run.sae / "cfg.json"
    cfg = read_json(file, made_by="wsae compare") if file.is_file() else {}
    metadata = cfg.get("metadata") or {}
    return {
        "model": metadata.get("model_name"),
        "hook": run.hook_name,
        "d_sae": cfg.get("d_sae"),
        "sparsity": dict(run.sparsity),
        "held-out text": None if evaluation is None else evaluation.value("held_out", dict),
    }


def _scores(section: JsonSection, runs: set[str]) -> list[Score]:
    scores = [_score(score) for score in section.sections("scores")]
    for number, score in enumerate(scores):
        if score.run not in runs:
            raise BadInputError(
                f"{section.where}: scores[{number}]: run = {score.run!r}: the manifest has no such "
                "run; the scores are of another comparison, measure this one"
            )
    return scores


def _score(section: JsonSection) -> Score:
    def number(field: str) -> float | None:
        return None if section.fields.get(field) is None else section.number(field)

    return Score(
        run=section.value("run", str),
        eval=section.value("eval", str),
        metric=section.value("metric", str),
        label=section.value("label", str),
        value=number("value"),
        direction=section.choice("direction", get_args(Direction)),
        headline=section.value("headline", bool),
        chance=number("chance"),
        control=number("control"),
        noise=number("noise"),
        note=section.fields.get("note") or "",
    )


def _training(comparison: Comparison) -> dict[str, Any]:
    """What the runs' configs say of the training; SAEs may differ in architecture and size."""
    files = [run.path / "config.yaml" for run in comparison.runs]
    configs = {file: read_yaml(file) for file in files if file.is_file()}
    saes = [JsonSection(c.get("sae") or {}, f"{file}: sae").fields for file, c in configs.items()]
    architectures = dict.fromkeys(str(sae["architecture"]) for sae in saes if "architecture" in sae)
    widths = {str(sae.get("d_sae")): sae.get("d_sae") for sae in saes}
    return {
        "training_tokens": next(iter(configs.values()), {}).get("training_tokens"),
        "architecture": " and ".join(architectures) or None,
        "d_sae": next(iter(widths.values())) if len(widths) == 1 else None,
    }
