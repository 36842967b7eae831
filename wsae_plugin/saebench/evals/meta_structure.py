"""`meta_structure`: how much of the decoder a smaller SAE, trained on it, explains."""

from __future__ import annotations

from typing import Any

from wsae_plugin.saebench.evals.base import Eval, Measurement, Metric


def _config(measurement: Measurement) -> dict[str, Any]:
    config: dict[str, Any] = {"random_seed": measurement.seed}
    if measurement.is_quick:
        config |= {"train_steps": 300, "train_batch_size": 256, "autocast": False}
    return config


_METRIC = Metric(
    category="meta_structure",
    metric="decoder_fraction_variance_explained",
    label="decoder explained by a meta-SAE",
    direction="down",
    headline=True,
    definition="Share of the decoder's variance that a smaller SAE of it explains: shared "
    "structure between latents.",
)

EVALS = (
    Eval(
        name="meta_structure",
        package="meta_structure",
        config_class="MetaStructureEvalConfig",
        output_class="MetaStructureEvalOutput",
        config=_config,
        metrics=lambda _: (_METRIC,),
        seconds=0.8,
    ),
)
