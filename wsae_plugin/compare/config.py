"""A YAML file that says what is compared with what, with every field known and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import product
from typing import Annotated, Any, cast

from annotated_types import Gt, Le
from sae_lens import TrainingSAEConfig

from wsae_plugin.compare.arms import Arm
from wsae_plugin.compare.resolve_arms import config_class_of, resolve_arms
from wsae_plugin.errors import BadInputError
from wsae_plugin.messages import nearest
from wsae_plugin.saelens_fields import Seed
from wsae_plugin.sources import runner_config_of
from wsae_plugin.training.config import resolve_run
from wsae_plugin.validation import convert, hints_of, resolve


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """What a comparison adds to the fields that its runs have in common, in the file's order."""

    hooks: list[str]
    hooks_per_pass: Annotated[int, Gt(0)] | None = None
    seeds: list[Seed]
    sae: dict  # pyright: ignore[reportMissingTypeArgument]
    sparsity: Mapping[str, list[int | float]] = field(default_factory=dict)
    match_l0: Annotated[float, Gt(0), Le(1)] | None = None
    baseline: str
    arms: Mapping[str, dict]  # pyright: ignore[reportMissingTypeArgument]


_OURS = [field.name for field in fields(_Grid)]
# What the comparison itself decides for each of its runs.
_DECIDED = {"saes", "hook_names", "hook_head_indices", "seed", "resume_from_checkpoint"}
_NOT_SHARED = _DECIDED | {"evaluator"}


@dataclass(frozen=True)
class ComparisonConfig:
    """A config in which every field is known, filled in and checked.

    Args:
        values: Plain values, as they stand in the folder's comparison.yaml.
        arms: In the order of the file.
        file: The file, and what was set on top of it, for messages.
        matched: SAE in a training run → the sparsity coefficient that `match_l0` found.
    """

    values: dict[str, Any]
    arms: tuple[Arm, ...]
    file: str
    matched: Mapping[str, dict[str, float]] = field(default_factory=dict)

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
        """The fields of the config of several SAEs that all runs have in common."""
        return {name: value for name, value in self.values.items() if name not in _OURS}


def resolve_comparison(
    written: Mapping[str, Any],
) -> tuple[dict[str, Any], tuple[Arm, ...]]:
    """The values and arms of a comparison config; what its runs amount to is not checked yet.

    Raises:
        BadInputError: An unknown field, a wrong type, or arms that cannot be.
    """
    cls = runner_config_of({key: written[key] for key in written if key != "sae"} | {"saes": {}})
    known = {"distributed", *(field.name for field in fields(cls))} - _NOT_SHARED
    for key in written:
        if key not in known and key not in _OURS:
            raise BadInputError(f"{key}: unknown field; {nearest(key, {*known, *_OURS})}")
    common = {key: value for key, value in written.items() if key in known}
    shared = resolve_run({"saes": {}, "hook_names": "", **common})
    grid = resolve(_Grid, written, others_allowed=True)
    sparsity = grid["sparsity"]
    varied = {"hooks": grid["hooks"], "seeds": grid["seeds"]}
    for name, values in (varied | {f"sparsity.{k}": v for k, v in sparsity.items()}).items():
        if not values:
            raise BadInputError(f"{name} = []: give one or more")
        if len(set(values)) < len(values):
            raise BadInputError(f"{name} = {values}: one of them is there twice")
    sae = _sae(grid["sae"], sparsity)
    arms = resolve_arms(grid["arms"], sae, grid["baseline"])
    _check_varied(sparsity, grid["arms"], arms)
    grid["sae"] = {name: value for name, value in sae.items() if name not in sparsity}
    values = {name: value for name, value in shared.items() if name in known}
    return values | grid, arms


def _sae(written: dict[str, Any], sparsity: Mapping[str, list[float]]) -> dict[str, Any]:
    """The common section, with the first value of what varies, which each run replaces."""
    hints = hints_of(config_class_of(written))
    for name, values in sparsity.items():
        if name in written:
            raise BadInputError(f"sae.{name}: is varied by sparsity.{name}; leave one of them out")
        if name not in hints:
            raise BadInputError(f"sparsity.{name}: unknown field; {nearest(name, hints)}")
        for value in values:
            convert(value, hints[name], f"sparsity.{name}")
    # Where a varied field has no default, such as d_sae, the section is whole only with a value.
    first = {name: values[0] for name, values in sparsity.items()}
    return convert(written | first, cast("Any", TrainingSAEConfig), "sae")


def _check_varied(
    sparsity: Mapping[str, Any], written: Mapping[str, Any], arms: tuple[Arm, ...]
) -> None:
    for arm, name in product(arms, sparsity):
        if name in written[arm.name]:
            raise BadInputError(
                f"arms.{arm.name}.{name}: is varied by sparsity.{name}; leave it out"
            )
        if name not in arm.overrides:
            raise BadInputError(
                f"sparsity.{name}: arms.{arm.name} ({arm.overrides['architecture']}) has no "
                f"such field; {nearest(name, arm.overrides)}"
            )
