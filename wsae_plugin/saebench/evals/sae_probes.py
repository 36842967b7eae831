"""`sae_probes`: 113 real binary tasks that come with the sae-probes package, so need no network."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sae_lens import SAE
from transformer_lens import HookedTransformer

from wsae_plugin.errors import BadInputError
from wsae_plugin.messages import nearest
from wsae_plugin.saebench.evals.base import Eval, Measurement, Metric, call
from wsae_plugin.saebench.evals.probing import KS, on_activations, on_top

if TYPE_CHECKING:
    from wsae_plugin.saebench.request import Request

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


def tasks_of(request: Request, known: Sequence[str]) -> list[str]:
    """The tasks that are asked for.

    Args:
        request: Names, or "all-short" or "all" alone; none for the profile's.
        known: Those that sae-probes has.

    Raises:
        BadInputError: One of them is unknown.
    """
    asked = list(request.tasks)
    if asked == ["all"] or not asked and request.profile != "quick":
        return list(known)
    if asked == ["all-short"] or not asked:
        return list(SHORT_TASKS if asked else QUICK_TASKS)
    if unknown := [task for task in asked if task not in known]:
        raise BadInputError(f"--tasks {unknown[0]}: unknown; {nearest(unknown[0], known)}")
    return asked


def _config(measurement: Measurement) -> dict[str, Any]:
    known = importlib.import_module("sae_probes").DATASETS
    return {
        "model_name": measurement.setting.model_name,
        "random_seed": measurement.seed,
        "dataset_names": tasks_of(measurement.setting.request, known),
        "ks": list(KS),
        "longest_prompt": min(_LONGEST_PROMPT, measurement.n_ctx),
    }


def _run(measurement: Measurement, sae: SAE[Any]) -> Mapping[str, float]:
    results = measurement.artifacts / "results"
    mine = results / f"{measurement.sae.name}_custom_sae"
    # sae-probes takes up what it finds there, whichever SAE it is of, and no option changes that.
    shutil.rmtree(mine, ignore_errors=True)
    _write_activations(measurement)
    places = {"results_path": str(results), "model_cache_path": str(measurement.activations)}
    call(measurement, sae, places)
    shutil.rmtree(mine, ignore_errors=True)
    return {}


def _write_activations(measurement: Measurement) -> None:
    """What sae-probes would write, with prompts cut to what the model can read.

    It cuts them to 1,024 tokens at most, and a model of fewer positions then fails. It also sets
    its tokenizer to cut and pad otherwise than other evals do.
    """
    folder, config = measurement.activations, measurement.config
    mark = folder / "complete"
    if mark.is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    device = measurement.setting.request.device
    model: Any = HookedTransformer.from_pretrained_no_processing(
        config["model_name"], device=device
    )
    sides = model.tokenizer.truncation_side, model.tokenizer.padding_side
    try:
        importlib.import_module("sae_probes.generate_model_activations").ensure_dataset_activations(
            model_name=config["model_name"],
            dataset_short_names=config["dataset_names"],
            hook_names=[measurement.sae.hook_name],
            model_cache_path=folder,
            device=device,
            max_seq_len=config["longest_prompt"],
            model=model,
        )
    finally:
        model.tokenizer.truncation_side, model.tokenizer.padding_side = sides
    mark.touch()


def _metrics(config: dict[str, Any]) -> Sequence[Metric]:
    return [
        *on_top("auc", "sae-probes AUC", config["ks"]),
        *on_top("accuracy", "sae-probes accuracy", config["ks"], headline=False),
        on_activations("auc", "sae-probes AUC"),
    ]


def _notes(measurement: Measurement) -> Sequence[str]:
    n_ctx = measurement.n_ctx
    return [] if n_ctx >= _LONGEST_PROMPT else [f"prompts cut to their last {n_ctx} tokens"]


EVALS = (
    Eval(
        name="sae_probes",
        package="sparse_probing_sae_probes",
        config_class="SparseProbingSaeProbesEvalConfig",
        output_class="SparseProbingSaeProbesEvalOutput",
        config=_config,
        metrics=_metrics,
        run=_run,
        ours=("longest_prompt",),
        has_artifacts=True,
        notes=_notes,
        seconds=0.4,
    ),
)
