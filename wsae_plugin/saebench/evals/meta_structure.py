"""`meta_structure`: how much of the decoder a smaller SAE, trained on it, explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wsae_plugin.saebench import library
from wsae_plugin.saebench.evals.base import Eval, Job, Metric, Situation


def _config(situation: Situation) -> dict[str, Any]:
    config: dict[str, Any] = {"random_seed": situation.seed}
    if situation.is_quick:
        config |= {"train_steps": 300, "train_batch_size": 256, "autocast": False}
    return config


def _run(job: Job) -> Mapping[str, float]:
    eval_config = library.module("evals.meta_structure.eval_config")
    library.module("evals.meta_structure.main").run_eval(
        eval_config.MetaStructureEvalConfig(**job.config),
        job.selected,
        job.device,
        str(job.results),
        force_rerun=True,
    )
    return {}


def _metrics(config: dict[str, Any]) -> Sequence[Metric]:
    del config
    return [
        Metric(
            "decoder_fraction_variance_explained",
            ("meta_structure", "decoder_fraction_variance_explained"),
            "decoder explained by a meta-SAE",
            "down",
            headline=True,
        )
    ]


META_STRUCTURE = Eval(
    name="meta_structure",
    config=_config,
    run=_run,
    output=("evals.meta_structure.eval_output", "MetaStructureEvalOutput"),
    metrics=_metrics,
)
