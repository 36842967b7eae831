"""Which SAEs a comparison trains, what they are called, and which share a training run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae_lens.multi_sae_training_runner import MultiSAETrainingRunnerConfig

from wsae_plugin.compare.arms import Arm
from wsae_plugin.compare.config import ComparisonConfig, resolve_comparison
from wsae_plugin.compare.manifest import layer_of
from wsae_plugin.messages import naming
from wsae_plugin.training.checks import check
from wsae_plugin.training.config import RunConfig
from wsae_plugin.validation import resolve
from wsae_plugin.yaml_file import read_config


@dataclass(frozen=True)
class PlannedRun:
    """One SAE of a comparison.

    Args:
        arm: Its arm.
        hook_name: Where in the language model.
        sparsity: The varied fields with their values here.
        seed: Of weights, of the data's order and of a shuffled Γ.
        cell: Hook and sparsity, in words for names.
    """

    arm: Arm
    hook_name: str
    sparsity: dict[str, float]
    seed: int
    cell: str

    @property
    def sae(self) -> str:
        """Its name among the SAEs of a training run, which are of one seed."""
        return f"{self.cell}-{self.arm.name}"

    @property
    def layer(self) -> int | None:
        return layer_of(self.hook_name)

    @property
    def run(self) -> str:
        """Its name in the whole comparison."""
        return f"{self.sae}-seed-{self.seed}"

    @property
    def pair(self) -> str:
        """What it has in common with the runs that differ from it in the arm alone."""
        return f"{self.cell}-seed-{self.seed}"

    def section(self) -> dict[str, Any]:
        """Its `sae:` section."""
        drawn = {"gamma_seed": self.seed} if self.arm.control == "shuffled" else {}
        return {**self.arm.overrides, **self.sparsity, **drawn}


@dataclass(frozen=True)
class Group:
    """SAEs that are trained together, from one pass of the language model.

    Args:
        name: Its folder.
        seed: The one seed of all.
        runs: Its SAEs.
    """

    name: str
    seed: int
    runs: tuple[PlannedRun, ...]

    @property
    def hooks(self) -> list[str]:
        return list(dict.fromkeys(run.hook_name for run in self.runs))


def load_comparison_config(path: Path, overrides: Sequence[str] = ()) -> ComparisonConfig:
    """Read, resolve and check a comparison config.

    Args:
        path: The YAML file.
        overrides: What `--set` gives, such as `arms.alpha-1.gamma_clip=10`.

    Returns:
        The config. SAELens's classes accept all of its runs; no model and no data set was opened.

    Raises:
        BadInputError: Whatever the file and the overrides alone show to be wrong.
    """
    written, source = read_config(path, overrides)
    with naming(source):
        config = ComparisonConfig(*resolve_comparison(written), source)
        for group in plan(config):
            # Other seeds are other seeds only.
            if group.seed == config.seeds[0]:
                run_config = group_config(config, group)
                check(run_config)
                run_config.runner_config()
    return config


def plan(config: ComparisonConfig) -> list[Group]:
    """The groups, in the order in which they are trained: all hooks of a seed, then the next."""
    chunks = _chunks(config.hooks, config.hooks_per_pass)
    places = _places(config.hooks)
    return [
        Group(
            name=f"seed-{seed}" if len(chunks) == 1 else f"seed-{seed}-pass-{n}",
            seed=seed,
            runs=tuple(
                PlannedRun(arm, hook, sparsity, seed, cell=_cell(places[hook], sparsity))
                for hook in hooks
                for sparsity in config.sparsities
                for arm in config.arms
            ),
        )
        for seed in config.seeds
        for n, hooks in enumerate(chunks, start=1)
    ]


def group_config(config: ComparisonConfig, group: Group) -> RunConfig:
    """The SAELens run of several SAEs that trains a group."""
    values = config.shared | {
        "saes": {run.sae: run.section() for run in group.runs},
        "hook_names": {run.sae: run.hook_name for run in group.runs},
        "seed": group.seed,
        "output_path": None,
    }
    resolved = resolve(MultiSAETrainingRunnerConfig, values)
    return RunConfig(MultiSAETrainingRunnerConfig, resolved, source=config.source)


def _chunks(hooks: list[str], size: int) -> list[list[str]]:
    return [hooks[start : start + size] for start in range(0, len(hooks), size)]


def _places(hooks: list[str]) -> dict[str, str]:
    """`layer-3` for each hook where that tells them apart, else the hook's name without dots."""
    layers = [layer_of(hook) for hook in hooks]
    if None not in layers and len(set(layers)) == len(layers):
        return {hook: f"layer-{layer}" for hook, layer in zip(hooks, layers, strict=True)}
    return {hook: hook.replace(".", "-") for hook in hooks}


def _cell(place: str, sparsity: dict[str, float]) -> str:
    # A point would end a file's name, and SAELens's names of SAEs hold none.
    varied = [
        f"{field}-{value}".replace(".", "p").replace("+", "") for field, value in sparsity.items()
    ]
    return "-".join([place, *varied])
