"""One SAE in one eval: alone, seeded, with the caches it shares made before it comes."""

from __future__ import annotations

import contextlib
import shutil
import time
import warnings
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsae_plugin.credentials import redacting_stream
from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.messages import one_line
from wsae_plugin.remote_code import way_out
from wsae_plugin.saebench import library
from wsae_plugin.saebench.adapter import BenchSAE, load
from wsae_plugin.saebench.evals.autointerp import LATENTS_SCORED
from wsae_plugin.saebench.evals.base import Eval, Job, Situation
from wsae_plugin.saebench.evals.core import CORRECTED
from wsae_plugin.saebench.fingerprint import fingerprint_of
from wsae_plugin.saebench.records import Record, values_of
from wsae_plugin.saebench.seeding import seeded

_FURTHER = {
    "core": ("corrected/core", CORRECTED),
    "autointerp": ("saebench/autointerp", (LATENTS_SCORED,)),
}


@dataclass(frozen=True)
class Measurement:
    """What is to be measured, and where the result goes.

    Args:
        eval: The eval.
        sae: The SAE.
        seed: Of the measurement.
        config: Of the eval.
        protocol: Fingerprint of all it depends on but the SAE.
        inputs: Fingerprint of the same without the seed.
        output: Folder of the benchmark; absolute.
        is_noise: Whether this is a second measurement, for the noise.
    """

    eval: Eval
    sae: BenchSAE
    seed: int
    config: dict[str, Any]
    protocol: str
    inputs: str
    output: Path
    is_noise: bool

    @property
    def result_file(self) -> Path:
        """Where SAEBench's own result ends up."""
        kind = "noise" if self.is_noise else "results"
        name = f"{self.sae.name}_custom_sae_eval_results.json"
        return self.output / kind / self.eval.name / name

    @property
    def log_file(self) -> Path:
        """What SAEBench prints."""
        name = f"{self.sae.name}.seed-{self.seed}.txt"
        return self.output / "cache" / "logs" / self.eval.name / name

    @property
    def artifacts(self) -> Path:
        """Caches that SAEs of one hook share; relative to the stage, for SAEBench's own records.

        SAEBench keys them by names; here the key holds all that they depend on.
        """
        return self._shared("artifacts", self.protocol)

    @property
    def activations(self) -> Path:
        """The same for what does not depend on the seed."""
        return self._shared("activations", self.inputs)

    def _shared(self, kind: str, key: str) -> Path:
        return Path(kind) / f"{self.eval.name}-{fingerprint_of([key, self.sae.hook_name])}"


def measure(measurement: Measurement, situation: Situation) -> Record:
    """Run SAEBench; the working directory is the stage's.

    Raises:
        RunFailedError: SAEBench raised an error or wrote no result, or not in its own format.
    """
    if measurement.eval.has_artifacts:
        _make_artifacts(measurement, situation)
    started = time.monotonic()
    further, notes = _run(measurement, situation, measurement.result_file.parent)
    further_eval, further_metrics = _FURTHER.get(measurement.eval.name, ("", ()))
    return Record(
        eval=measurement.eval.name,
        run=measurement.sae.name,
        arm=measurement.sae.run.arm,
        hook=f"{situation.model_name} {measurement.sae.hook_name}",
        protocol=measurement.protocol,
        sae=measurement.sae.fingerprint,
        seed=measurement.seed,
        config=measurement.config,
        seconds=round(time.monotonic() - started, 3),
        notes=[*notes, *measurement.eval.notes(situation)],
        values=values_of(
            f"saebench/{measurement.eval.name}",
            measurement.eval.metrics(measurement.config),
            measurement.result_file,
            further,
            further_eval,
            further_metrics,
        ),
    )


def _make_artifacts(measurement: Measurement, situation: Situation) -> None:
    """Let a first run, thrown away, make the caches: it draws random numbers that others do not.

    The mark is set last, so that caches of an interrupted run are made anew.
    """
    folder = Path.cwd() / measurement.artifacts
    mark = folder / "whole"
    if mark.is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    scratch = Path.cwd() / "scratch" / "first"
    _run(measurement, situation, scratch)
    shutil.rmtree(scratch, ignore_errors=True)
    mark.touch()


def _run(
    measurement: Measurement, situation: Situation, results: Path
) -> tuple[Mapping[str, float], list[str]]:
    name = measurement.eval.name
    scratch = Path("scratch") / name
    shutil.rmtree(scratch, ignore_errors=True)
    written = Path.cwd() / scratch / "results"
    written.mkdir(parents=True)
    with _failures_named(measurement), _into(measurement.log_file):
        sae, notes = load(measurement.sae, situation.model_name, situation.device)
    job = Job(
        run=measurement.sae.name,
        sae=sae,
        model=situation.model,
        config=measurement.config,
        results=written,
        artifacts=measurement.artifacts,
        activations=measurement.activations,
        scratch=scratch / "work",
        seed=measurement.seed,
        device=situation.device,
    )
    with _failures_named(measurement), _into(measurement.log_file), seeded(measurement.seed):
        further = measurement.eval.run(job)
        if not job.result_file.is_file():
            raise RunFailedError("SAEBench wrote no result" + _cause(measurement.log_file))
        _validate(measurement.eval, job.result_file)
    results.mkdir(parents=True, exist_ok=True)
    job.result_file.replace(results / job.result_file.name)
    shutil.rmtree(scratch, ignore_errors=True)
    return further, notes


def _validate(evaluation: Eval, file: Path) -> None:
    module, name = evaluation.output
    library.module("sae_bench_utils.testing_utils").validate_eval_output_format_file(
        str(file), getattr(library.module(module), name)
    )


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
