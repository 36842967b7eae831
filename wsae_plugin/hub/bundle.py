"""Everything that goes into a repository: one folder an SAE, the card, figures, a root config."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save

from wsae_plugin.credentials import refuse_credentials
from wsae_plugin.errors import BadInputError
from wsae_plugin.files import sha256_of
from wsae_plugin.gamma import shuffled
from wsae_plugin.gamma.proxies import SHUFFLED
from wsae_plugin.hub.card import MOST_ROWS, CardOptions, make_card, published
from wsae_plugin.hub.exported import check_exported
from wsae_plugin.hub.records import HELD_OUT, SAERecord, read_records
from wsae_plugin.hub.remeasure import (
    TOLERANCES,
    compare,
    local_paths_of,
    needs_local_text,
)
from wsae_plugin.local_paths import without_local_paths
from wsae_plugin.messages import refusals_as_bad_input
from wsae_plugin.saes.metric import METRIC_FILENAME
from wsae_plugin.saved_run import TRAINING
from wsae_plugin.scores import file_of
from wsae_plugin.sources import runner_config_of
from wsae_plugin.validation import hints_of
from wsae_plugin.yaml_file import to_yaml

ROOT_CONFIG = "config.json"
CARD = "README.md"
VERSION = 1
_OF_THIS_MACHINE = ("output_path", "checkpoint_path", "resume_from_checkpoint", "logger")
"""Fields of a config that say where a run was carried out: nobody else's business."""
_METRICS = "metrics.jsonl"
_PROXY = "proxy.safetensors"
"""What `gamma_file` of a published config names: s, for the proxy that reads it from a file."""


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
    def saes(self) -> list[str]:
        """The names of the SAEs."""
        ending = "/cfg.json"
        return [name.removesuffix(ending) for name in self.files if name.endswith(ending)]

    @property
    def sizes(self) -> dict[str, int]:
        """Path → bytes."""
        return {
            name: len(content) if isinstance(content, bytes) else content.stat().st_size
            for name, content in self.files.items()
        }

    def listed(self, most_saes: int = MOST_ROWS) -> dict[str, int]:
        """Every file and its bytes; of more SAEs than `most_saes`, their folders."""
        if len(self.saes) <= most_saes:
            return self.sizes
        folders: dict[str, list[int]] = {}
        for name, size in self.sizes.items():
            folder, _, rest = name.partition("/")
            folders.setdefault(f"{folder}/" if rest else folder, []).append(size)
        return {
            f"{name} ({len(sizes)} files)" if name.endswith("/") else name: sum(sizes)
            for name, sizes in folders.items()
        }


def bundle_of(paths: Sequence[Path], options: CardOptions) -> Bundle:
    """Check the SAEs in comparison folders and run folders, and lay out their repository.

    Raises:
        BadInputError: See `read_records`, `check_exported`, `make_card`, `check_records` and
            `make_bundle`.
    """
    found = read_records(paths)
    for record in found:
        check_exported(record)
    records = published(found, options)
    card, figures = make_card(paths, records, options)
    return make_bundle(records, card, figures, check_records(found))


def check_records(records: Sequence[SAERecord]) -> dict[str, str]:
    """Measure the SAEs whose model is at hand again.

    Returns:
        sae_id → why its scores were not measured again.

    Raises:
        BadInputError: The configs of an SAE do not agree, or its scores are not those in its
            scores/held_out.json.
    """
    differences, reasons = compare(records)
    if differences:
        shown = "; ".join(
            f"{d.sae_id}: {d.what} is {d.found}, recorded {d.recorded}" for d in differences
        )
        raise BadInputError(
            f"{shown}: they are not of one run; run `wsae eval` again if the SAE was trained again"
        )
    return reasons


def make_bundle(
    records: Sequence[SAERecord],
    card: str,
    figures: Mapping[str, bytes],
    unchecked: Mapping[str, str] | None = None,
) -> Bundle:
    """Lay out the repository.

    Args:
        records: The SAEs, checked.
        card: README.md.
        figures: Path in the repository → PNG.
        unchecked: From `check_records`.

    Raises:
        BadInputError: One of the files would hold a credential.
    """
    files: dict[str, bytes | Path] = {CARD: card.encode(), **figures}
    saes: dict[str, Any] = {}
    for record in records:
        own = _files_of(record)
        files |= {f"{record.sae_id}/{name}": content for name, content in own.items()}
        saes[record.sae_id] = _summary(record) | {
            "sha256": {name: sha256_of(content) for name, content in own.items()}
        }
    root = {
        "library_name": "saelens",
        "wsae_publication": VERSION,
        "base_model": records[0].base_model,
        "saes": saes,
        "sha256": {name: sha256_of(content) for name, content in files.items() if name in figures},
    }
    files[ROOT_CONFIG] = _json(root)
    refuse_credentials(list(files), "the names of the files")
    for name, content in files.items():
        refuse_credentials(_said_in(name, content), name)
    return Bundle(files, unchecked or {})


def _files_of(record: SAERecord) -> dict[str, bytes | Path]:
    """Without any path of this machine: what was a file here keeps its name alone."""
    export, folder = record.run.sae, record.run.path
    paths = local_paths_of(record)
    files: dict[str, bytes | Path] = {
        "cfg.json": _json(without_local_paths(record.cfg, paths)),
        "sae_weights.safetensors": export / "sae_weights.safetensors",
        TRAINING: to_yaml(without_local_paths(_public_config(record), paths)).encode(),
        "run.json": _json(
            without_local_paths(
                {
                    name: record.record.get(name)
                    for name in ("status", "seed", "versions", "git_revision", "started", "ended")
                }
            )
        ),
    }
    for name, scores in record.scores.items():
        document = without_local_paths(scores.model_dump(), paths)
        if name == HELD_OUT and needs_local_text(record):
            document["held_out"]["dataset_is_local"] = True
        files[str(file_of(Path(), name))] = _json(document)
    if _reads_file(record):
        files[_PROXY] = save({"proxy": _proxy_read(record)})
    if (folder / _METRICS).is_file():
        with refusals_as_bad_input(str(folder / _METRICS)):
            lines = (folder / _METRICS).read_text(encoding="utf-8").splitlines()
            files[_METRICS] = "".join(
                json.dumps(without_local_paths(json.loads(line))) + "\n" for line in lines
            ).encode()
    # Where a plain SAE was saved over a weighted one, the other's Γ is still there.
    gamma = ("gamma.safetensors",) if "alpha" in record.details else ()
    metric = (METRIC_FILENAME,) if record.metric is not None else ()
    optional = ("sparsity.safetensors", *gamma, *metric)
    return files | {name: export / name for name in optional if (export / name).is_file()}


def _reads_file(record: SAERecord) -> bool:
    return (record.proxy or "").removeprefix(SHUFFLED) == "file"


def _proxy_read(record: SAERecord) -> torch.Tensor:
    """s as it stood in the file, also where the SAE shuffled it."""
    s = load_file(record.gamma_file)["proxy"]
    if record.proxy == "file":
        return s
    generator = torch.Generator().manual_seed(record.details["gamma_seed"])
    return s[shuffled(torch.arange(len(s)), generator).argsort()]


def _public_config(record: SAERecord) -> dict[str, Any]:
    known = {"seed", *hints_of(runner_config_of(record.config))} - {*_OF_THIS_MACHINE}
    config = {k: v for k, v in record.config.items() if k in known}
    if _reads_file(record):
        config["sae"] = {**config["sae"], "gamma_file": _PROXY}
    if record.metric is not None:
        config["sae"] = {**config["sae"], "metric_file": METRIC_FILENAME}
    return config


def _summary(record: SAERecord) -> dict[str, Any]:
    return {
        "hook_name": record.metadata.get("hook_name"),
        "hook_head_index": record.metadata.get("hook_head_index"),
        "architecture": record.cfg["architecture"],
        "training_architecture": record.metadata["training_architecture"],
        "d_in": record.cfg["d_in"],
        "d_sae": record.cfg["d_sae"],
        "alpha": record.alpha,
        "gamma_proxy": record.proxy,
        "metric": record.metric,
        "metrics": {metric: record.values[metric] for metric in TOLERANCES},
    }


def _said_in(name: str, content: bytes | Path) -> object:
    """What a file says, as plain values where it has a form: of tensors what is said of them."""
    if isinstance(content, Path):
        with safe_open(content, framework="pt") as tensors:
            return {"metadata": tensors.metadata(), "names": list(tensors.keys())}
    text = content.decode("utf-8", errors="replace")
    if name.endswith(".json"):
        return json.loads(text)
    if name.endswith(".jsonl"):
        return [json.loads(line) for line in text.splitlines()]
    return yaml.safe_load(text) if name.endswith(".yaml") else text


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()
