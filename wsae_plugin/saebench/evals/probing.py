"""`sparse_probing`: how well 1, 2 or 5 latents tell classes of texts apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wsae_plugin.saebench.data import Labelled
from wsae_plugin.saebench.evals.base import Eval, Measurement, Metric, call

KS = (1, 2, 5)
OF_THE_MODEL = "of the language model, not of the SAE"
ON_TOP = (
    "Test score of a linear probe on the latents that differ most between the classes, as many as "
    "the label says, mean over the tasks."
)
ON_ACTIVATIONS = "The same probe on the model's own activations: what the SAE could reach."
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


def latents(k: int) -> str:
    """`1 latent`, `2 latents`."""
    return f"{k} latent{'s' if k > 1 else ''}"


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
    every, of_the_model = (
        "probing accuracy, all latents",
        "probing accuracy, the model's activations",
    )
    chosen = "the probe's epoch is chosen on the test set"
    return [
        *(
            Metric(
                "sae",
                f"sae_top_{k}_test_accuracy",
                f"probing accuracy, {latents(k)}",
                "up",
                headline=k == 1,
                chance=0.5,
                definition=ON_TOP,
            )
            for k in config["k_values"]
        ),
        Metric(
            "sae",
            "sae_test_accuracy",
            every,
            "up",
            chance=0.5,
            note=chosen,
            definition="Test score of a linear probe on all latents, mean over the tasks.",
        ),
        Metric(
            "llm",
            "llm_test_accuracy",
            of_the_model,
            "none",
            chance=0.5,
            note=OF_THE_MODEL,
            definition=ON_ACTIVATIONS,
        ),
    ]


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
