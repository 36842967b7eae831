"""One training run, from a checked config to a run folder."""

from __future__ import annotations

import contextlib
import logging
import shlex
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sae_lens.synthetic import SyntheticModel, SyntheticSAERunnerConfig

from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.messages import naming, one_line, refusals_as_bad_input
from wsae_plugin.training.checkpoints import (
    check_readable,
    discard_half_written,
    newest_checkpoint,
    restore_random_state,
)
from wsae_plugin.training.checks import warn
from wsae_plugin.training.config import RunConfig
from wsae_plugin.training.hooks import check_hooks, check_names_before_loading, hooks_of
from wsae_plugin.training.output_folder import lock
from wsae_plugin.training.run_folder import RunFolder
from wsae_plugin.training.runners import (
    WatchedLanguageModelRunner,
    WatchedMultiRunner,
    WatchedSyntheticRunner,
)
from wsae_plugin.training.saes import build_saes
from wsae_plugin.training.sources import open_dataset, open_model, sources_given_on_purpose
from wsae_plugin.training.watch import TrainingInterruptedError, TrainingWatch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedRun:
    """What a finished run left behind.

    Args:
        folder: The run folder.
        exports: SAE name → the folder that plain SAELens loads.
        metrics: SAE name → its metrics at the last step.
    """

    folder: Path
    exports: dict[str, Path]
    metrics: dict[str, dict[str, float | None]]


def train(
    config: RunConfig,
    output: Path,
    *,
    resume: bool = False,
    keep_checkpoints: int | None = None,
    command: str = "",
    resume_command: str | None = None,
) -> TrainedRun:
    """Train what `config` asks for.

    The same config gives the same numbers on the same machine: torch is seeded before the SAEs are
    built and again before the first batch, so runs that differ in the SAE alone also see the same
    batches. A resumed run goes on from the checkpoint with the very next batch and ends with the
    same weights, bit for bit on one machine with one number of threads, as a run that was never
    stopped. Where SAELens draws batches ahead of their use (`prefetch_llm_batches`), and from
    checkpoints of SAELens's own runners, it goes on near the place only.

    Args:
        config: From `load_run_config`.
        output: The run folder, made if need be.
        resume: Go on from the newest complete checkpoint in `output`.
        keep_checkpoints: How many of the newest checkpoints stay, 1 or more; None for all.
        command: The command line, for the run's record.
        resume_command: What an interrupted user is told to run; None for `wsae train`'s own.

    Returns:
        Where the SAEs are and how good they were at the last step.

    Raises:
        BadInputError: The folder, the model, its hook, the data set or an SAE is not as asked.
            Nothing has been written.
        TrainingInterruptedError: A signal came; the run can be resumed.
        RunFailedError: The training failed; the folder's run.json has the traceback.
    """
    folder = RunFolder(output)
    checkpoint = _checkpoint(folder, config, resume)
    start_from = checkpoint or _path_or_none(config.values.get("resume_from_checkpoint"))
    if start_from is not None:
        check_readable(start_from)
    resume_command = resume_command or command_to_resume(
        "train", folder.config_file, output, keep_checkpoints
    )
    watch = TrainingWatch(folder, resume_command, keep_checkpoints)
    with naming(config.source):
        run = _prepare(config, folder, watch, start_from)
    warn(config)
    with lock(output):
        # Another process may have had the folder while this one was preparing.
        if _checkpoint(folder, config, resume) != checkpoint:
            raise BadInputError(f"--resume: the run in {output} has just gone on; try again")
        discard_half_written(folder.checkpoints)
        folder.start(config, command, checkpoint)
        torch.manual_seed(config.seed)
        if start_from is not None:
            restore_random_state(start_from)
        try:
            run()
            folder.end("finished")
        except BaseException as error:
            _record_failure(folder, error)
            if isinstance(error, RunFailedError) or not isinstance(error, Exception):
                raise
            raise RunFailedError(_what_failed(folder, error, resume_command)) from error
    return TrainedRun(output, folder.exports(config), watch.last_metrics)


def command_to_resume(
    command: str, config_file: Path, output: Path, keep_checkpoints: int | None
) -> str:
    """What to run to go on: `wsae train` or `wsae compare` with the folder's own config."""
    kept = [] if keep_checkpoints is None else ["--keep-checkpoints", str(keep_checkpoints)]
    words = ["wsae", command, str(config_file), "--output", str(output), *kept, "--resume"]
    return shlex.join(words)


def _checkpoint(folder: RunFolder, config: RunConfig, resume: bool) -> Path | None:
    if resume:
        return folder.checkpoint_to_resume(config)
    folder.refuse_if_used()
    return None


def _prepare(
    config: RunConfig, folder: RunFolder, watch: TrainingWatch, start_from: Path | None
) -> Callable[[], object]:
    """Everything up to the first batch; what is left to do is the returned call."""
    runner_config = config.runner_config(folder.export(config), folder.checkpoints)
    torch.manual_seed(config.seed)
    saes = build_saes(config)
    if config.is_synthetic:
        return WatchedSyntheticRunner(
            watch,
            start_from,
            cfg=runner_config,
            override_sae=saes["sae"],
            override_synthetic_model=_synthetic_model(runner_config),
        ).run
    runner_config.resume_from_checkpoint = None if start_from is None else str(start_from)
    hooks = hooks_of(runner_config)
    check_names_before_loading(runner_config, hooks)
    model = open_model(runner_config, [hook.name for hook in hooks])
    check_hooks(runner_config, model, hooks)
    sources: dict[str, Any] = {
        "cfg": runner_config,
        "override_model": model,
        "override_dataset": open_dataset(runner_config.dataset_path, runner_config.streaming),
    }
    with (
        sources_given_on_purpose(),
        refusals_as_bad_input(f"dataset_path = {runner_config.dataset_path!r}"),
    ):
        runner = (
            WatchedMultiRunner(watch, **sources, override_saes=saes)
            if config.is_multi
            else WatchedLanguageModelRunner(watch, **sources, override_sae=saes["sae"])
        )
    if not getattr(runner.activations_store, "is_dataset_tokenized", True):
        logger.info(
            "The data set is raw text, tokenised as it is read; for long runs, SAELens's "
            "PretokenizeRunner does that once."
        )
    return runner.run


def _synthetic_model(runner_config: SyntheticSAERunnerConfig[Any]) -> SyntheticModel:
    with refusals_as_bad_input("synthetic_model"):
        model = SyntheticModel.load_from_source(
            runner_config.synthetic_model, device=runner_config.device
        )
    d_in, width = runner_config.sae.d_in, model.cfg.hidden_dim
    if d_in != width:
        # SAELens would change the config under an SAE that is already built.
        raise BadInputError(
            f"sae.d_in = {d_in}: the synthetic model is {width} wide; set it to {width}"
        )
    return model


def _record_failure(folder: RunFolder, error: BaseException) -> None:
    # On a full disk there may be no room for this either; the run can be resumed all the same.
    with contextlib.suppress(OSError):
        if isinstance(error, TrainingInterruptedError | KeyboardInterrupt):
            folder.end("interrupted")
        else:
            folder.end("failed", "".join(traceback.format_exception(error)))


def _what_failed(folder: RunFolder, error: Exception, resume_command: str) -> str:
    message = (
        f"training failed: {type(error).__name__}: {one_line(error)}; the traceback is in "
        f"{folder.run_file}"
    )
    checkpoint = newest_checkpoint(folder.checkpoints)
    if checkpoint is None:
        return message
    return f"{message}; when the cause is gone, go on from {checkpoint} with: {resume_command}"


def _path_or_none(path: str | None) -> Path | None:
    return None if path is None else Path(path)
