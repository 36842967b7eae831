"""`sae_probes`: 113 real binary tasks that come with the sae-probes package, so need no network."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformer_lens import HookedTransformer

from wsae_plugin.saebench import library
from wsae_plugin.saebench.evals.base import Eval, Job, Metric, Situation
from wsae_plugin.saebench.evals.probing import KS

QUICK_TASKS = ("96_spam_is", "105_click_bait")
"""Two tasks of short prompts whose answer shows in the words."""

SHORT_TASKS = (
    "5_hist_fig_ismale",
    "6_hist_fig_isamerican",
    "7_hist_fig_ispolitician",
    "22_headline_isobama",
    "87_glue_cola",
    "92_glue_sst2",
    "96_spam_is",
    "105_click_bait",
    "117_us_state_FL",
    "118_us_state_CA",
    "119_us_state_TX",
    "123_world_country_United_Kingdom",
    "124_world_country_United_States",
    "125_world_country_Italy",
    "126_art_type_book",
    "127_art_type_song",
    "128_art_type_movie",
    "154_athlete_sport_football",
    "155_athlete_sport_basketball",
    "156_athlete_sport_baseball",
)
"""Tasks whose prompts are a few words or a sentence: `--tasks all-short`."""

_LONGEST_PROMPT = 1024


def _config(situation: Situation) -> dict[str, Any]:
    return {
        "model_name": situation.model_name,
        "random_seed": situation.seed,
        "dataset_names": list(situation.tasks),
        "ks": list(KS),
        "longest_prompt": min(_LONGEST_PROMPT, situation.model.cfg.n_ctx),
    }


def _run(job: Job) -> Mapping[str, float]:
    config = dict(job.config)
    longest = config.pop("longest_prompt")
    eval_config = library.module("evals.sparse_probing_sae_probes.eval_config")
    results, activations = job.artifacts / "results", job.activations
    # sae-probes takes up what it finds there, whichever SAE it is of, and no option changes that.
    shutil.rmtree(results / f"{job.run}_custom_sae", ignore_errors=True)
    _write_activations(job, config, activations, longest)
    library.module("evals.sparse_probing_sae_probes.main").run_eval(
        eval_config.SparseProbingSaeProbesEvalConfig(
            **config,
            results_path=str(results),
            model_cache_path=str(activations),
        ),
        job.selected,
        job.device,
        str(job.results),
        force_rerun=True,
    )
    shutil.rmtree(results / f"{job.run}_custom_sae", ignore_errors=True)
    return {}


def _write_activations(job: Job, config: dict[str, Any], folder: Path, longest: int) -> None:
    """What sae-probes would write, with prompts cut to what the model can read.

    It cuts them to 1,024 tokens at most, and a model of fewer positions then fails. It also sets
    its tokenizer to cut and pad otherwise than other evals do.
    """
    hook = job.sae.cfg.metadata.hook_name
    tasks = config["dataset_names"]
    mark = folder / "complete"
    if mark.is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    model: Any = HookedTransformer.from_pretrained_no_processing(
        config["model_name"], device=job.device
    )
    sides = model.tokenizer.truncation_side, model.tokenizer.padding_side
    try:
        importlib.import_module("sae_probes.generate_model_activations").ensure_dataset_activations(
            model_name=config["model_name"],
            dataset_short_names=tasks,
            hook_names=[hook],
            model_cache_path=folder,
            device=job.device,
            max_seq_len=longest,
            model=model,
        )
    finally:
        model.tokenizer.truncation_side, model.tokenizer.padding_side = sides
    mark.touch()


def _metrics(config: dict[str, Any]) -> Sequence[Metric]:
    of_sae = [
        Metric(
            f"sae_top_{k}_test_{kind}",
            ("sae", f"sae_top_{k}_test_{kind}"),
            f"sae-probes {shown}, {k} latent{'s' if k > 1 else ''}",
            "up",
            headline=k == 1 and kind == "auc",
            chance=0.5,
        )
        for kind, shown in (("auc", "AUC"), ("accuracy", "accuracy"))
        for k in config["ks"]
    ]
    note = "of the language model, not of the SAE"
    return [
        *of_sae,
        Metric(
            "llm_test_auc",
            ("llm", "llm_test_auc"),
            "sae-probes AUC, the model's activations",
            "none",
            chance=0.5,
            note=note,
        ),
    ]


def _notes(situation: Situation) -> Sequence[str]:
    n_ctx = situation.model.cfg.n_ctx
    return [] if n_ctx >= _LONGEST_PROMPT else [f"prompts cut to their last {n_ctx} tokens"]


SAE_PROBES = Eval(
    name="sae_probes",
    config=_config,
    run=_run,
    output=(
        "evals.sparse_probing_sae_probes.eval_output",
        "SparseProbingSaeProbesEvalOutput",
    ),
    metrics=_metrics,
    has_artifacts=True,
    notes=_notes,
)
