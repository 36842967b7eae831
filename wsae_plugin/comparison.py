"""A comparison folder as `wsae compare` leaves it: what was trained, and what pairs with what."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal, get_args

from wsae_plugin.errors import BadInputError
from wsae_plugin.files import refuse_links
from wsae_plugin.json_fields import JsonSection, read_json

MANIFEST_FILENAME = "manifest.json"
VERSION = 1

Role = Literal["baseline", "weighted", "control"]


@dataclass(frozen=True)
class ComparedArm:
    """One way of training the SAE.

    Args:
        name: In run names and on axes.
        label: For readers.
        role: What the comparison needs it for.
        alpha: The exponent in γ = s^alpha; 0 for the ordinary SAE.
        proxy: What s is; None for an architecture that has none.
    """

    name: str
    label: str
    role: Role
    alpha: float
    proxy: str | None


@dataclass(frozen=True)
class ComparedRun:
    """One SAE.

    Args:
        run: Its name, which is also a file name.
        path: Its run folder.
        arm: Name of its arm.
        role: The arm's.
        hook_name: Where in the language model.
        layer: The number in `hook_name`, None if there is none.
        sparsity: The SAE fields that the comparison varies, with their values here.
        seed: Of the initial weights and of the order of the data.
        pair: Runs of one pair saw the same data in the same order from the same initial weights.
    """

    run: str
    path: Path
    arm: str
    role: Role
    hook_name: str
    layer: int | None
    sparsity: Mapping[str, float]
    seed: int
    pair: str

    @property
    def sae(self) -> Path:
        """The exported SAE, which plain SAELens loads."""
        return self.path / "sae"


@dataclass(frozen=True)
class Comparison:
    """A comparison folder.

    Args:
        folder: The folder.
        status: "running" while groups are missing, "finished" when none is.
        model_name: The language model.
        model_class_name: How SAELens loads it.
        dataset_path: What the SAEs were trained on.
        context_size: Tokens in a context.
        seeds: All of them, of missing groups too.
        baseline: The arm that the others are paired with.
        arms: In the order of the config.
        runs: Those that are there.
        manifest: Everything in manifest.json.
    """

    folder: Path
    status: Literal["running", "finished"]
    model_name: str
    model_class_name: str
    dataset_path: str
    context_size: int
    seeds: tuple[int, ...]
    baseline: str
    arms: tuple[ComparedArm, ...]
    runs: list[ComparedRun]
    manifest: Mapping[str, Any]

    @classmethod
    def load(cls, path: Path) -> Comparison:
        """Read a comparison folder, or its manifest.json, from wherever it came.

        Raises:
            BadInputError: It is none, its manifest is broken, or a link leads out of it; the
                message names the field or the link.
        """
        refuse_links(path.parent if path.is_file() else path)
        return cls.read(path)

    @classmethod
    def read(cls, path: Path) -> Comparison:
        """Read a comparison folder whose links were looked at before, or its manifest.json.

        Raises:
            BadInputError: It is none, or its manifest is broken; the message names the field.
        """
        file = path if path.is_file() else path / MANIFEST_FILENAME
        section = JsonSection(read_json(file, made_by="wsae compare"), str(file))
        if section.value("comparison", int) != VERSION:
            section.refuse("comparison", f"this version reads {VERSION}")
        arms = tuple(_arm(arm) for arm in section.sections("arms"))
        section.refuse_repeated("arms", [arm.name for arm in arms])
        roles: dict[str, Role] = {arm.name: arm.role for arm in arms}
        baseline = section.value("baseline", str)
        if [name for name, role in roles.items() if role == "baseline"] != [baseline]:
            section.refuse("baseline", "must be the one arm with role 'baseline'")
        runs = [_run(run, file.parent, roles) for run in section.sections("runs")]
        section.refuse_repeated("runs", [run.run for run in runs])
        _check_pairs(section, runs)
        return cls(
            folder=file.parent,
            status=section.choice("status", ("running", "finished")),
            model_name=section.value("model_name", str),
            model_class_name=section.value("model_class_name", str),
            dataset_path=section.value("dataset_path", str),
            context_size=section.value("context_size", int),
            seeds=tuple(section.values_of("seeds", int)),
            baseline=baseline,
            arms=arms,
            runs=runs,
            manifest=section.fields,
        )


def layer_of(hook_name: str) -> int | None:
    """The layer in a hook's name: 3 in `blocks.3.hook_resid_post` and in `gpt_neox.layers.3`."""
    found = re.search(r"\.(\d+)(?=\.|$)", hook_name)
    return None if found is None else int(found[1])


def runs_of(paths: Sequence[Path]) -> list[ComparedRun]:
    """The runs in comparison folders and in run folders of `wsae train`, in the order given.

    A run folder alone is its own arm, its own pair and its own baseline.

    Raises:
        BadInputError: A folder is neither, holds no trained SAE, or two runs share a name.
    """
    runs = [run for path in paths for run in _runs_in(path)]
    for run in runs:
        if not (run.sae / "cfg.json").is_file():
            raise BadInputError(
                f"{run.path}: holds no trained SAE: {run.sae / 'cfg.json'} is not there"
            )
    for name, count in Counter(run.run for run in runs).items():
        if count > 1:
            where = ", ".join(str(run.path) for run in runs if run.run == name)
            raise BadInputError(
                f"{name}: {count} runs have this name ({where}); results are filed by name, so "
                "rename a folder or give fewer"
            )
    return runs


def _runs_in(path: Path) -> list[ComparedRun]:
    if path.is_file() or (path / MANIFEST_FILENAME).is_file():
        return Comparison.load(path).runs
    if not path.is_dir():
        raise BadInputError(f"{path}: no such folder; give a comparison folder or a run folder")
    refuse_links(path)
    file = path / "config.yaml"
    if not file.is_file():
        raise BadInputError(
            f"{path}: is neither a comparison folder (no {MANIFEST_FILENAME}) nor a run folder (no "
            "config.yaml)"
        )
    return [_plain_run(path, file)]


def _plain_run(path: Path, file: Path) -> ComparedRun:
    # Imported here: its package imports this module.
    from wsae_plugin.training.yaml_file import read_yaml

    values = read_yaml(file)
    if "saes" in values or "synthetic_model" in values:
        kind = "several SAEs" if "saes" in values else "an SAE on a synthetic model"
        raise BadInputError(
            f"{file}: is a run of {kind}; give run folders of one SAE on a language model, or a "
            "comparison folder"
        )
    section = JsonSection(values, str(file))
    name = path.resolve().name
    hook_name = section.value("hook_name", str)
    return ComparedRun(
        run=name,
        path=path,
        arm=name,
        role="baseline",
        hook_name=hook_name,
        layer=layer_of(hook_name),
        sparsity={},
        seed=section.value("seed", int),
        pair=name,
    )


def _arm(section: JsonSection) -> ComparedArm:
    return ComparedArm(
        name=section.name("name"),
        label=section.value("label", str),
        role=section.choice("role", get_args(Role)),
        alpha=section.number("alpha"),
        proxy=section.value("proxy", str, or_null=True),
    )


def _run(section: JsonSection, folder: Path, roles: Mapping[str, Role]) -> ComparedRun:
    arm = section.choice("arm", tuple(roles))
    sparsity = JsonSection(section.value("sparsity", dict), f"{section.where}.sparsity")
    return ComparedRun(
        run=section.name("run"),
        path=folder / _path_inside(section),
        arm=arm,
        role=section.choice("role", (roles[arm],)),
        hook_name=section.value("hook_name", str),
        layer=section.value("layer", int, or_null=True),
        sparsity={name: sparsity.number(name) for name in sparsity.fields},
        seed=section.value("seed", int),
        pair=section.value("pair", str),
    )


def _path_inside(section: JsonSection) -> str:
    """A relative path that stays in the folder by its text; `refuse_links` looks at links."""
    text: str = section.value("path", str)
    parts = {*PurePosixPath(text).parts, *PureWindowsPath(text).parts}
    is_absolute = PurePosixPath(text).is_absolute() or PureWindowsPath(text).anchor
    if not text or is_absolute or ".." in parts or "\0" in text:
        section.refuse("path", "must be a relative path that stays inside the comparison folder")
    return text


def _check_pairs(section: JsonSection, runs: list[ComparedRun]) -> None:
    for pair in dict.fromkeys(run.pair for run in runs):
        members = [run for run in runs if run.pair == pair]
        n_baselines = sum(run.role == "baseline" for run in members)
        if n_baselines != 1:
            raise BadInputError(
                f"{section.where}: runs: the pair {pair!r} has {n_baselines} runs with role "
                "'baseline'; exactly one is needed"
            )
        if len({(run.hook_name, run.seed) for run in members}) > 1:
            raise BadInputError(
                f"{section.where}: runs: the pair {pair!r} has more than one hook_name or seed"
            )
