"""One training run, from a checked config to a run folder."""

from __future__ import annotations

import contextlib
import shlex
import traceback
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from wsae_plugin.distributed.launch import are_several, number
from wsae_plugin.distributed.layout import refuse_differences, shards_of
from wsae_plugin.distributed.shards import Shards
from wsae_plugin.distributed.world import PeerLostError, World, together
from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.messages import naming, one_line
from wsae_plugin.sources import open_source
from wsae_plugin.training.checkpoints import (
    check_readable,
    discard_half_written,
    newest_checkpoint,
)
from wsae_plugin.training.checks import warn
from wsae_plugin.training.config import RunConfig
from wsae_plugin.training.loop import TrainingInterruptedError, TrainingLoop
from wsae_plugin.training.output_folder import lock
from wsae_plugin.training.run_folder import RunFolder
from wsae_plugin.training.saes import build_saes


@dataclass(frozen=True)
class TrainedRun:
    """What a finished run left behind.

    Args:
        folder: The run folder.
        exports: SAE name → the folder that plain SAELens loads.
        metrics: SAE name → its metrics at the last step; of several processes the first has them.
        kernels: SAE name → what carried out its training step, for the SAEs that have a choice and
            that this process trains.
    """

    folder: Path
    exports: dict[str, Path]
    metrics: dict[str, dict[str, float | None]]
    kernels: dict[str, str]


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
    checkpoints of SAELens's own runners, the place in the text is approximate.

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
    with together(config.distributed.timeout) as world:
        refuse_differences(config.values, world, "config")
        with naming(config.file):
            shards = shards_of(config, world)
        return _train(
            config, output, world, shards, resume, keep_checkpoints, command, resume_command
        )


def _train(
    config: RunConfig,
    output: Path,
    world: World,
    shards: Mapping[str, Shards],
    resume: bool,
    keep_checkpoints: int | None,
    command: str,
    resume_command: str | None,
) -> TrainedRun:
    folder = RunFolder(output)
    checkpoint = world.tell(folder.start_of(config, resume) if world.is_first else None)
    start_from = checkpoint or config.values.get("resume_from_checkpoint")
    if start_from is not None:
        start_from = Path(start_from)
        if world.is_first:
            check_readable(start_from)
    resume_command = resume_command or command_to_resume(
        "train", folder.config_file, output, keep_checkpoints
    )
    with naming(config.file):
        # Dealt out from the first process's own memory, which has room for all of an SAE.
        host = "cpu" if world.size > 1 else None
        saes = build_saes(config, kept_on=host) if world.is_first else {}
        # A synthetic model without a seed of its own is drawn from the run's.
        torch.manual_seed(config.seed)
        source = open_source(config.runner_config())
    refuse_differences({hook: source.metadata(hook) for hook in source.d_in}, world, "data")
    source.share(world)
    loop = TrainingLoop(config, saes, source, folder, resume_command, keep_checkpoints, shards)
    record: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    del saes  # of which the loop keeps what this process trains
    if world.is_first:
        warn(config)
        record = _recorded(folder, config, world, command, checkpoint, resume)
    try:
        with record:
            _run(loop, start_from, folder, resume_command)
    except TrainingInterruptedError:
        # Until it is written down: torchrun ends all processes when it sees one end.
        world.tell(None)
        raise
    return TrainedRun(output, folder.exports(config), loop.last_metrics, loop.kernels)


@contextlib.contextmanager
def _recorded(
    folder: RunFolder,
    config: RunConfig,
    world: World,
    command: str,
    checkpoint: Path | None,
    resume: bool,
) -> Generator[None]:
    """Write into the folder, which no other run may have meanwhile, how it goes."""
    with lock(folder.path):
        # Another process may have had the folder while this one was preparing.
        if folder.start_of(config, resume) != checkpoint:
            raise BadInputError(f"--resume: the run in {folder.path} has just gone on; try again")
        discard_half_written(folder.checkpoints)
        folder.start(config, command, checkpoint)
        try:
            yield
            folder.end("finished")
        except BaseException as error:
            first = world.first_traceback() if isinstance(error, PeerLostError) else ""
            _record_failure(folder, error, first)
            raise


def _run(
    loop: TrainingLoop, start_from: Path | None, folder: RunFolder, resume_command: str
) -> None:
    try:
        loop.run(start_from)
    except PeerLostError as error:
        raise PeerLostError(_what_failed(folder, error, resume_command)) from error
    except Exception as error:
        if isinstance(error, RunFailedError):
            raise
        raise RunFailedError(_what_failed(folder, error, resume_command)) from error


def command_to_resume(
    command: str, config_file: Path, output: Path, keep_checkpoints: int | None
) -> str:
    """What to run to go on: `wsae train` or `wsae compare` with the folder's own config."""
    kept = [] if keep_checkpoints is None else ["--keep-checkpoints", str(keep_checkpoints)]
    words = [command, str(config_file), "--output", str(output), *kept, "--resume"]
    if not are_several():
        return shlex.join(["wsae", *words])
    there, here = number("WORLD_SIZE", 1), number("LOCAL_WORLD_SIZE", number("WORLD_SIZE", 1))
    machines = ["--nnodes", str(there // here)] if there > here else []
    return shlex.join(
        ["torchrun", *machines, "--nproc-per-node", str(here), "-m", "wsae_plugin", *words]
    )


def _record_failure(folder: RunFolder, error: BaseException, first: str) -> None:
    # On a full disk there may be no room for this either; the run can be resumed all the same.
    with contextlib.suppress(OSError):
        if isinstance(error, TrainingInterruptedError | KeyboardInterrupt):
            folder.end("interrupted")
        else:
            folder.end("failed", error=first + "".join(traceback.format_exception(error)))


def _what_failed(folder: RunFolder, error: Exception, resume_command: str) -> str:
    message = (
        f"training failed: {type(error).__name__}: {one_line(error)}; the traceback is in "
        f"{folder.record_file}"
    )
    checkpoint = newest_checkpoint(folder.checkpoints)
    if checkpoint is None:
        return message
    return f"{message}; when the cause is gone, go on from {checkpoint} with: {resume_command}"
