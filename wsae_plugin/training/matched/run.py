"""A comparison, from a checked config to a folder of matched runs."""

from __future__ import annotations

import shlex
import shutil
import time
from pathlib import Path

from tqdm.auto import tqdm

from wsae_plugin.comparison import Comparison
from wsae_plugin.training.config import RunConfig
from wsae_plugin.training.matched.config import ComparisonConfig
from wsae_plugin.training.matched.constant import write_constants
from wsae_plugin.training.matched.folder import ComparisonFolder
from wsae_plugin.training.matched.plan import group_config, plan
from wsae_plugin.training.matched.sources import check_sources
from wsae_plugin.training.run_folder import RunFolder
from wsae_plugin.training.train import train


def run_comparison(
    config: ComparisonConfig, output: Path, *, resume: bool = False, command: str = ""
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
        command: The command line, for the record.

    Returns:
        The finished comparison.

    Raises:
        BadInputError: The folder, the model, a hook or the data set is not as asked. Nothing has
            been written.
        TrainingInterruptedError: A signal came; the comparison can be resumed.
        RunFailedError: A training failed; the run.json of its group has the traceback.
    """
    folder = ComparisonFolder(output)
    if resume:
        folder.check_resumable(config)
    else:
        folder.refuse_if_used()
        check_sources(config)
        folder.start(config, command)
    resume_command = shlex.join(
        ["wsae", "compare", str(folder.config_file), "--output", str(output), "--resume"]
    )
    groups = plan(config)
    with tqdm(groups, "Groups", unit="group") as bar:
        for group in bar:
            bar.set_description(f"Group {group.name}, {len(group.runs)} SAEs")
            if folder.has(group):
                folder.tidy(group)
                continue
            run_config = group_config(config, group, output)
            write_constants(run_config, group, output)
            start = time.monotonic()
            _train(run_config, folder.working(group), command, resume_command)
            folder.add(group, run_config, seconds=time.monotonic() - start)
    folder.finish()
    return Comparison.load(output)


def _train(config: RunConfig, folder: RunFolder, command: str, resume_command: str) -> None:
    """Train a group, from where a former attempt left it."""
    if folder.is_finished():
        return
    resume = folder.run_file.is_file()
    if not resume:
        with folder.lock():
            shutil.rmtree(folder.path)
    train(config, folder.path, resume=resume, command=command, resume_command=resume_command)
