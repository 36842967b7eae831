"""`sparse_probing`: how well 1, 2 or 5 latents tell classes of texts apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wsae_plugin.saebench.data import Labelled
from wsae_plugin.saebench.evals.base import Eval, Measurement, Metric, call

KS = (1, 2, 5)
_QUICK_NAMES = ("LabHC/bias_in_bios_class_set1", "fancyzhx/ag_news")


def sizes(
    labelled: Sequence[Labelled],
    wanted: tuple[int, int],
    spare: int = 4,
) -> tuple[int, int]:
    """Texts to train and to test a probe on, or what own data suffices for.

    Args:
        labelled: The data sets.
        wanted: Train and test.
        spare: Texts of a set for each text of the rarest (label, attribute).
    """
    train, test = wanted
    for source in labelled:
        if source.smallest is not None:
            train = min(train, spare * (source.smallest[0] - 1))
            test = min(test, spare * (source.smallest[1] - 1))
    return train // 4 * 4, test // 4 * 4


def on_top(score: str, label: str, ks: Sequence[int], headline: bool = True) -> list[Metric]:
    """The test score of probes on few latents; the headline is that of one."""
    return [
        Metric(
            category="sae",
            metric=f"sae_top_{k}_test_{score}",
            label=f"{label}, {k} latent{'s' if k > 1 else ''}",
            direction="up",
            headline=headline and k == 1,
            chance=0.5,
            definition="Test score of a linear probe on the latents that differ most between the "
            "classes, as many as the label says, mean over the tasks.",
        )
        for k in ks
    ]


def on_activations(score: str, label: str) -> Metric:
    """The test score of the same probes on what the SAE reads."""
    return Metric(
        category="llm",
        metric=f"llm_test_{score}",
        label=f"{label}, the model's activations",
        direction="none",
        chance=0.5,
        note="of the language model, not of the SAE",
        definition="The same probe on the model's own activations: what the SAE could reach.",
    )


def _config(measurement: Measurement) -> dict[str, Any]:
    labelled = measurement.setting.labelled
    names = [name for source in labelled for name in source.names]
    if measurement.is_quick:
        names = [n for n in names if n in _QUICK_NAMES or "/" in n and "_form" in n] or names
    train, test = sizes(labelled, (400, 200) if measurement.is_quick else (4000, 1000))
    return measurement.language_model | {
        "dataset_names": names,
        "probe_train_set_size": train,
        "probe_test_set_size": test,
        "context_length": min(128, measurement.n_ctx),
        "k_values": list(KS),
        "sae_batch_size": 125,
    }


def _metrics(config: dict[str, Any]) -> Sequence[Metric]:
    label = "probing accuracy"
    all_latents = Metric(
        category="sae",
        metric="sae_test_accuracy",
        label=f"{label}, all latents",
        direction="up",
        chance=0.5,
        note="the probe's epoch is chosen on the test set",
        definition="Test score of a linear probe on all latents, mean over the tasks.",
    )
    top = on_top("accuracy", label, config["k_values"])
    return [*top, all_latents, on_activations("accuracy", label)]


EVALS = (
    Eval(
        name="sparse_probing",
        package="sparse_probing",
        config_class="SparseProbingEvalConfig",
        output_class="SparseProbingEvalOutput",
        config=_config,
        metrics=_metrics,
        run=lambda m, sae: call(m, sae, artifacts_path=str(m.artifacts)),
        has_artifacts=True,
        data=lambda m: [source.fingerprint for source in m.setting.labelled],
        seconds=2.0,
    ),
)
