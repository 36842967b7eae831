"""`sparse_probing`: how well 1, 2 or 5 latents tell classes of texts apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wsae_plugin.saebench import library
from wsae_plugin.saebench.data import Labelled
from wsae_plugin.saebench.evals.base import Eval, Job, Metric, Situation

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


def _config(situation: Situation) -> dict[str, Any]:
    names = [name for source in situation.labelled for name in source.names]
    if situation.is_quick:
        names = [n for n in names if n in _QUICK_NAMES or "/" in n and "_form" in n] or names
    train, test = sizes(situation.labelled, (400, 200) if situation.is_quick else (4000, 1000))
    return situation.language_model | {
        "dataset_names": names,
        "probe_train_set_size": train,
        "probe_test_set_size": test,
        "context_length": min(128, situation.model.cfg.n_ctx),
        "k_values": list(KS),
        "sae_batch_size": 125,
    }


def _run(job: Job) -> Mapping[str, float]:
    eval_config = library.module("evals.sparse_probing.eval_config")
    library.module("evals.sparse_probing.main").run_eval(
        eval_config.SparseProbingEvalConfig(**job.config),
        job.selected,
        job.device,
        str(job.results),
        force_rerun=True,
        artifacts_path=str(job.artifacts),
    )
    return {}


def _metrics(config: dict[str, Any]) -> Sequence[Metric]:
    probes = [
        Metric(
            f"sae_top_{k}_test_accuracy",
            ("sae", f"sae_top_{k}_test_accuracy"),
            f"probing accuracy, {k} latent{'s' if k > 1 else ''}",
            "up",
            headline=k == 1,
            chance=0.5,
        )
        for k in config["k_values"]
    ]
    return [
        *probes,
        Metric(
            "sae_test_accuracy",
            ("sae", "sae_test_accuracy"),
            "probing accuracy, all latents",
            "up",
            chance=0.5,
            note="the probe's epoch is chosen on the test set",
        ),
        Metric(
            "llm_test_accuracy",
            ("llm", "llm_test_accuracy"),
            "probing accuracy, the model's activations",
            "none",
            chance=0.5,
            note="of the language model, not of the SAE",
        ),
    ]


SPARSE_PROBING = Eval(
    name="sparse_probing",
    config=_config,
    run=_run,
    output=("evals.sparse_probing.eval_output", "SparseProbingEvalOutput"),
    metrics=_metrics,
    has_artifacts=True,
    data=lambda situation: [source.fingerprint for source in situation.labelled],
)
