"""A comparison, from a checked config to a folder of matched runs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tqdm.auto import tqdm

from wsae_plugin.comparison import Comparison
from wsae_plugin.errors import RunFailedError
from wsae_plugin.training.config import RunConfig
from wsae_plugin.training.matched.config import ComparisonConfig
from wsae_plugin.training.matched.constant import write_constants
from wsae_plugin.training.matched.folder import ComparisonFolder
from wsae_plugin.training.matched.plan import group_config, plan
from wsae_plugin.training.matched.sources import check_sources
from wsae_plugin.training.messages import one_line
from wsae_plugin.training.output_folder import lock
from wsae_plugin.training.run_folder import RunFolder
from wsae_plugin.training.train import command_to_resume, train


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
    folder = ComparisonFolder(output)
    if resume:
        folder.check_resumable(config)
    else:
        folder.refuse_if_used()
        check_sources(config)
    resume_command = command_to_resume("compare", folder.config_file, output, keep_checkpoints)
    train_one = partial(
        train, keep_checkpoints=keep_checkpoints, command=command, resume_command=resume_command
    )
    with lock(output):
        # Another process may have had the folder while this one was looking at the sources.
        if resume:
            folder.check_resumable(config)
        else:
            folder.refuse_if_used()
            folder.start(config, command)
        try:
            _train_groups(config, folder, train_one)
        except OSError as error:
            raise RunFailedError(
                f"{output}: cannot be written: {one_line(error)}; when the cause is gone, go on "
                f"with: {resume_command}"
            ) from error
    return Comparison.read(output)


def _train_groups(
    config: ComparisonConfig, folder: ComparisonFolder, train_one: Callable[..., object]
) -> None:
    with tqdm(plan(config), "Groups", unit="group") as bar:
        for group in bar:
            bar.set_description(f"Group {group.name}, {len(group.runs)} SAEs")
            if folder.has(group):
                folder.tidy(group)
                continue
            run_config = group_config(config, group, folder.path)
            write_constants(run_config, group, folder.path)
            start = time.monotonic()
            _train(run_config, folder.working(group), train_one)
            folder.add(group, run_config, seconds=time.monotonic() - start)
    folder.finish()


def _train(config: RunConfig, folder: RunFolder, train_one: Callable[..., object]) -> None:
    """Train a group, from where a former attempt left it."""
    if folder.is_finished():
        return
    resume = folder.run_file.is_file()
    if not resume:
        with lock(folder.path):
            shutil.rmtree(folder.path)
    train_one(config, folder.path, resume=resume)
