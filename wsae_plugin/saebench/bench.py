"""The benchmark: every SAE alone in a seeded call, after what SAEs share has been made once."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm.auto import tqdm

from wsae_plugin.compare.manifest import runs_of
from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.saebench import library
from wsae_plugin.saebench.adapter import BenchSAE, describe
from wsae_plugin.saebench.data import labelled_sources, registered, text_source
from wsae_plugin.saebench.evals.base import Eval, Measurement, Setting
from wsae_plugin.saebench.evals.table import REFUSED, evals_named
from wsae_plugin.saebench.judge import Judge
from wsae_plugin.saebench.measure import measure
from wsae_plugin.saebench.models import bench_model
from wsae_plugin.saebench.records import Record, record_file
from wsae_plugin.saebench.request import Request
from wsae_plugin.saebench.scores import read_records, write_scores
from wsae_plugin.saebench.stage import Stage
from wsae_plugin.sources.opening import BUNDLED, published_model_name


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
    protocols: set[str] = set()
    failures: dict[str, str] = {}
    document: dict[str, Any] = {}
    with tqdm(total=len(plan), desc="SAEBench", unit="SAE") as bar:
        for model_name, of_model in itertools.groupby(plan, key=lambda item: item.sae.model_name):
            failed: set[str] = set()
            with _setting(model_name, request, output, judge) as setting:
                measurements = [Measurement(*item, setting) for item in of_model]
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
                        if record.eval not in request.evals or record.protocol in protocols
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
                        {item.sae.name: item.sae.run.path for item in plan},
                    )
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
    runs = runs_of([path.resolve() for path in paths])
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


def _measure_unless_kept(measurement: Measurement) -> None:
    sae, request = measurement.sae, measurement.setting.request
    file = record_file(
        measurement.setting.output, measurement.eval.name, sae.name, measurement.seed
    )
    kept = None if request.force else Record.read(file)
    asked = measurement.protocol, sae.fingerprint, measurement.config
    is_same = kept is not None and (kept.protocol, kept.sae, kept.config) == asked
    if not (is_same and measurement.result_file.is_file()):
        measure(measurement).write(file)


def _judge(request: Request, output: Path) -> Judge | None:
    if "autointerp" not in request.evals or request.judge_model is None:
        return None
    answers = output / "cache" / "judge"
    judge = Judge(request.judge_url, request.judge_model, answers, request.judge_rate)
    judge.require_key()
    return judge
