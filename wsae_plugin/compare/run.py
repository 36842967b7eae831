"""A comparison, from a checked config to a folder of matched runs."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from wsae_plugin.compare.config import ComparisonConfig
from wsae_plugin.compare.folder import ComparisonFolder, last_l0
from wsae_plugin.compare.manifest import Comparison
from wsae_plugin.compare.match_l0 import coefficient_of, match_l0
from wsae_plugin.compare.plan import Group, group_config, plan
from wsae_plugin.distributed.layout import Distributed
from wsae_plugin.distributed.world import World, together
from wsae_plugin.errors import RunFailedError
from wsae_plugin.messages import naming, one_line
from wsae_plugin.sources import LanguageModelSource, open_source
from wsae_plugin.sources.hooks import Hook
from wsae_plugin.training.config import RunConfig
from wsae_plugin.training.estimate import Estimate, estimate
from wsae_plugin.training.output_folder import lock
from wsae_plugin.training.run_folder import RunFolder
from wsae_plugin.training.train import TrainedRun, command_to_resume, train

logger = logging.getLogger(__name__)

_L0_TOLERANCE = 0.1


def estimate_comparison(config: ComparisonConfig) -> Estimate:
    """Steps, tokens and bytes of the largest group: groups are trained one after the other.

    Raises:
        BadInputError: SAELens or the plugin refuses to build one of the SAEs.
    """
    of_one_seed = [group for group in plan(config) if group.seed == config.seeds[0]]
    estimates = [estimate(group_config(config, group)) for group in of_one_seed]
    return max(estimates, key=lambda estimate: estimate.memory.total)


def run_comparison(
    config: ComparisonConfig,
    output: Path,
    *,
    resume: bool = False,
    keep_checkpoints: int | None = None,
    command: str = "",
) -> Comparison:
    """Train every SAE of a comparison, matched.

    For each seed there is one training run of all SAEs (or one for every `hooks_per_pass` hooks):
    they share the language model's forward pass and the batches in their order, and those of one
    shape at one hook start from the same weights. Runs of one pair therefore differ in their arm
    alone.

    Args:
        config: From `load_comparison_config`.
        output: The comparison folder, made if need be.
        resume: Go on in `output`: what is finished is kept, what was interrupted goes on from its
            checkpoint, as `train` does.
        keep_checkpoints: As `train` takes it; what is finished keeps none.
        command: The command line, for the record.

    Returns:
        The finished comparison.

    Raises:
        BadInputError: The folder, the model, a hook or the data set is not as asked. Nothing has
            been written.
        TrainingInterruptedError: A signal came; the comparison can be resumed.
        RunFailedError: A training failed, and the run.json of its group has the traceback; or the
            folder cannot be written any more. The comparison can be resumed.
    """
    with together(Distributed(**config.values.get("distributed", {})).timeout) as world:
        if world.is_first:
            made = _run_comparison(config, output, world, resume, keep_checkpoints, command)
            return world.tell(made)
        # The first says what to train, and does whatever else there is to do.
        while not isinstance(asked := world.hear(), Comparison):
            train(**asked)
        return asked


def _run_comparison(
    config: ComparisonConfig,
    output: Path,
    world: World,
    resume: bool,
    keep_checkpoints: int | None,
    command: str,
) -> Comparison:
    folder = ComparisonFolder(output)
    folder.check(config, resume)
    if not resume:
        _check_sources(config)
    resume_command = command_to_resume("compare", folder.config_file, output, keep_checkpoints)

    def train_one(config: RunConfig, output: Path, resume: bool = False) -> TrainedRun:
        asked: dict[str, Any] = {
            "config": config,
            "output": output,
            "resume": resume,
            "keep_checkpoints": keep_checkpoints,
            "command": command,
            "resume_command": resume_command,
        }
        return train(**world.tell(asked))

    with lock(output):
        # Another process may have had the folder while this one was looking at the sources.
        folder.check(config, resume)
        if not resume:
            folder.start(config, command)
        try:
            if config.values["match_l0"] is not None:
                config = _matched(config, folder, train_one)
            _train_groups(config, folder, train_one)
        except OSError as error:
            raise RunFailedError(
                f"{output}: cannot be written: {one_line(error)}; when the cause is gone, go on "
                f"with: {resume_command}"
            ) from error
    return Comparison.read(output)


def _matched(
    config: ComparisonConfig, folder: ComparisonFolder, train_one: Callable[..., TrainedRun]
) -> ComparisonConfig:
    """The config with the coefficients that `match_l0` finds, or found before an interruption."""
    if "l0_matching" not in folder.read_record():
        found = match_l0(config, folder, train_one)
        folder.update_record(l0_matching=[asdict(match) for match in found])
    found = Comparison.read(folder.path).l0_matching
    return replace(config, matched={match.sae: {match.field: match.found} for match in found})


def _warn_of_l0(folder: ComparisonFolder, group: Group) -> None:
    """Log which arms were not as sparse as their baseline at the last step."""
    runs = group.runs
    l0 = {sae: last_l0(folder.path / run.path) for sae, run in runs.items()}
    baselines = {run.pair: l0[sae] for sae, run in runs.items() if run.role == "baseline"}
    for sae, run in runs.items():
        mine, theirs = l0[sae], baselines[run.pair]
        if theirs and abs(mine / theirs - 1) > _L0_TOLERANCE:
            field = coefficient_of(group.sections[sae])
            logger.warning(
                "%s: L0 is %.1f, and %.1f of its baseline: most measures follow sparsity%s",
                *(run.run, mine, theirs),
                f"; another {field} for {run.arm} brings them together, and match_l0 in the config "
                "searches for it"
                if field
                else "",
            )


def _train_groups(
    config: ComparisonConfig, folder: ComparisonFolder, train_one: Callable[..., object]
) -> None:
    with tqdm(plan(config), "Groups", unit="group") as bar:
        for group in bar:
            bar.set_description(f"Group {group.name}, {len(group.runs)} SAEs")
            if folder.has(group):
                folder.tidy(group)
                continue
            run_config = group_config(config, group)
            start = time.monotonic()
            _train(run_config, folder.working(group), train_one)
            folder.add(group, run_config, seconds=time.monotonic() - start)
            _warn_of_l0(folder, group)
    folder.update_record(status="finished")


def _train(config: RunConfig, folder: RunFolder, train_one: Callable[..., object]) -> None:
    """Train a group, from where a former attempt left it."""
    if folder.is_finished():
        return
    resume = folder.record_file.is_file()
    if not resume:
        with lock(folder.path):
            shutil.rmtree(folder.path)
    train_one(config, folder.path, resume=resume)


def _check_sources(config: ComparisonConfig) -> None:
    """Refuse, before anything is written, what only the model and the data show.

    All hooks are looked at, also those of a pass that comes days later.

    Raises:
        BadInputError: The model, a hook, its width or the data set is not as asked.
    """
    first = group_config(config, plan(config)[0])
    with naming(config.file):
        if not first.has_language_model:
            for group in plan(config):
                if group.seed == config.seeds[0]:
                    open_source(group_config(config, group).runner_config()).close()
            return
        width: dict[str, Any] = {"d_in": config.values["sae"]["d_in"], "d_in_field": "sae.d_in"}
        hooks = [Hook(name, "hooks", head_index=None, **width) for name in config.hooks]
        LanguageModelSource(first.runner_config(), hooks)
