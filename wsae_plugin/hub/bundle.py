"""Everything that goes into a repository: one folder an SAE, the card, figures, a root config."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsae_plugin.comparison import MANIFEST_FILENAME
from wsae_plugin.errors import BadInputError
from wsae_plugin.hub.card import base_model
from wsae_plugin.hub.exported import load_exported, sha256_of
from wsae_plugin.hub.records import EVAL_FILENAME, SAERecord
from wsae_plugin.hub.remeasure import TOLERANCES, remeasure, why_not_at_hand
from wsae_plugin.json_fields import read_json
from wsae_plugin.training.yaml_file import to_yaml

ROOT_CONFIG = "config.json"
CARD = "README.md"
VERSION = 1
_OF_THIS_MACHINE = ("output_path", "checkpoint_path", "resume_from_checkpoint", "logger")
"""Fields of a config that say where a run was carried out: nobody else's business."""


@dataclass(frozen=True)
class Bundle:
    """A repository that is not uploaded yet.

    Args:
        files: Path in the repository → its content, or the file that holds it.
        unchecked: sae_id → why its scores could not be measured again here.
    """

    files: Mapping[str, bytes | Path]
    unchecked: Mapping[str, str]

    @property
    def card(self) -> str:
        content = self.files[CARD]
        return content.decode() if isinstance(content, bytes) else content.read_text("utf-8")

    def size(self, name: str) -> int:
        """In bytes."""
        content = self.files[name]
        return len(content) if isinstance(content, bytes) else content.stat().st_size


def check_records(records: Sequence[SAERecord]) -> dict[str, str]:
    """Load every SAE with SAELens alone, and measure again those whose model is at hand.

    Returns:
        sae_id → why its scores were not measured again.

    Raises:
        BadInputError: An SAE does not load, or its scores are not those in its eval.json.
    """
    for record in records:
        load_exported(record.run.sae)
    reasons = {r.sae_id: why_not_at_hand(r.cfg, r.evaluation) for r in records}
    differences = remeasure({r.sae_id: r.run.path for r in records if reasons[r.sae_id] is None})
    if differences:
        shown = "; ".join(
            f"{d.sae_id}: {d.what} is {d.found}, recorded {d.recorded}" for d in differences
        )
        raise BadInputError(f"eval.json is not of these weights: {shown}; run `wsae eval` again")
    return {sae_id: reason for sae_id, reason in reasons.items() if reason is not None}


def make_bundle(
    records: Sequence[SAERecord],
    card: str,
    figures: Mapping[str, bytes],
    saebench: Mapping[str, Any] | None = None,
    unchecked: Mapping[str, str] | None = None,
) -> Bundle:
    """Lay out the repository.

    Args:
        records: The SAEs, checked.
        card: README.md.
        figures: Path in the repository → PNG.
        saebench: The scores of these SAEs, if there are any.
        unchecked: From `check_records`.
    """
    files: dict[str, bytes | Path] = {CARD: card.encode(), **figures}
    saes: dict[str, Any] = {}
    for record in records:
        own = _files_of(record)
        files |= {f"{record.sae_id}/{name}": content for name, content in own.items()}
        saes[record.sae_id] = _summary(record) | {
            "sha256": {name: sha256_of(content) for name, content in own.items()}
        }
    if saebench:
        files["saebench/scores.json"] = _json(saebench)
    first = records[0]
    root = {
        "library_name": "saelens",
        "wsae_publication": VERSION,
        "base_model": base_model(first.model_name, first.metadata.get("model_class_name", "")),
        "saes": saes,
        "sha256": {name: sha256_of(content) for name, content in files.items() if name in figures},
    }
    files[ROOT_CONFIG] = _json(root)
    return Bundle(files, unchecked or {})


def saebench_of(paths: Sequence[Path], records: Sequence[SAERecord]) -> dict[str, Any] | None:
    """The scores of saebench/scores.json in comparison folders that are of these SAEs.

    Raises:
        BadInputError: The file is there and broken.
    """
    names = {record.sae_id for record in records}
    scores: list[dict[str, Any]] = []
    for path in paths:
        folder = path.parent if path.name == MANIFEST_FILENAME else path
        file = folder / "saebench" / "scores.json"
        if file.is_file():
            document = read_json(file, "wsae bench")
            try:
                scores += [score for score in document["scores"] if score["run"] in names]
            except (KeyError, TypeError):
                raise BadInputError(f"{file}: scores: missing, or without run") from None
    return {"bench": 1, "scores": scores} if scores else None


def _files_of(record: SAERecord) -> dict[str, bytes | Path]:
    export, folder = record.run.sae, record.run.path
    files: dict[str, bytes | Path] = {
        "cfg.json": export / "cfg.json",
        "sae_weights.safetensors": export / "sae_weights.safetensors",
        "training.yaml": to_yaml(
            {k: v for k, v in record.config.items() if k not in _OF_THIS_MACHINE}
        ).encode(),
        "run.json": _json(
            {
                name: record.record.get(name)
                for name in ("status", "seed", "versions", "git_revision", "started", "ended")
            }
        ),
        EVAL_FILENAME: folder / EVAL_FILENAME,
    }
    optional = {
        "sparsity.safetensors": export / "sparsity.safetensors",
        "gamma.safetensors": export / "gamma.safetensors",
        "metrics.jsonl": folder / "metrics.jsonl",
    }
    return files | {name: path for name, path in optional.items() if path.is_file()}


def _summary(record: SAERecord) -> dict[str, Any]:
    return {
        "hook_name": record.run.hook_name,
        "architecture": record.cfg["architecture"],
        "training_architecture": record.metadata["training_architecture"],
        "d_in": record.cfg["d_in"],
        "d_sae": record.cfg["d_sae"],
        "alpha": record.alpha,
        "gamma_proxy": record.proxy,
        "metrics": {metric: record.scores[metric].value for metric in TOLERANCES},
    }


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()
