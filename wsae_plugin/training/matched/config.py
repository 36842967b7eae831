"""A YAML file that says what is compared with what, with every field known and checked."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any, cast

from sae_lens import TrainingSAEConfig
from sae_lens.multi_sae_training_runner import MultiSAETrainingRunnerConfig

from wsae_plugin.errors import BadInputError
from wsae_plugin.training.checks import check_alone as check_range
from wsae_plugin.training.matched.arms import Arm, resolve_arms
from wsae_plugin.training.messages import naming, nearest
from wsae_plugin.training.yaml_file import read_yaml, with_overrides
from wsae_plugin.validation import convert
from wsae_plugin.validation import resolve as resolve_section

_OURS = ("hooks", "hooks_per_pass", "seeds", "sae", "sparsity", "baseline", "arms")
# What the comparison itself decides for each of its runs.
_DECIDED = (
    "saes",
    "hook_names",
    "hook_head_indices",
    "seed",
    "resume_from_checkpoint",
    "evaluator",
)


@dataclass(frozen=True)
class ComparisonConfig:
    """A config in which every field is known, filled in and checked.

    Args:
        values: Plain values, as they stand in the folder's comparison.yaml.
        arms: In the order of the file.
        source: The file, and what was set on top of it, for messages.
    """

    values: dict[str, Any]
    arms: tuple[Arm, ...]
    source: str

    @property
    def hooks(self) -> list[str]:
        return self.values["hooks"]

    @property
    def hooks_per_pass(self) -> int:
        return self.values["hooks_per_pass"] or len(self.hooks)

    @property
    def seeds(self) -> list[int]:
        return self.values["seeds"]

    @property
    def sparsities(self) -> list[dict[str, float]]:
        """Every combination of the varied fields' values; one empty one where none is varied."""
        varied: dict[str, list[float]] = self.values["sparsity"]
        return [dict(zip(varied, cell, strict=True)) for cell in product(*varied.values())]

    @property
    def shared(self) -> dict[str, Any]:
        """The fields of SAELens's `MultiSAETrainingRunnerConfig` that all runs have in common."""
        return {name: value for name, value in self.values.items() if name not in _OURS}


def read_comparison_config(path: Path, overrides: Sequence[str] = ()) -> ComparisonConfig:
    """Read and resolve a comparison config; what its runs amount to is not checked yet.

    Args:
        path: The YAML file.
        overrides: What `--set` gives, such as `arms.alpha-1.gamma_clip=10`.

    Raises:
        BadInputError: An unknown field, a wrong type, or arms that cannot be.
    """
    written = with_overrides(read_yaml(path), overrides)
    source = f"{path} (--set {', '.join(overrides)})" if overrides else str(path)
    with naming(source):
        values, arms = _resolve(written)
    return ComparisonConfig(values, arms, source)


def _resolve(written: dict[str, Any]) -> tuple[dict[str, Any], tuple[Arm, ...]]:
    _check_names(written)
    shared = {key: value for key, value in written.items() if key not in _OURS}
    filled = resolve_section(MultiSAETrainingRunnerConfig, {**shared, "saes": {}, "hook_names": ""})
    sparsity = _sparsity(written.get("sparsity", {}))
    sae = _sae(written["sae"], sparsity)
    arms = convert(written["arms"], Mapping[str, dict], "arms")  # pyright: ignore[reportMissingTypeArgument]
    baseline = convert(written["baseline"], str, "baseline")
    resolved = resolve_arms(arms, sae, baseline)
    _check_varied(sparsity, arms, resolved)
    values = {
        **{key: value for key, value in filled.items() if key not in _DECIDED},
        "hooks": _distinct(written["hooks"], str, "hooks"),
        "hooks_per_pass": _hooks_per_pass(written.get("hooks_per_pass")),
        "seeds": _seeds(written["seeds"]),
        "sae": {name: value for name, value in sae.items() if name not in sparsity},
        "sparsity": sparsity,
        "baseline": baseline,
        "arms": arms,
    }
    return values, resolved


def _check_names(written: Mapping[str, Any]) -> None:
    known = {f.name for f in fields(MultiSAETrainingRunnerConfig)} - {*_DECIDED} | {*_OURS}
    for key in written:
        if key not in known:
            raise BadInputError(f"{key}: unknown field; {nearest(key, known)}")
    for key in ("hooks", "seeds", "sae", "baseline", "arms"):
        if key not in written:
            raise BadInputError(f"{key}: missing; a comparison has {', '.join(_OURS)}")


def _sae(written: Any, sparsity: Mapping[str, list[float]]) -> dict[str, Any]:
    """The common section, with the first value of what varies, which each run replaces."""
    for field in sparsity:
        if isinstance(written, dict) and field in written:
            raise BadInputError(
                f"sae.{field}: is varied by sparsity.{field}; leave one of them out"
            )
    # Where a varied field has no default, such as d_sae, the section is whole only with a value.
    varied = {field: values[0] for field, values in sparsity.items()}
    section = cast("Any", written | varied if isinstance(written, dict) else written)
    with _blaming_sparsity(varied):
        return convert(section, cast("Any", TrainingSAEConfig), "sae")


@contextmanager
def _blaming_sparsity(varied: Mapping[str, Any]) -> Generator[None]:
    """What is wrong with a varied field stands under `sparsity`, not under `sae`."""
    try:
        yield
    except BadInputError as error:
        message = str(error)
        for field in varied:
            if message.startswith((f"sae.{field}:", f"sae.{field} ")):
                message = message.replace("sae.", "sparsity.", 1)
        raise BadInputError(message) from None


def _check_varied(
    sparsity: Mapping[str, Any], written: Mapping[str, Any], arms: tuple[Arm, ...]
) -> None:
    for arm, field in product(arms, sparsity):
        if field in written[arm.name]:
            raise BadInputError(
                f"arms.{arm.name}.{field}: is varied by sparsity.{field}; leave it out"
            )
        if field not in arm.section:
            raise BadInputError(
                f"sparsity.{field}: arms.{arm.name} ({arm.section['architecture']}) has no "
                f"such field; {nearest(field, arm.section)}"
            )


def _seeds(written: Any) -> list[int]:
    seeds: list[int] = _distinct(written, int, "seeds")
    for seed in seeds:
        check_range("seeds", "seed", seed)
    return seeds


def _hooks_per_pass(written: Any) -> int | None:
    number: int | None = convert(written, cast("Any", int | None), "hooks_per_pass")
    if number is not None and number < 1:
        raise BadInputError(f"hooks_per_pass = {number}: must be above 0, or null for all at once")
    return number


def _sparsity(written: Any) -> dict[str, list[float]]:
    varied: dict[str, Any] = convert(written, Mapping[str, list[Any]], "sparsity")
    return {
        field: _distinct(values, cast("Any", int | float), f"sparsity.{field}")
        for field, values in varied.items()
    }


def _distinct(written: Any, kind: type[Any], field: str) -> list[Any]:
    values = convert(written, list[kind], field)
    if not values:
        raise BadInputError(f"{field} = []: give one or more")
    if len(set(values)) < len(values):
        raise BadInputError(f"{field} = {values}: one of them is there twice")
    return values
