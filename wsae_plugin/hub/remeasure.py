"""Whether SAEs reproduce the scores that are recorded of them, by measuring them again."""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsae_plugin.assets import BUNDLED_MODEL_NAME
from wsae_plugin.hub.card import base_model
from wsae_plugin.hub.records import EVAL_FILENAME
from wsae_plugin.local_paths import dataset_and_split, is_local, last_name
from wsae_plugin.measures.evaluate import EvalSettings, evaluate_runs
from wsae_plugin.sources.opening import cached_config

TOLERANCES = {"explained_variance": 1e-4, "l0": 1e-2}
"""How far a score may be from its record: other processors round otherwise."""

_BUNDLED = "bundled"


@dataclass(frozen=True)
class Difference:
    """One thing that is not as recorded.

    Args:
        sae_id: The SAE.
        what: A file or a metric.
        recorded: What the record says.
        found: What is there.
    """

    sae_id: str
    what: str
    recorded: str
    found: str


def needs_local_text(evaluation: Mapping[str, Any]) -> bool:
    """Whether the held-out text was a file or folder of the machine that measured."""
    held_out = evaluation["held_out"]
    recorded = dataset_and_split(str(held_out.get("dataset", "")))[0]
    return bool(held_out.get("dataset_is_local")) or is_local(recorded)


def why_not_at_hand(
    cfg: Mapping[str, Any], evaluation: Mapping[str, Any], dataset: str | None = None
) -> str | None:
    """Why the scores of an SAE cannot be measured here; None where they can.

    Args:
        cfg: Its cfg.json.
        evaluation: Its scores/held_out.json.
        dataset: Where the held-out text is, if it was a local one.
    """
    metadata = cfg["metadata"]
    model = metadata["model_name"]
    name = base_model(model, metadata.get("model_class_name", ""))
    if model != BUNDLED_MODEL_NAME and cached_config(name) is None:
        return f"{name} is not on this machine"
    recorded = (evaluation.get("versions") or {}).get("python", platform.python_version())
    here = platform.python_version()
    if metadata["dataset_path"] == _BUNDLED and recorded != here:
        return f"its text is the library of Python {recorded}, and this is Python {here}"
    if needs_local_text(evaluation) and dataset is None:
        held_out = evaluation["held_out"]
        text, _ = dataset_and_split(str(held_out.get("dataset", "")))
        # What was published has a bare name, and a file of that name here need not be the one.
        if held_out.get("dataset_is_local") or not Path(text).exists():
            return (
                f"its held-out text, {last_name(text)}, was a file of the machine that measured it "
                "(`wsae verify --dataset PATH` says where it is here)"
            )
    return None


def remeasure(folders: Mapping[str, Path], dataset: str | None = None) -> list[Difference]:
    """Measure SAEs again, on the tokens of their scores/held_out.json.

    Args:
        folders: sae_id → a folder with config.yaml, its scores and sae/. None is written to.
        dataset: Where the held-out text is that was a local one; None for where it was.

    Returns:
        The scores that differ by more than `TOLERANCES`.
    """
    differences: list[Difference] = []
    with tempfile.TemporaryDirectory(prefix="wsae-") as scratch:
        copies = {sae_id: _copy(path, Path(scratch) / sae_id) for sae_id, path in folders.items()}
        recorded = {sae_id: _read(path) for sae_id, path in folders.items()}
        for settings, sae_ids in _by_settings(recorded, dataset):
            documents = evaluate_runs([copies[sae_id] for sae_id in sae_ids], settings)
            for sae_id, document in zip(sae_ids, documents, strict=True):
                differences += _differences(sae_id, recorded[sae_id], document)
    return differences


def _by_settings(
    recorded: Mapping[str, Mapping[str, Any]], dataset: str | None
) -> Sequence[tuple[EvalSettings, list[str]]]:
    groups: dict[EvalSettings, list[str]] = {}
    for sae_id, document in recorded.items():
        held_out, text = document["held_out"], (document.get("settings") or {}).get("dataset")
        text = None if text is None else dataset_and_split(text)[0]
        chosen = EvalSettings(
            dataset=dataset if dataset is not None and needs_local_text(document) else text,
            batches=held_out["batches"],
            batch_size_prompts=held_out.get("batch_size_prompts", EvalSettings.batch_size_prompts),
            seed=held_out["seed"],
        )
        groups.setdefault(chosen, []).append(sae_id)
    return list(groups.items())


def _differences(
    sae_id: str, recorded: Mapping[str, Any], measured: Mapping[str, Any]
) -> list[Difference]:
    before, now = values_of(recorded), values_of(measured)
    return [
        Difference(sae_id, metric, f"{before[metric]:.6g}", f"{now[metric]:.6g}")
        for metric, tolerance in TOLERANCES.items()
        if abs(before[metric] - now[metric]) > tolerance
    ]


def values_of(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """metric → value of the scores that have one."""
    return {
        score["metric"]: score["value"]
        for score in evaluation["scores"]
        if score["value"] is not None
    }


def _copy(source: Path, target: Path) -> Path:
    target.mkdir(parents=True)
    shutil.copy(source / "config.yaml", target)
    shutil.copytree(source / "sae", target / "sae")
    return target


def _read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / EVAL_FILENAME).read_text(encoding="utf-8"))
