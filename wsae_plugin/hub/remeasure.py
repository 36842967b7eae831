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

from huggingface_hub import try_to_load_from_cache

from wsae_plugin.assets import BUNDLED_MODEL_NAME
from wsae_plugin.evaluation.evaluate_runs import EvalSettings, evaluate_runs
from wsae_plugin.hub.card import base_model

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


def why_not_at_hand(cfg: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str | None:
    """Why the scores of an SAE cannot be measured here; None where they can."""
    metadata = cfg["metadata"]
    model = metadata["model_name"]
    name = base_model(model, metadata.get("model_class_name", ""))
    if model != BUNDLED_MODEL_NAME and not isinstance(
        try_to_load_from_cache(name, "config.json"), str
    ):
        return f"{name} is not on this machine"
    recorded = evaluation.get("versions", {}).get("python", platform.python_version())
    here = platform.python_version()
    if metadata["dataset_path"] == _BUNDLED and recorded != here:
        return f"its text is the library of Python {recorded}, and this is Python {here}"
    return None


def remeasure(folders: Mapping[str, Path]) -> list[Difference]:
    """Measure SAEs again, on the tokens of their eval.json.

    Args:
        folders: sae_id → a folder with config.yaml, eval.json and sae/. None is written to.

    Returns:
        The scores that differ by more than `TOLERANCES`.
    """
    differences: list[Difference] = []
    with tempfile.TemporaryDirectory(prefix="wsae-") as scratch:
        copies = {sae_id: _copy(path, Path(scratch) / sae_id) for sae_id, path in folders.items()}
        recorded = {sae_id: _read(path) for sae_id, path in folders.items()}
        for settings, sae_ids in _by_settings(recorded):
            documents = evaluate_runs([copies[sae_id] for sae_id in sae_ids], settings)
            for sae_id, document in zip(sae_ids, documents, strict=True):
                differences += _differences(sae_id, recorded[sae_id], document)
    return differences


def _by_settings(
    recorded: Mapping[str, Mapping[str, Any]],
) -> Sequence[tuple[EvalSettings, list[str]]]:
    groups: dict[EvalSettings, list[str]] = {}
    for sae_id, document in recorded.items():
        held_out, settings = document["held_out"], document.get("settings", {})
        dataset = settings.get("dataset")
        chosen = EvalSettings(
            # "name (split)" is how a data set and its split are recorded.
            dataset=None if dataset is None else dataset.removesuffix(")").split(" (")[0],
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
    return json.loads((folder / "eval.json").read_text(encoding="utf-8"))
