"""`absorption`: first-letter features whose work other latents silently do."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch.serialization import safe_globals

from wsae_plugin.saebench import library
from wsae_plugin.saebench.evals.base import Eval, Job, Metric, Situation

_TEMPLATE = "{word} has the first letter:"
_FORCED = (
    "forced thresholds: letters count however badly the model's activations tell them apart "
    "(SAEBench asks for F1 > 0.6 in 20 letters), so this says little of a small model"
)


def _config(situation: Situation) -> dict[str, Any]:
    return {
        "model_name": situation.model_name,
        "random_seed": situation.seed,
        "prompt_template": _TEMPLATE,
        "prompt_token_pos": word_position(situation.model.tokenizer, _TEMPLATE),
        "llm_batch_size": 32,
        "llm_dtype": "float32",
        "min_GT_probe_f1": 0.0 if situation.is_quick else 0.6,
        "min_feats_for_eval": 1 if situation.is_quick else 20,
        "precalc_k_sparse_probe_sae_acts": situation.is_quick,
    }


def word_position(tokenizer: Any, template: str) -> int:
    """Where the word's last token is, counted from the end: −6 with the tokenizer of Pythia.

    SAEBench's default is −6 for every tokenizer, which may be in the midst of another word.
    """
    after = template.split("{word}", maxsplit=1)[1]
    return -1 - len(tokenizer.encode(after, add_special_tokens=False))


def of_one_length(tokenizer: Any, words: Sequence[str], template: str) -> list[str]:
    """Those words whose line, with its answer, has as many tokens as most lines have.

    Prompts are made of such lines, and SAEBench gives up where their lengths differ, as they do
    where a tokenizer has no token for " Q".
    """
    answer = library.module("evals.absorption.prompting").first_letter_formatter()
    lines = [f"\n{template.format(word=word)}{answer(word)}" for word in words]
    lengths = [len(tokenizer.encode(line, add_special_tokens=False)) for line in lines]
    usual = max(set(lengths), key=lengths.count)
    return [word for word, length in zip(words, lengths, strict=True) if length == usual]


def _run(job: Job) -> Mapping[str, float]:
    eval_config = library.module("evals.absorption.eval_config")
    probe = library.module("evals.absorption.probing").LinearProbe
    with _repeatable(job), safe_globals([probe, torch.nn.Linear]):
        library.module("evals.absorption.main").run_eval(
            eval_config.AbsorptionEvalConfig(**job.config),
            job.selected,
            job.device,
            str(job.results),
            force_rerun=True,
        )
    return {}


@contextlib.contextmanager
def _repeatable(job: Job) -> Generator[None]:
    """Words in a fixed order, and files where ours are.

    SAEBench draws words from `tokenizer.vocab`, whose order changes from call to call, and writes
    into its own installed package.
    """
    main = library.module("evals.absorption.main")
    common = library.module("evals.absorption.common")
    feature = library.module("evals.absorption.feature_absorption")
    probes, k_sparse = job.artifacts / "probes", job.scratch / "k_sparse_probing"
    absorbed = job.scratch / "feature_absorption"
    vocab = common.get_alpha_tokens

    def sorted_words(*args: Any, **kwargs: Any) -> list[str]:
        return sorted(vocab(*args, **kwargs))

    def examples(tokenizer: Any) -> list[str]:
        return of_one_length(tokenizer, sorted_words(tokenizer), job.config["prompt_template"])

    replacements = {
        (common, "get_alpha_tokens"): sorted_words,
        (feature, "get_alpha_tokens"): examples,
        (main, "run_k_sparse_probing_experiment"): partial(
            main.run_k_sparse_probing_experiment, experiment_dir=k_sparse, probes_dir=probes
        ),
        (main, "run_feature_absortion_experiment"): partial(
            main.run_feature_absortion_experiment,
            experiment_dir=absorbed,
            sparse_probing_experiment_dir=k_sparse,
            probes_dir=probes,
        ),
    }
    before = {place: getattr(*place) for place in replacements}
    for (module, name), replacement in replacements.items():
        setattr(module, name, replacement)
    try:
        yield
    finally:
        for (module, name), original in before.items():
            setattr(module, name, original)


def _metrics(config: dict[str, Any]) -> Sequence[Metric]:
    del config
    return [
        Metric(
            "mean_absorption_fraction_score",
            ("mean", "mean_absorption_fraction_score"),
            "absorption",
            "down",
            headline=True,
        ),
        Metric(
            "mean_full_absorption_score",
            ("mean", "mean_full_absorption_score"),
            "full absorption",
            "down",
        ),
        Metric(
            "mean_num_split_features",
            ("mean", "mean_num_split_features"),
            "split latents a letter",
            "none",
        ),
    ]


def _notes(situation: Situation) -> Sequence[str]:
    return [_FORCED] if situation.is_quick else []


ABSORPTION = Eval(
    name="absorption",
    config=_config,
    run=_run,
    output=("evals.absorption.eval_output", "AbsorptionEvalOutput"),
    metrics=_metrics,
    has_artifacts=True,
    only_resid_post=True,
    notes=_notes,
)
