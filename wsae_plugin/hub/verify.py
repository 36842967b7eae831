"""Download a publication again and compare it with what it says of itself."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from tqdm.auto import tqdm

from wsae_plugin.errors import BadInputError
from wsae_plugin.files import refuse_links, sha256_of
from wsae_plugin.hub.agreement import disagreements
from wsae_plugin.hub.bundle import ROOT_CONFIG, VERSION
from wsae_plugin.hub.errors import hub_errors
from wsae_plugin.hub.exported import load_exported
from wsae_plugin.hub.publish import check_repo_name
from wsae_plugin.hub.records import EVAL_FILENAME
from wsae_plugin.hub.remeasure import (
    TOLERANCES,
    Difference,
    needs_local_text,
    remeasure,
    values_of,
    why_not_at_hand,
)
from wsae_plugin.hub.safe_paths import path_inside
from wsae_plugin.json_fields import JsonSection, read_json

_NEEDED = ("cfg.json", "sae_weights.safetensors", EVAL_FILENAME, "training.yaml")


@dataclass(frozen=True)
class Verification:
    """What came of it.

    Args:
        source: Repository or folder.
        revision: The commit that was downloaded; None for a folder.
        files: How many files were compared.
        measured: The SAEs whose scores were measured again.
        not_measured: sae_id → why its scores were not.
        differences: What is not as recorded; none is what one hopes for.
    """

    source: str
    revision: str | None
    files: int
    measured: list[str]
    not_measured: dict[str, str]
    differences: list[Difference]


def verify(source: str, revision: str | None = None, dataset: str | None = None) -> Verification:
    """Compare every file with its sha256 and every SAE with its scores.

    Args:
        source: A folder on this machine, or `user/name` on the Hub.
        revision: A branch, tag or commit; for the Hub only.
        dataset: Where the held-out text is here, of SAEs that were measured on a local one.

    Raises:
        BadInputError: There is no such folder, or it is no publication of `wsae push`, or a name or
            a link in it leads out of it, or `dataset` cannot be read or no SAE needs it.
        RunFailedError: The Hub refused or cannot be reached.
    """
    if Path(source).is_dir():
        if revision is not None:
            raise BadInputError(f"--revision {revision}: {source} is a folder and has none")
        refuse_links(Path(source))
        return _verify_folder(source, Path(source), None, dataset)
    check_repo_name(source)
    with tempfile.TemporaryDirectory(prefix="wsae-") as scratch:
        commit = _download(source, revision, Path(scratch))
        return _verify_folder(source, Path(scratch) / "files", commit, dataset)


def _download(repo: str, revision: str | None, scratch: Path) -> str:
    """Only what config.json names, each under a name that was checked, into a fresh cache."""
    target = scratch / "files"
    target.mkdir()

    def fetch(name: str) -> None:
        path = path_inside(target, name, repo)
        path.parent.mkdir(parents=True, exist_ok=True)
        cached = api.hf_hub_download(repo, name, revision=commit, cache_dir=scratch / "cache")
        shutil.copyfile(cached, path)

    with hub_errors(f"verify {repo}"):
        api = HfApi()
        commit = str(api.repo_info(repo, revision=revision).sha)
        there = set(api.list_repo_files(repo, revision=commit))
        if ROOT_CONFIG not in there:
            raise BadInputError(f"{repo}: has no {ROOT_CONFIG}; it was not made by `wsae push`")
        fetch(ROOT_CONFIG)
        names = [name for name in _recorded(target) if name in there]
        for name in tqdm(names, "Downloading", unit="file"):
            fetch(name)
        return commit
    raise AssertionError  # hub_errors raised


def _verify_folder(
    source: str, folder: Path, commit: str | None, dataset: str | None
) -> Verification:
    recorded = _recorded(folder)
    differences: list[Difference] = []
    for name, expected in recorded.items():
        path = path_inside(folder, name, source)
        found = sha256_of(path) if path.is_file() else "missing"
        if found != expected:
            sae_id = name.split("/")[0]
            differences.append(Difference(sae_id, name, expected[:12], found[:12]))
    root = json.loads((folder / ROOT_CONFIG).read_text(encoding="utf-8"))
    reasons: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="wsae-") as scratch:
        runs: dict[str, Path] = {}
        local: list[str] = []
        for sae_id, entry in root["saes"].items():
            try:
                cfg, evaluation = _read_sae(folder / sae_id)
            except BadInputError as error:
                differences.append(Difference(sae_id, "loads with SAELens", "yes", str(error)))
                continue
            differences += _against_root(sae_id, entry, evaluation)
            unlike = _against_training(sae_id, cfg, folder / sae_id / "training.yaml")
            differences += unlike
            local += [sae_id] if needs_local_text(evaluation) else []
            reason = why_not_at_hand(cfg, evaluation, dataset)
            if unlike:
                reasons[sae_id] = "its training.yaml and its cfg.json do not agree"
            elif reason is None:
                runs[sae_id] = _as_run(folder / sae_id, Path(scratch) / sae_id)
            else:
                reasons[sae_id] = reason
        if dataset is not None and not local:
            raise BadInputError(
                f"--dataset {dataset}: every SAE in {source} was measured on a text that is found "
                "without it; leave it out"
            )
        differences += remeasure(runs, dataset)
    return Verification(source, commit, len(recorded), list(runs), reasons, differences)


def _recorded(folder: Path) -> dict[str, str]:
    """Path in the publication → sha256."""
    root = JsonSection(read_json(folder / ROOT_CONFIG, "wsae push"), f"{ROOT_CONFIG}")
    if root.value("wsae_publication", int) != VERSION:
        root.refuse("wsae_publication", f"this version reads {VERSION}")
    files: dict[str, str] = dict(_hashes(root))
    saes = JsonSection(root.value("saes", dict), f"{root.where}: saes")
    for sae_id in saes.fields:
        JsonSection({"sae_id": sae_id}, saes.where).name("sae_id")
        entry = JsonSection(saes.value(sae_id, dict), f"{saes.where}.{sae_id}")
        JsonSection(entry.value("metrics", dict), f"{entry.where}.metrics")
        hashes = _hashes(entry)
        for name in _NEEDED:
            if name not in hashes:
                raise BadInputError(f"{entry.where}: sha256: {name}: missing")
        for name in hashes:
            path_inside(folder / sae_id, name, entry.where)
        files |= {f"{sae_id}/{name}": sha256 for name, sha256 in hashes.items()}
    for name in files:
        path_inside(folder, name, root.where)
    return files


def _hashes(section: JsonSection) -> dict[str, str]:
    hashes = JsonSection(section.value("sha256", dict), f"{section.where}: sha256")
    return {name: hashes.value(name, str) for name in hashes.fields}


def _read_sae(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """cfg.json and scores/held_out.json, with fields of the types that are read of them."""
    cfg, evaluation = (
        JsonSection(read_json(folder / name, "wsae push"), f"{folder.name}/{name}")
        for name in ("cfg.json", EVAL_FILENAME)
    )
    cfg.value("architecture", str)
    metadata = _inside(cfg, "metadata")
    for field in ("model_name", "dataset_path"):
        metadata.value(field, str)
    _optional(metadata, model_class_name=str, training_architecture_details=dict)
    held_out = _inside(evaluation, "held_out")
    for field in ("batches", "seed"):
        held_out.value(field, int)
    _optional(held_out, dataset=str, batch_size_prompts=int)
    _optional(evaluation, versions=dict, settings=dict)
    if evaluation.fields.get("settings"):
        _optional(_inside(evaluation, "settings"), dataset=str)
    for score in evaluation.sections("scores"):
        score.value("metric", str)
        if score.fields.get("value", 0) is not None:
            score.number("value")
    values = values_of(evaluation.fields)
    for metric in TOLERANCES:
        if metric not in values:
            raise BadInputError(f"{evaluation.where}: scores: {metric}: missing")
    load_exported(folder)
    return cfg.fields, evaluation.fields


def _inside(section: JsonSection, field: str) -> JsonSection:
    return JsonSection(section.value(field, dict), f"{section.where}: {field}")


def _optional(section: JsonSection, **kinds: type[Any]) -> None:
    for field in kinds.keys() & section.fields.keys():
        section.value(field, kinds[field], or_null=True)


def _against_root(
    sae_id: str, entry: dict[str, Any], evaluation: dict[str, Any]
) -> list[Difference]:
    values = values_of(evaluation)
    return [
        Difference(sae_id, f"{metric} in {EVAL_FILENAME}", str(value), str(values.get(metric)))
        for metric, value in entry["metrics"].items()
        if values.get(metric) != value
    ]


def _against_training(sae_id: str, cfg: dict[str, Any], training: Path) -> list[Difference]:
    """What is measured is what cfg.json says, so training.yaml must not say otherwise."""
    try:
        unlike = disagreements(cfg, training)
    except BadInputError as error:
        return [Difference(sae_id, "training.yaml can be read", "yes", str(error))]
    return [Difference(sae_id, f"{name} in training.yaml", *said) for name, said in unlike.items()]


def _as_run(published: Path, target: Path) -> Path:
    """The layout that measuring reads, made from a published folder."""
    (target / "sae").mkdir(parents=True)
    for path in published.iterdir():
        if path.suffix == ".safetensors" or path.name == "cfg.json":
            shutil.copyfile(path, target / "sae" / path.name)
    shutil.copyfile(published / "training.yaml", target / "config.yaml")
    shutil.copytree(published / "scores", target / "scores")
    return target
