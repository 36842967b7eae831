"""`tpp` and `scr`: what ablating a few latents does to probes, wanted and unwanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from sae_lens import SAE
from torch.serialization import safe_globals

from wsae_plugin.errors import BadInputError
from wsae_plugin.replaced import replaced
from wsae_plugin.saebench import library
from wsae_plugin.saebench.evals.base import N_ABLATED, Eval, Measurement, Metric, call
from wsae_plugin.saebench.evals.probing import sizes

_QUICK_PUBLISHED = "LabHC/bias_in_bios_class_set1"


# No direction either: nothing is concluded from these.
_AUDIT = (
    "failed an audit of SAEBench's metrics (reseeding, ground truth, training; arXiv 2605.18229): "
    "shown, not judged"
)


def _config(perform_scr: bool, measurement: Measurement) -> dict[str, Any]:
    is_quick = measurement.is_quick
    sources = [s for s in measurement.setting.labelled if s.names_for_ablation]
    names = [name for source in sources for name in source.names_for_ablation]
    if not names:
        raise BadInputError(
            "tpp and scr need LabHC/bias_in_bios, canrager/amazon_reviews_mcauley_1and5 or own "
            "data; --datasets holds none of them"
        )
    if is_quick and _QUICK_PUBLISHED in names:
        names = [n for n in names if n == _QUICK_PUBLISHED or "_form" in n]
    # SCR wants more than twice as many of two of the four kinds.
    wanted = (200, 100) if is_quick else (4000, 1000)
    train, test = sizes(sources, wanted, spare=2 if perform_scr else 4)
    n_values = (2, 10, 50) if is_quick else N_ABLATED
    pairs = {s.names[0]: s.pairs for s in sources if s.labels}
    return {
        **measurement.language_model,
        "perform_scr": perform_scr,
        "dataset_names": names,
        "train_set_size": train,
        "test_set_size": test,
        "context_length": min(64 if is_quick else 128, measurement.n_ctx),
        "n_values": [n for n in n_values if n <= measurement.sae.d_sae],
        "sae_batch_size": 125,
        **({"column1_vals_lookup": pairs} if pairs else {}),
    }


def _run(measurement: Measurement, sae: SAE[Any]) -> Mapping[str, float]:
    probe = library.module("evals.sparse_probing.probe_training").Probe
    # SAEBench pickles its probes, and a pickle in a folder may be anybody's.
    as_tensors = SimpleNamespace(dump=torch.save, load=torch.load)
    main = library.module("evals.scr_and_tpp.main")
    output, artifacts = measurement.scratch / "work", str(measurement.artifacts)
    with replaced(main, pickle=as_tensors), safe_globals([probe, torch.nn.Linear]):
        call(measurement, sae, output=output, artifacts_path=artifacts)
    written = output / measurement.eval.name / measurement.written.name
    if written.exists():
        written.replace(measurement.written)
    return {}


_AUDITED = (
    " It failed an audit of SAEBench's metrics (arXiv 2605.18229), so nothing is concluded from it."
)
_DEFINITIONS = {
    "scr": "Spurious correlation removal: how far ablating the top latents of a bias removes it "
    "from a classifier. Unbounded and noisy." + _AUDITED,
    "tpp": "Targeted probe perturbation: how far ablating one class's latents hurts that class's "
    "probe and no other." + _AUDITED,
}


def _metrics(name: str, prefix: str, suffix: str, config: dict[str, Any]) -> Sequence[Metric]:
    return [
        Metric(
            category=f"{name}_metrics",
            metric=f"{prefix}_threshold_{n}{suffix}",
            label=f"{name.upper()}, {n} latents",
            direction="none",
            headline=n == 10,
            definition=_DEFINITIONS[name],
        )
        for n in config["n_values"]
    ]


_TPP = Eval(
    name="tpp",
    package="scr_and_tpp",
    config_class="ScrAndTppEvalConfig",
    output_class="TppEvalOutput",
    config=partial(_config, False),
    metrics=partial(_metrics, "tpp", "tpp", "_total_metric"),
    run=_run,
    has_artifacts=True,
    data=lambda m: [source.fingerprint for source in m.setting.labelled],
    notes=lambda _: (_AUDIT,),
    seconds=3.6,
)
_SCR = replace(
    _TPP,
    name="scr",
    output_class="ScrEvalOutput",
    config=partial(_config, True),
    metrics=partial(_metrics, "scr", "scr_metric", ""),
    seconds=None,
)
EVALS = (_SCR, _TPP)
