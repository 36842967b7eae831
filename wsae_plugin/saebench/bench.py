"""The benchmark: every SAE alone in a seeded call, after what SAEs share has been made once."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm.auto import tqdm

from wsae_plugin.compare.runs import runs_of
from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.fingerprint import fingerprint_of
from wsae_plugin.saebench import library
from wsae_plugin.saebench.adapter import BenchSAE, describe, refuse_another_place
from wsae_plugin.saebench.data import labelled_sources, registered, text_source
from wsae_plugin.saebench.evals.base import Eval, Measurement, Setting
from wsae_plugin.saebench.evals.table import evals_named
from wsae_plugin.saebench.judge import Judge
from wsae_plugin.saebench.measure import measure
from wsae_plugin.saebench.models import bench_model
from wsae_plugin.saebench.records import Record, read_records, record_file, write_scores
from wsae_plugin.saebench.request import Request
from wsae_plugin.saebench.stage import Stage
from wsae_plugin.sources.opening import BUNDLED, published_model_name

# An explanation is asked for and then tested; prompts of SAEBench with 15 and 14 snippets of 21
# tokens, and answers of 30 and 33 tokens at most.
_CALLS_A_LATENT = 2
_TOKENS_A_LATENT = 1500


class Planned(NamedTuple):
    """One SAE to be measured in one eval with one seed."""

    eval: Eval
    sae: BenchSAE
    seed: int


def bench(paths: Sequence[Path], output: Path, request: Request) -> dict[str, Any]:
    """Measure runs with SAEBench; write `scores.json`, results and records into `output`.

    Every run's own folder gets scores/saebench.json.

    What is there from before, of the same SAE under the same config, seed, data and model, is kept.

    Args:
        paths: Comparison folders and run folders.
        output: Made if it is not there.
        request: What to measure.

    Returns:
        The content of scores.json.

    Raises:
        BadInputError: The request cannot be carried out as asked; nothing is measured.
        RunFailedError: SAEBench failed at an eval; the other evals are done and written.
    """
    library.require()
    output = output.resolve()
    judge = _judge(request, output)
    plan = planned(paths, request)
    output.mkdir(parents=True, exist_ok=True)
    runs = {item.sae.name: item.sae.run.path for item in plan}
    fingerprints = {item.sae.name: item.sae.fingerprint for item in plan}
    protocols: set[str] = set()
    failures: dict[str, str] = {}
    document: dict[str, Any] = {}
    with tqdm(total=len(plan), desc="SAEBench", unit="SAE") as bar:
        for model_name, of_model in itertools.groupby(plan, key=lambda item: item.sae.model_name):
            failed: set[str] = set()
            with _setting(model_name, request, output, judge) as setting:
                measurements = [Measurement(*item, setting) for item in of_model]
                for measurement in measurements:
                    refuse_another_place(measurement.sae, setting.model.cfg)
                # All protocols first: what cannot be asked is refused before anything is measured.
                for measurement, protocol in [(m, m.protocol) for m in measurements]:
                    name = measurement.eval.name
                    bar.set_postfix_str(f"{name} {measurement.sae.name}")
                    bar.update()
                    if name in failed:
                        continue
                    try:
                        _measure_unless_kept(measurement)
                        protocols.add(protocol)
                    except RunFailedError as error:
                        failed.add(name)
                        failures.setdefault(name, str(error))
                    records = [
                        record
                        for record in read_records(output)
                        # Not of an SAE that was trained again since.
                        if record.sae == fingerprints.get(record.run, record.sae)
                        and (record.eval not in request.evals or record.protocol in protocols)
                    ]
                    document = write_scores(output, records, request, failures, runs)
    if failures:
        raise RunFailedError("; ".join(failures.values()))
    return document


def planned(paths: Sequence[Path], request: Request) -> list[Planned]:
    """What would be measured: by model, then by eval; a baseline's noise right after it.

    Raises:
        BadInputError: An eval does not work, or not for one of the SAEs.
    """
    evals = evals_named(request.evals)
    # Resolved, since SAEBench runs in a folder of its own.
    runs = runs_of([path.resolve() for path in paths], needs_language_model=True)
    saes = [describe(run) for run in request.chosen(runs)]
    for sae in saes:
        for evaluation in evals:
            if evaluation.only_resid_post and not sae.hook_name.endswith("hook_resid_post"):
                raise BadInputError(
                    f"{sae.name}: {evaluation.name} reads hook_resid_post whatever the SAE's hook, "
                    f"and this one's is {sae.hook_name}; leave it out of --evals"
                )
    # Of each hook, the first baseline.
    baselines: dict[tuple[str, str], str] = {}
    for sae in saes:
        if sae.run.role == "baseline":
            baselines.setdefault((sae.model_name, sae.hook_name), sae.name)
    again = [] if request.noise_seed is None else [request.noise_seed]
    return [
        Planned(evaluation, sae, seed)
        for model in dict.fromkeys(sae.model_name for sae in saes)
        for evaluation in evals
        for sae in saes
        if sae.model_name == model
        for seed in (request.seed, *(again if sae.name in baselines.values() else ()))
    ]


def estimate(paths: Sequence[Path], output: Path, request: Request) -> dict[str, Any]:
    """Count without loading anything; SAEBench need not be installed.

    Returns:
        `evals`, for each its name, `saes` to measure, baselines to measure once more for the
        `noise`, how many of both are `done` (they have a record, which is kept unless something
        has changed), and `seconds` for those that are not, without the caches that the SAEs of a
        hook share (None if nothing is known of this model and profile). `judge_calls` and
        `judge_tokens`, in prompts and answers, about.

    Raises:
        BadInputError: As for `bench`.
    """
    plan = [(item, _kept(item, output, request)) for item in planned(paths, request)]
    latents = sum(
        item.eval.judged(request.profile, item.sae.d_sae) for item, record in plan if not record
    )
    evals = [[entry for entry in plan if entry[0].eval.name == name] for name in request.evals]
    return {
        "evals": [_cost(mine, request) for mine in evals],
        "judge_calls": _CALLS_A_LATENT * latents,
        "judge_tokens": _TOKENS_A_LATENT * latents,
    }


def _cost(plan: Sequence[tuple[Planned, Record | None]], request: Request) -> dict[str, Any]:
    evaluation = plan[0][0].eval
    measured = [record.seconds for _, record in plan if record]
    n_noise = sum(item.seed != request.seed for item, _ in plan)
    bundled = published_model_name(BUNDLED)
    if measured:
        each = sum(measured) / len(measured)
    elif request.profile == "quick" and all(
        bench_model(item.sae.model_name).name == bundled for item, _ in plan
    ):
        each = evaluation.seconds
    else:
        each = None
    return {
        "eval": evaluation.name,
        "saes": len(plan) - n_noise,
        "noise": n_noise,
        "done": len(measured),
        "seconds": None if each is None else each * (len(plan) - len(measured)),
    }


@contextlib.contextmanager
def _setting(
    model_name: str, request: Request, output: Path, judge: Judge | None
) -> Generator[Setting]:
    """Be on the stage, where SAEBench finds the language model and the data."""
    model, stage = bench_model(model_name), Stage(output / "cache")
    is_bundled = model.name == published_model_name(BUNDLED)
    text = text_source(request.dataset, is_bundled, stage)
    labelled = labelled_sources(request.datasets, is_bundled, stage)
    fingerprint = model.fingerprint
    with model.loaded(stage, request.device) as loaded, registered(labelled):
        yield Setting(request, output, loaded, model.name, fingerprint, text, labelled, judge)


def _kept(item: Planned | Measurement, output: Path, request: Request) -> Record | None:
    """What there is from before."""
    file = record_file(output, item.eval.name, item.sae.name, item.seed)
    return None if request.force else Record.read(file)


def _measure_unless_kept(measurement: Measurement) -> None:
    sae, setting = measurement.sae, measurement.setting
    kept = _kept(measurement, setting.output, setting.request)
    # As JSON has it, which knows no tuples.
    asked = measurement.protocol, sae.fingerprint, fingerprint_of(measurement.config)
    is_same = kept and (kept.protocol, kept.sae, fingerprint_of(kept.config)) == asked
    if not (is_same and measurement.result_file.is_file()):
        name = measurement.eval.name
        measure(measurement).write(record_file(setting.output, name, sae.name, measurement.seed))


def _judge(request: Request, output: Path) -> Judge | None:
    if "autointerp" not in request.evals or request.judge_model is None:
        return None
    answers = output / "cache" / "judge"
    judge = Judge(request.judge_url, request.judge_model, answers, request.judge_rate)
    judge.require_key()
    return judge
