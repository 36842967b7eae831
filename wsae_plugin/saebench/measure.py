"""One measurement: alone, seeded, with the caches that it shares made before it comes."""

from __future__ import annotations

import contextlib
import random
import shutil
import time
import warnings
from collections.abc import Generator, Mapping
from pathlib import Path

import numpy as np
import torch

from wsae_plugin.credentials import redacting_stream
from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.messages import one_line
from wsae_plugin.remote_code import way_out
from wsae_plugin.saebench import library
from wsae_plugin.saebench.adapter import load
from wsae_plugin.saebench.evals.base import Measurement
from wsae_plugin.saebench.records import Record, values_of


def measure(measurement: Measurement) -> Record:
    """Run SAEBench; the working directory is the stage's.

    Raises:
        RunFailedError: SAEBench raised an error or wrote no result, or not in its own format.
    """
    evaluation, sae, setting = measurement.eval, measurement.sae, measurement.setting
    mark = measurement.artifacts / "whole"
    if evaluation.has_artifacts and not mark.is_file():
        # A first run, thrown away, makes the caches: it draws random numbers that others do not.
        # The mark is set last, so that caches of an interrupted run are made anew.
        shutil.rmtree(measurement.artifacts, ignore_errors=True)
        measurement.artifacts.mkdir(parents=True)
        _run(measurement)
        mark.touch()
    started = time.monotonic()
    further, notes = _run(measurement)
    measurement.result_file.parent.mkdir(parents=True, exist_ok=True)
    measurement.written.replace(measurement.result_file)
    shutil.rmtree(measurement.scratch, ignore_errors=True)
    return Record(
        eval=evaluation.name,
        run=sae.name,
        arm=sae.run.arm,
        hook=f"{setting.model_name} {sae.hook_name}",
        protocol=measurement.protocol,
        sae=sae.fingerprint,
        seed=measurement.seed,
        config=measurement.config,
        seconds=round(time.monotonic() - started, 3),
        notes=[*notes, *evaluation.notes(measurement)],
        values=values_of(
            evaluation.name,
            evaluation.metrics(measurement.config),
            measurement.result_file,
            further,
        ),
    )


def _run(measurement: Measurement) -> tuple[Mapping[str, float], list[str]]:
    """Numbers measured beside SAEBench's, which are in `measurement.written`, and notes."""
    setting, written = measurement.setting, measurement.written
    shutil.rmtree(measurement.scratch, ignore_errors=True)
    written.parent.mkdir(parents=True)
    with _failures_named(measurement), _into(measurement.log_file):
        sae, notes = load(measurement.sae, setting.model_name, setting.request.device)
        with seeded(measurement.seed):
            further = measurement.eval.run(measurement, sae)
            if not written.is_file():
                raise RunFailedError("SAEBench wrote no result" + _cause(measurement.log_file))
            library.module("sae_bench_utils.testing_utils").validate_eval_output_format_file(
                str(written),
                getattr(measurement.eval.module("eval_output"), measurement.eval.output_class),
            )
    return further, notes


@contextlib.contextmanager
def seeded(seed: int) -> Generator[None]:
    """Seed Python, NumPy and torch, with gradients on; afterwards all is as before.

    SAEBench seeds some evals. TPP and autointerp switch gradients off for the whole process, so
    that an eval after them would fail to train.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        with torch.enable_grad():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


@contextlib.contextmanager
def _failures_named(measurement: Measurement) -> Generator[None]:
    """Whatever SAEBench raises names the eval and the run, and where its output is."""
    where = f"{measurement.eval.name}, {measurement.sae.name}"
    try:
        yield
    except BadInputError:
        raise
    except RunFailedError as error:
        raise RunFailedError(f"{where}: {error} (see {measurement.log_file})") from error
    except Exception as error:
        raise RunFailedError(
            f"{where}: {type(error).__name__}: {one_line(error)}{way_out(error)} "
            f"(see {measurement.log_file})"
        ) from error


@contextlib.contextmanager
def _into(log_file: Path) -> Generator[None]:
    """SAEBench prints, warns and draws bars; a file has it."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with (
        log_file.open("w", encoding="utf-8", buffering=1) as stream,
        contextlib.redirect_stdout(redacting_stream(stream)),
        contextlib.redirect_stderr(redacting_stream(stream)),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("default")
        yield


def _cause(log_file: Path) -> str:
    """absorption prints why it writes nothing, and goes on."""
    lines = log_file.read_text(encoding="utf-8").splitlines()
    reasons = [line for line in lines if line.startswith("Cannot ")]
    return f": {one_line(reasons[-1])}" if reasons else ""
