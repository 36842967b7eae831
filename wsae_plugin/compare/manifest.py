"""A comparison folder as `wsae compare` leaves it: what was trained, and what pairs with what."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator
from typing_extensions import Self

from wsae_plugin.compare.arms import Arm, Control, Role
from wsae_plugin.errors import BadInputError
from wsae_plugin.files import refuse_links
from wsae_plugin.messages import naming
from wsae_plugin.validation import FileName, PathInside, convert, read_json, resolve

MANIFEST_FILENAME = "manifest.json"
VERSION = 1


def _known_version(version: int) -> int:
    if version != VERSION:
        raise ValueError(f"this version reads {VERSION}")
    return version


_Number = Annotated[int | float, "as it stands there: in JSON, unlike in YAML, text is no number"]


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

    run: FileName
    path: PathInside
    arm: str
    role: Role
    hook_name: str
    layer: int | None
    sparsity: Mapping[str, _Number]
    seed: int
    pair: str

    @classmethod
    def alone(cls, name: str, path: Path, hook_name: str = "", seed: int = 0) -> Self:
        """A run that is its own arm, its own pair and its own baseline."""
        layer = layer_of(hook_name)
        return cls(name, path, name, "baseline", hook_name, layer, {}, seed, pair=name)

    @property
    def sae(self) -> Path:
        """The exported SAE, which plain SAELens loads: where there is no sae/, the run itself."""
        exported = self.path / "sae"
        is_alone = not exported.is_dir() and (self.path / "cfg.json").is_file()
        return self.path if is_alone else exported


@dataclass(frozen=True)
class MatchedL0:
    """A sparsity coefficient that was searched for.

    Args:
        sae: The SAE, whatever the seed.
        arm: Name of its arm.
        field: Such as `l1_coefficient`.
        written: What the config says.
        found: What its runs were trained with.
        l0: L0 of that in a short training.
        baseline_l0: L0 of the baseline in one.
        trainings: How many there were.
    """

    sae: str
    arm: str
    field: str
    written: _Number
    found: _Number
    l0: _Number
    baseline_l0: _Number
    trainings: int


@dataclass(frozen=True)
class Comparison:
    """A comparison folder.

    Args:
        comparison: Version of the format.
        folder: The folder.
        status: "running" while groups are missing, "finished" when none is.
        dataset_path: What the SAEs were trained on.
        seeds: All of them, of missing groups too.
        baseline: The arm that the others are paired with.
        arms: In the order of the config.
        runs: Those that are there.
        manifest: Everything in manifest.json.
        model_name: What computed the activations; None for a table that does not say it.
        model_class_name: How SAELens loads it; None for a table.
        context_size: Tokens in a context; None for a table.
        l0_matching: What `match_l0` found; empty where it was not asked for.
    """

    comparison: Annotated[int, AfterValidator(_known_version)]
    folder: Path
    status: Literal["running", "finished"]
    dataset_path: str
    seeds: tuple[int, ...]
    baseline: str
    arms: tuple[Arm, ...]
    runs: list[ComparedRun]
    manifest: Mapping[str, Any]
    model_name: str | None = None
    model_class_name: str | None = None
    context_size: int | None = None
    l0_matching: list[MatchedL0] = field(default_factory=list)

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
        manifest = read_json(file, made_by="wsae compare")
        with naming(str(file)):
            ours = {"folder": file.parent, "arms": [], "manifest": manifest}
            fields = resolve(cls, manifest | ours, others_allowed=True)
            written = convert(manifest.get("arms"), list[_ManifestArm], "arms", others_allowed=True)
            arms = tuple(_arm(entry) for entry in written)
            runs = [
                ComparedRun(**entry | {"path": file.parent / entry["path"]})
                for entry in fields["runs"]
            ]
            _check_arms(fields["baseline"], arms)
            _check_runs(runs, {arm.name: arm.role for arm in arms})
            matching = [MatchedL0(**entry) for entry in fields["l0_matching"]]
        fields |= {"seeds": tuple(fields["seeds"]), "arms": arms, "runs": runs}
        fields["l0_matching"] = matching
        return cls(**fields)


@dataclass(frozen=True)
class _ManifestArm:
    name: FileName
    label: str
    role: Role
    alpha: _Number
    proxy: str | None
    control: Control | None = None
    of: str | None = None


def layer_of(hook_name: str) -> int | None:
    """The layer in a hook's name: 3 in `blocks.3.hook_resid_post` and in `gpt_neox.layers.3`."""
    found = re.search(r"\.(\d+)(?=\.|$)", hook_name)
    return None if found is None else int(found[1])


def is_comparison(path: Path) -> bool:
    """Whether this is a comparison folder, or its manifest.json."""
    return path.is_file() or (path / MANIFEST_FILENAME).is_file()


def _arm(entry: dict[str, Any]) -> Arm:
    overrides = {"alpha": entry.pop("alpha"), "gamma_proxy": entry.pop("proxy")}
    return Arm(**entry, overrides=overrides)


def _check_arms(baseline: str, arms: Sequence[Arm]) -> None:
    _refuse_repeated("arms", (arm.name for arm in arms))
    if [arm.name for arm in arms if arm.role == "baseline"] != [baseline]:
        raise BadInputError(f"baseline = {baseline!r}: must be the one arm with role 'baseline'")


def _check_runs(runs: list[ComparedRun], roles: Mapping[str, Role]) -> None:
    _refuse_repeated("runs", (run.run for run in runs))
    for n, run in enumerate(runs):
        if run.arm not in roles:
            allowed = " or ".join(map(repr, roles))
            raise BadInputError(f"runs[{n}].arm = {run.arm!r}: must be {allowed}")
        if run.role != roles[run.arm]:
            raise BadInputError(f"runs[{n}].role = {run.role!r}: must be {roles[run.arm]!r}")
    for pair in dict.fromkeys(run.pair for run in runs):
        members = [run for run in runs if run.pair == pair]
        n_baselines = sum(run.role == "baseline" for run in members)
        if n_baselines != 1:
            raise BadInputError(
                f"runs: the pair {pair!r} has {n_baselines} runs with role 'baseline'; exactly one "
                "is needed"
            )
        if len({(run.hook_name, run.seed) for run in members}) > 1:
            raise BadInputError(f"runs: the pair {pair!r} has more than one hook_name or seed")


def _refuse_repeated(field: str, names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise BadInputError(f"{field}: the name {name!r} is there twice")
