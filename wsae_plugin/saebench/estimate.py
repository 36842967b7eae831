"""What a benchmark would take: measurements, minutes, and what a judge would be asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wsae_plugin.saebench.bench import Planned, planned
from wsae_plugin.saebench.models import bench_model
from wsae_plugin.saebench.records import Record, record_file
from wsae_plugin.saebench.request import Request
from wsae_plugin.sources.opening import BUNDLED, published_model_name

# An explanation is asked for and then tested; prompts of SAEBench with 15 and 14 snippets of 21
# tokens, and answers of 30 and 33 tokens at most.
_CALLS_A_LATENT = 2
_TOKENS_A_LATENT = 1500


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
    plan = [(item, _record(item, output, request)) for item in planned(paths, request)]
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


def _record(item: Planned, output: Path, request: Request) -> Record | None:
    if request.force:
        return None
    return Record.read(record_file(output, item.eval.name, item.sae.name, item.seed))
