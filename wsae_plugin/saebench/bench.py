"""The benchmark: every SAE alone in a seeded call, after what SAEs share has been made once."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from wsae_plugin.comparison import runs_of
from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.saebench import library
from wsae_plugin.saebench.adapter import BenchSAE, describe
from wsae_plugin.saebench.data import labelled_sources, registered, text_source
from wsae_plugin.saebench.evals.base import Eval, Situation
from wsae_plugin.saebench.evals.table import REFUSED, evals_named
from wsae_plugin.saebench.fingerprint import fingerprint_of
from wsae_plugin.saebench.judge import Judge
from wsae_plugin.saebench.measure import Measurement, measure
from wsae_plugin.saebench.models import bench_model
from wsae_plugin.saebench.records import Record, record_file
from wsae_plugin.saebench.request import Request
from wsae_plugin.saebench.scores import read_records, write_scores
from wsae_plugin.saebench.stage import Stage
from wsae_plugin.training.sources import BUNDLED, published_model_name

_NOT_SHARED = ("n_values", "n_latents", "random_seed")


@dataclass(frozen=True)
class Planned:
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
    judge = _judge(request, output)
    plan = planned(paths, request, judge)
    output.mkdir(parents=True, exist_ok=True)
    output = output.resolve()
    stage = Stage(output / "cache")
    protocols: set[str] = set()
    failures: dict[str, str] = {}
    with tqdm(total=len(plan), desc="SAEBench", unit="SAE") as bar:
        for model_name, of_model in itertools.groupby(plan, key=lambda p: p.sae.model_name):
            for record, item, error in _measured(
                model_name, list(of_model), request, output, stage, bar
            ):
                if record is not None:
                    protocols.add(record.protocol)
                else:
                    failures.setdefault(item.eval.name, str(error))
                records = [
                    r
                    for r in read_records(output)
                    if r.eval not in request.evals or r.protocol in protocols
                ]
                document = write_scores(
                    output,
                    records,
                    request.seed,
                    request.noise_seed,
                    request.profile,
                    failures,
                    REFUSED,
                    library.versions(),
                    {each.sae.name: each.sae.run.path for each in plan},
                )
    if failures:
        raise RunFailedError("; ".join(failures.values()))
    return document  # pyright: ignore[reportPossiblyUnboundVariable]


def planned(paths: Sequence[Path], request: Request, judge: Judge | None = None) -> list[Planned]:
    """What would be measured: by model, then by eval; a baseline's noise right after it.

    Raises:
        BadInputError: An eval does not work, or not for one of the SAEs.
    """
    evals = evals_named(request.evals, judge)
    # Resolved, since SAEBench runs in a folder of its own.
    runs = runs_of([path.resolve() for path in paths])
    saes = [describe(run) for run in request.chosen(runs)]
    for sae in saes:
        for evaluation in evals:
            if evaluation.only_resid_post and not sae.hook_name.endswith("hook_resid_post"):
                raise BadInputError(
                    f"{sae.name}: {evaluation.name} reads hook_resid_post whatever the SAE's hook, "
                    f"and this one's is {sae.hook_name}; leave it out of --evals"
                )
    again = _one_baseline_a_hook(saes)
    models = dict.fromkeys(sae.model_name for sae in saes)
    return [
        Planned(evaluation, sae, seed)
        for model in models
        for evaluation in evals
        for sae in saes
        if sae.model_name == model
        for seed in (
            [request.seed, request.noise_seed]
            if sae.name in again and request.noise_seed is not None
            else [request.seed]
        )
    ]


def _one_baseline_a_hook(saes: Sequence[BenchSAE]) -> set[str]:
    first: dict[tuple[str, str], str] = {}
    for sae in saes:
        if sae.run.role == "baseline":
            first.setdefault((sae.model_name, sae.hook_name), sae.name)
    return set(first.values())


def _measured(
    model_name: str,
    plan: Sequence[Planned],
    request: Request,
    output: Path,
    stage: Stage,
    bar: tqdm[Any],
) -> Iterator[tuple[Record | None, Planned, RunFailedError | None]]:
    """Each planned measurement of one language model with its record, or what went wrong."""
    model = bench_model(model_name)
    is_bundled = model.name == published_model_name(BUNDLED)
    text = text_source(request.dataset, is_bundled, stage)
    labelled = labelled_sources(request.datasets, is_bundled, stage)
    tasks = request.tasks_known(_all_tasks()) if "sae_probes" in request.evals else ()
    fingerprint = model.fingerprint
    failed: set[str] = set()
    with ExitStack() as stack:
        language_model = stack.enter_context(model.loaded(stage, request.device))
        stack.enter_context(registered(labelled))
        for item in plan:
            bar.set_postfix_str(f"{item.eval.name} {item.sae.name}")
            if item.eval.name in failed:
                bar.update()
                continue
            situation = Situation(
                profile=request.profile,
                seed=item.seed,
                device=request.device,
                model=language_model,
                model_name=model.name,
                hook_name=item.sae.hook_name,
                d_sae=item.sae.d_sae,
                context_size=item.sae.context_size,
                text=text,
                labelled=labelled,
                tasks=tasks,
            )
            measurement = _measurement(
                item, situation, fingerprint, output, is_noise=item.seed != request.seed
            )
            record, error = _kept(measurement, output) if not request.force else None, None
            if record is None:
                try:
                    record = measure(measurement, situation)
                    record.write(_file(measurement, output))
                except RunFailedError as failure:
                    failed.add(item.eval.name)
                    error = failure
            bar.update()
            yield record, item, error


def _measurement(
    item: Planned,
    situation: Situation,
    model_fingerprint: str,
    output: Path,
    is_noise: bool,
) -> Measurement:
    config = item.eval.config(situation)
    inputs: dict[str, Any] = {
        "eval": item.eval.name,
        "model": model_fingerprint,
        # What differs between SAEs of one comparison does not make another protocol.
        "config": {k: v for k, v in config.items() if k not in _NOT_SHARED},
        "data": item.eval.data(situation),
        "versions": library.versions()["sae-bench"],
    }
    return Measurement(
        eval=item.eval,
        sae=item.sae,
        seed=item.seed,
        config=config,
        protocol=fingerprint_of(inputs | {"seed": item.seed}),
        inputs=fingerprint_of(inputs),
        output=output,
        is_noise=is_noise,
    )


def _kept(measurement: Measurement, output: Path) -> Record | None:
    record = Record.read(_file(measurement, output))
    is_same = (
        record is not None
        and record.protocol == measurement.protocol
        and record.sae == measurement.sae.fingerprint
        and record.config == measurement.config
        and measurement.result_file.is_file()
    )
    return record if is_same else None


def _file(measurement: Measurement, output: Path) -> Path:
    return record_file(output, measurement.eval.name, measurement.sae.name, measurement.seed)


def _judge(request: Request, output: Path) -> Judge | None:
    if "autointerp" not in request.evals or request.judge_model is None:
        return None
    judge = Judge(
        request.judge_url,
        request.judge_model,
        output.resolve() / "cache" / "judge",
        request.judge_rate,
    )
    judge.require_key()
    return judge


def _all_tasks() -> list[str]:
    return list(importlib.import_module("sae_probes").DATASETS)
