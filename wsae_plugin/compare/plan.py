"""Which SAEs a comparison trains, what they are called, and which share a training run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from wsae_plugin.compare.config import ComparisonConfig, resolve_comparison
from wsae_plugin.compare.manifest import ComparedRun, layer_of
from wsae_plugin.messages import naming
from wsae_plugin.training.checks import check
from wsae_plugin.training.config import RunConfig, resolve_run
from wsae_plugin.yaml_file import read_config


@dataclass(frozen=True)
class Group:
    """SAEs that are trained together, from one pass of the language model.

    Args:
        name: Its folder.
        seed: Of weights, of the data's order and of a shuffled Γ, for all of them.
        runs: Name of an SAE in the training run → what the comparison knows of it; its path is in
            the comparison folder.
        sections: The same names → the `sae:` sections.
    """

    name: str
    seed: int
    runs: dict[str, ComparedRun]
    sections: dict[str, dict[str, Any]]


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
    written, file = read_config(path, overrides)
    with naming(file):
        config = ComparisonConfig(*resolve_comparison(written), file)
        for group in plan(config):
            # Other seeds are other seeds only.
            if group.seed == config.seeds[0]:
                run_config = group_config(config, group)
                check(run_config)
                run_config.runner_config()
    return config


def plan(config: ComparisonConfig) -> list[Group]:
    """The groups, in the order in which they are trained: all hooks of a seed, then the next."""
    size, hooks = config.hooks_per_pass, config.hooks
    chunks = [hooks[start : start + size] for start in range(0, len(hooks), size)]
    return [
        _group(config, f"seed-{seed}" if len(chunks) == 1 else f"seed-{seed}-pass-{n}", seed, chunk)
        for seed in config.seeds
        for n, chunk in enumerate(chunks, start=1)
    ]


def _group(config: ComparisonConfig, name: str, seed: int, hooks: list[str]) -> Group:
    places = _places(config.hooks)
    group = Group(name, seed, runs={}, sections={})
    for hook, sparsity, arm in product(hooks, config.sparsities, config.arms):
        cell = _cell(places[hook], sparsity)
        sae, pair = f"{cell}-{arm.name}", f"{cell}-seed-{seed}"
        run, layer = f"{sae}-seed-{seed}", layer_of(hook)
        group.runs[sae] = ComparedRun(
            run, Path("runs", run), arm.name, arm.role, hook, layer, sparsity, seed, pair
        )
        is_drawn = arm.control == "shuffled" or arm.overrides.get("metric") == "rotated_fisher"
        drawn = {"gamma_seed": seed} if is_drawn else {}
        group.sections[sae] = {**arm.overrides, **sparsity, **drawn, **config.matched.get(sae, {})}
    return group


def group_config(config: ComparisonConfig, group: Group) -> RunConfig:
    """The run of several SAEs that trains a group."""
    values = config.shared | {
        "saes": group.sections,
        "hook_names": {sae: run.hook_name for sae, run in group.runs.items()},
        "seed": group.seed,
        "output_path": None,
    }
    return RunConfig(resolve_run(values), config.file)


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
