"""Download a publication again and compare it with what it says of itself."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from huggingface_hub import HfApi
from pydantic import AfterValidator
from tqdm.auto import tqdm

from wsae_plugin.compare.manifest import ComparedRun
from wsae_plugin.errors import BadInputError
from wsae_plugin.files import refuse_links, sha256_of
from wsae_plugin.hub.bundle import ROOT_CONFIG, VERSION
from wsae_plugin.hub.errors import hub_errors
from wsae_plugin.hub.exported import check_exported
from wsae_plugin.hub.names import check_repo_name, read_address
from wsae_plugin.hub.records import EVAL_FILENAME, MeasuredSAE, read_sae
from wsae_plugin.hub.remeasure import Difference, compare, needs_local_text
from wsae_plugin.messages import naming
from wsae_plugin.saved_run import TRAINING
from wsae_plugin.validation import FileName, PathInside, read_json, resolve
from wsae_plugin.yaml_file import read_yaml

_NEEDED = ("cfg.json", "sae_weights.safetensors", EVAL_FILENAME, TRAINING)


def _known_version(version: int) -> int:
    if version != VERSION:
        raise ValueError(f"this version reads {VERSION}")
    return version


@dataclass(frozen=True)
class _SAE:
    sha256: Mapping[PathInside, str]
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class _Root:
    wsae_publication: Annotated[int, AfterValidator(_known_version)]
    saes: Mapping[FileName, _SAE]
    sha256: Mapping[PathInside, str]


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
        source: A folder on this machine, `user/name` on the Hub, or `hf://user/name@revision`.
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
    repo = source
    if source.startswith("hf://"):
        address = read_address(source)
        repo = address.id
        if address.path_in_repo:
            raise BadInputError(
                f"{source}: a publication is compared as a whole; leave out /{address.path_in_repo}"
            )
        if None not in (revision, address.revision):
            raise BadInputError(f"--revision {revision}: {source} names one too; leave one out")
        revision = revision or address.revision
    check_repo_name(repo, "REPO_OR_FOLDER")
    with tempfile.TemporaryDirectory(prefix="wsae-") as scratch:
        commit = _download(repo, revision, Path(scratch))
        return _verify_folder(source, Path(scratch) / "files", commit, dataset)


def _download(repo: str, revision: str | None, scratch: Path) -> str:
    """Only what config.json names, each under a name that was checked, into a fresh cache."""
    target = scratch / "files"
    target.mkdir()

    def fetch(name: str) -> None:
        path = target / name
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
        names = [name for name in _recorded(_read_root(target)) if name in there]
        for name in tqdm(names, "Downloading", unit="file"):
            fetch(name)
        return commit
    raise AssertionError  # hub_errors raised


def _verify_folder(
    source: str, folder: Path, commit: str | None, dataset: str | None
) -> Verification:
    root = _read_root(folder)
    recorded = _recorded(root)
    differences: list[Difference] = []
    for name, expected in recorded.items():
        path = folder / name
        found = sha256_of(path) if path.is_file() else "missing"
        if found != expected:
            sae_id = name.split("/")[0]
            differences.append(Difference(sae_id, name, expected[:12], found[:12]))
    saes: list[MeasuredSAE] = []
    for sae_id, entry in root["saes"].items():
        # Its hook and seed pair it with nothing here.
        run = ComparedRun.alone(sae_id, folder / sae_id)
        try:
            sae = read_sae(run, read_yaml(run.path / TRAINING))
            check_exported(sae)
        except BadInputError as error:
            said = str(error).replace(f"{folder}/", "")
            differences.append(Difference(sae_id, "loads with SAELens", "yes", said))
            continue
        saes.append(sae)
        differences += [
            Difference(sae_id, f"{m} in {EVAL_FILENAME}", str(value), str(sae.values.get(m)))
            for m, value in entry["metrics"].items()
            if sae.values.get(m) != value
        ]
    if dataset is not None and not any(map(needs_local_text, saes)):
        raise BadInputError(
            f"--dataset {dataset}: every SAE in {source} was measured on a text that is found "
            "without it; leave it out"
        )
    unlike, reasons = compare(saes, dataset)
    measured = [sae.sae_id for sae in saes if sae.sae_id not in reasons]
    return Verification(source, commit, len(recorded), measured, reasons, differences + unlike)


def _read_root(folder: Path) -> Mapping[str, Any]:
    """config.json at the root; the names in it lead out of no folder."""
    root = read_json(folder / ROOT_CONFIG, "wsae push")
    with naming(ROOT_CONFIG):
        resolve(_Root, root, others_allowed=True)
    if not root["saes"]:
        raise BadInputError(f"{ROOT_CONFIG}: saes: names none, so there is nothing to compare")
    for sae_id, entry in root["saes"].items():
        for name in _NEEDED:
            if name not in entry["sha256"]:
                raise BadInputError(f"{ROOT_CONFIG}: saes.{sae_id}.sha256.{name}: missing")
    return root


def _recorded(root: Mapping[str, Any]) -> dict[str, str]:
    """Path in the publication → sha256."""
    of_saes = {
        f"{sae_id}/{name}": sha256
        for sae_id, entry in root["saes"].items()
        for name, sha256 in entry["sha256"].items()
    }
    return root["sha256"] | of_saes
