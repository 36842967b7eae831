"""What a benchmark would take: measurements, minutes, and what a judge would be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wsae_plugin.saebench.bench import Planned, planned
from wsae_plugin.saebench.evals.autointerp import n_latents
from wsae_plugin.saebench.models import bench_model
from wsae_plugin.saebench.records import Record, record_file
from wsae_plugin.saebench.request import Request
from wsae_plugin.sources.opening import BUNDLED, published_model_name

# An explanation is asked for and then tested; prompts of SAEBench with 15 and 14 snippets of 21
# tokens, and answers of 30 and 33 tokens at most.
_CALLS_A_LATENT = 2
_TOKENS_A_LATENT = 1500

# Seconds an SAE: medians over 20 to 124 SAEs of 512 latents, bundled model, quick, one thread of
# a busy server; scr has not been timed.
_SECONDS = {
    "core": 9.0,
    "sparse_probing": 2.0,
    "sae_probes": 0.4,
    "absorption": 10.0,
    "tpp": 3.6,
    "meta_structure": 0.8,
}


@dataclass(frozen=True)
class EvalCost:
    """What one eval would take.

    Args:
        eval: Its name.
        saes: SAEs to measure.
        noise: Baselines to measure once more.
        done: How many of both have a record, which is kept unless something has changed.
        seconds: Of those that have none, without the caches that the SAEs of a hook share; None if
            nothing is known of this model and profile.
    """

    eval: str
    saes: int
    noise: int
    done: int
    seconds: float | None


@dataclass(frozen=True)
class Cost:
    """What a benchmark would take.

    Args:
        evals: One by one.
        judge_calls: For autointerp.
        judge_tokens: In prompts and answers, about.
    """

    evals: list[EvalCost]
    judge_calls: int
    judge_tokens: int


def estimate(paths: Sequence[Path], output: Path, request: Request) -> Cost:
    """Count without loading anything; SAEBench need not be installed.

    Raises:
        BadInputError: As for `bench`.
    """
    plan = planned(paths, request)
    evals = [_cost(name, plan, output, request) for name in request.evals]
    asked = sum(
        min(n_latents(request.profile), item.sae.d_sae)
        for item in plan
        if item.eval.name == "autointerp" and _record(item, output, request) is None
    )
    return Cost(evals, _CALLS_A_LATENT * asked, _TOKENS_A_LATENT * asked)


def _cost(name: str, plan: Sequence[Planned], output: Path, request: Request) -> EvalCost:
    mine = [item for item in plan if item.eval.name == name]
    records = [_record(item, output, request) for item in mine]
    left = [item for item, record in zip(mine, records, strict=True) if record is None]
    measured = [record.seconds for record in records if record is not None]
    if measured:
        seconds = len(left) * sum(measured) / len(measured)
    elif name in _SECONDS and request.profile == "quick" and _all_bundled(mine):
        seconds = len(left) * _SECONDS[name]
    else:
        seconds = None
    n_noise = sum(item.seed != request.seed for item in mine)
    return EvalCost(name, len(mine) - n_noise, n_noise, len(measured), seconds)


def _record(item: Planned, output: Path, request: Request) -> Record | None:
    if request.force:
        return None
    return Record.read(record_file(output, item.eval.name, item.sae.name, item.seed))


def _all_bundled(plan: Sequence[Planned]) -> bool:
    bundled = published_model_name(BUNDLED)
    return all(bench_model(item.sae.model_name).name == bundled for item in plan)
