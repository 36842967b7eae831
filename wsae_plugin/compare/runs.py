"""The SAEs in whatever folders are given: of comparisons, of runs, and of anybody's own scripts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wsae_plugin.compare.manifest import (
    MANIFEST_FILENAME,
    ComparedRun,
    Comparison,
    is_comparison,
    layer_of,
)
from wsae_plugin.errors import BadInputError
from wsae_plugin.files import refuse_links
from wsae_plugin.fingerprint import fingerprint_of_files
from wsae_plugin.messages import naming
from wsae_plugin.saved_run import CONFIG, TRAINER_STATE, read_cfg, read_training
from wsae_plugin.validation import resolve


def runs_of(paths: Sequence[Path], needs_language_model: bool = False) -> list[ComparedRun]:
    """The SAEs in the folders given, in their order.

    A folder is a comparison, a run of `wsae train`, what a runner or a script of SAELens saved, a
    training checkpoint, or a folder of several SAEs, each of which counts as a run. Whatever no
    comparison pairs is its own arm, its own pair and its own baseline.

    Args:
        paths: The folders.
        needs_language_model: Whether SAEs of a source without hooks are refused.

    Raises:
        BadInputError: A folder holds no trained SAE, or two runs share a name.
    """
    runs = [run for path in paths for run in _runs_in(path)]
    for run in runs:
        if not (run.sae / "cfg.json").is_file():
            raise BadInputError(
                f"{run.path}: holds no trained SAE: {run.sae / 'cfg.json'} is not there"
            )
        if needs_language_model and run.hook_name in PLACES:
            raise BadInputError(
                f"{run.path}: is an SAE on a {run.hook_name}; give SAEs of a language model"
            )
    refuse_repeated_runs(runs)
    return runs


def refuse_repeated_runs(runs: Sequence[ComparedRun]) -> None:
    """Refuse runs of one name or one folder, whose results would overwrite each other.

    Raises:
        BadInputError: The message names them and their folders.
    """
    for name, count in Counter(run.run for run in runs).items():
        if count > 1:
            where = ", ".join(str(run.path) for run in runs if run.run == name)
            raise BadInputError(
                f"{name}: {count} runs have this name ({where}); results are filed by name, so "
                "rename a folder or give fewer"
            )
    for folder, count in Counter(run.path.resolve() for run in runs).items():
        if count > 1:
            names = ", ".join(run.run for run in runs if run.path.resolve() == folder)
            raise BadInputError(f"{folder}: is given {count} times ({names}); give it once")


PLACES = ("synthetic model", "source without hooks")
"""What stands in the place of a hook's name where there is none."""


def _runs_in(path: Path) -> list[ComparedRun]:
    if is_comparison(path):
        return Comparison.load(path).runs
    if not path.is_dir():
        raise BadInputError(f"{path}: no such folder; give a folder of SAEs, a run or a comparison")
    refuse_links(path)
    name = _name_of(path.resolve())
    if any((path / name).is_file() for name in (TRAINER_STATE, "activation_scaler.json")):
        _export(path)
    alone = ComparedRun.alone(name, path)
    if (alone.sae / "cfg.json").is_file():
        return [_with_facts(alone)]
    saes = sorted({cfg.parent for of in ("saes/*", "*") for cfg in path.glob(f"{of}/cfg.json")})
    if not saes and not (path / CONFIG).is_file():
        raise BadInputError(
            f"{path}: is neither a comparison folder (no {MANIFEST_FILENAME}) nor a run folder (no "
            f"{CONFIG}), and holds no SAE (no cfg.json)"
        )
    runs = [run for sae in saes for run in _runs_in(sae)]
    return [replace(run, run=(n := f"{name}-{run.run}"), arm=n, pair=n) for run in runs] or [alone]


def _name_of(folder: Path) -> str:
    """A folder's name, after that of its run where all runs have one of this name."""
    is_of_run = re.fullmatch(r"(final_)?\d+|sae", folder.name)
    run = folder.parent.parent if folder.parent.name == "checkpoints" else folder.parent
    return f"{run.name}-{folder.name}" if is_of_run else folder.name


def _with_facts(run: ComparedRun) -> ComparedRun:
    values = read_training(run.path, run.sae)
    with naming(str(run.path)):
        facts = resolve(_Facts, values, others_allowed=True)
    hook = facts["hook_name"] or ""
    if "synthetic_model" in values:
        hook = PLACES[0]
    elif not hook and (run.path / "run.json").is_file():
        hook = PLACES[1]
    return replace(run, hook_name=hook, layer=layer_of(hook), seed=facts["seed"])


def _export(checkpoint: Path) -> None:
    from wsae_plugin.saes.from_checkpoint import export  # SAELens takes seconds to import

    # Not the store's state, which may hold gigabytes of activations.
    sources = ("cfg.json", "sae_weights.safetensors", "activation_[sw]*")
    now, exported = fingerprint_of_files(checkpoint, sources), checkpoint / "sae"
    before = read_cfg(exported) if (exported / "cfg.json").is_file() else {}
    if (before.get("metadata") or {}).get("checkpoint") != now:
        export(checkpoint, exported, now)


@dataclass(frozen=True)
class _Facts:
    seed: int = 0
    hook_name: str | None = None
