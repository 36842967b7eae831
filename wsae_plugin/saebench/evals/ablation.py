"""`tpp` and `scr`: what ablating a few latents does to probes, wanted and unwanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch.serialization import safe_globals

from wsae_plugin.errors import BadInputError
from wsae_plugin.replaced import replaced
from wsae_plugin.saebench import library
from wsae_plugin.saebench.evals.base import N_ABLATED, Eval, Job, Metric, Situation
from wsae_plugin.saebench.evals.probing import sizes

_QUICK_PUBLISHED = "LabHC/bias_in_bios_class_set1"


# No direction either: nothing is concluded from these.
_AUDIT = (
    "failed an audit of SAEBench's metrics (reseeding, ground truth, training; arXiv 2605.18229): "
    "shown, not judged"
)


def _config_of(perform_scr: bool) -> Callable[[Situation], dict[str, Any]]:
    def config(situation: Situation) -> dict[str, Any]:
        sources = [source for source in situation.labelled if source.names_for_ablation]
        names = [name for source in sources for name in source.names_for_ablation]
        if not names:
            raise BadInputError(
                "tpp and scr need LabHC/bias_in_bios, canrager/amazon_reviews_mcauley_1and5 or own "
                "data; --datasets holds none of them"
            )
        if situation.is_quick and _QUICK_PUBLISHED in names:
            names = [n for n in names if n == _QUICK_PUBLISHED or "_form" in n]
        # SCR wants more than twice as many of two of the four kinds.
        wanted = (200, 100) if situation.is_quick else (4000, 1000)
        train, test = sizes(sources, wanted, spare=2 if perform_scr else 4)
        longest = 64 if situation.is_quick else 128
        n_values = (2, 10, 50) if situation.is_quick else N_ABLATED
        pairs = {s.names[0]: s.pairs for s in sources if s.labels}
        return (
            situation.language_model
            | {
                "perform_scr": perform_scr,
                "dataset_names": names,
                "train_set_size": train,
                "test_set_size": test,
                "context_length": min(longest, situation.model.cfg.n_ctx),
                "n_values": [n for n in n_values if n <= situation.d_sae],
                "sae_batch_size": 125,
            }
            | ({"column1_vals_lookup": pairs} if pairs else {})
        )

    return config


def _run(job: Job) -> Mapping[str, float]:
    eval_config = library.module("evals.scr_and_tpp.eval_config")
    config = eval_config.ScrAndTppEvalConfig(**job.config)
    main = library.module("evals.scr_and_tpp.main")
    probe = library.module("evals.sparse_probing.probe_training").Probe
    # SAEBench pickles its probes, and a pickle in a folder may be anybody's.
    as_tensors = SimpleNamespace(dump=torch.save, load=torch.load)
    with replaced(main, pickle=as_tensors), safe_globals([probe, torch.nn.Linear]):
        main.run_eval(
            config,
            job.selected,
            job.device,
            str(job.scratch),
            force_rerun=True,
            artifacts_path=str(job.artifacts),
        )
    written = job.scratch / ("scr" if config.perform_scr else "tpp") / job.result_file.name
    if written.exists():
        written.replace(job.result_file)
    return {}


def _tpp_metrics(config: dict[str, Any]) -> Sequence[Metric]:
    return [
        Metric(
            f"tpp_threshold_{n}_total_metric",
            ("tpp_metrics", f"tpp_threshold_{n}_total_metric"),
            f"TPP, {n} latents",
            "none",
            headline=n == 10,
        )
        for n in config["n_values"]
    ]


def _scr_metrics(config: dict[str, Any]) -> Sequence[Metric]:
    return [
        Metric(
            f"scr_metric_threshold_{n}",
            ("scr_metrics", f"scr_metric_threshold_{n}"),
            f"SCR, {n} latents",
            "none",
            headline=n == 10,
        )
        for n in config["n_values"]
    ]


def _data(situation: Situation) -> list[str]:
    return [source.fingerprint for source in situation.labelled]


TPP = Eval(
    name="tpp",
    config=_config_of(perform_scr=False),
    run=_run,
    output=("evals.scr_and_tpp.eval_output", "TppEvalOutput"),
    metrics=_tpp_metrics,
    has_artifacts=True,
    data=_data,
    notes=lambda _: (_AUDIT,),
)
SCR = Eval(
    name="scr",
    config=_config_of(perform_scr=True),
    run=_run,
    output=("evals.scr_and_tpp.eval_output", "ScrEvalOutput"),
    metrics=_scr_metrics,
    has_artifacts=True,
    data=_data,
    notes=lambda _: (_AUDIT,),
)
