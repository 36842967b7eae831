"""`absorption`: first-letter features whose work other latents silently do."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from sae_lens import SAE
from torch.serialization import safe_globals

from wsae_plugin.replaced import replaced
from wsae_plugin.saebench import library
from wsae_plugin.saebench.evals.base import Eval, Measurement, Metric, call

_TEMPLATE = "{word} has the first letter:"
_FORCED = (
    "forced thresholds: letters count however badly the model's activations tell them apart "
    "(SAEBench asks for F1 > 0.6 in 20 letters), so this says little of a small model"
)


def _config(measurement: Measurement) -> dict[str, Any]:
    is_quick = measurement.is_quick
    return {
        **measurement.language_model,
        "prompt_template": _TEMPLATE,
        "prompt_token_pos": word_position(measurement.setting.model.tokenizer, _TEMPLATE),
        "min_GT_probe_f1": 0.0 if is_quick else 0.6,
        "min_feats_for_eval": 1 if is_quick else 20,
        "precalc_k_sparse_probe_sae_acts": is_quick,
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


def _run(measurement: Measurement, sae: SAE[Any]) -> Mapping[str, float]:
    probe = library.module("evals.absorption.probing").LinearProbe
    with _repeatable(measurement), safe_globals([probe, torch.nn.Linear]):
        return call(measurement, sae)


@contextlib.contextmanager
def _repeatable(measurement: Measurement) -> Generator[None]:
    """Words in a fixed order, and files where ours are.

    SAEBench draws words from `tokenizer.vocab`, whose order changes from call to call, and writes
    into its own installed package.
    """
    main = library.module("evals.absorption.main")
    common = library.module("evals.absorption.common")
    feature = library.module("evals.absorption.feature_absorption")
    scratch = measurement.scratch / "work"
    probes, k_sparse = measurement.artifacts / "probes", scratch / "k_sparse_probing"
    vocab = common.get_alpha_tokens

    def sorted_words(*args: Any, **kwargs: Any) -> list[str]:
        return sorted(vocab(*args, **kwargs))

    def examples(tokenizer: Any) -> list[str]:
        template = measurement.config["prompt_template"]
        return of_one_length(tokenizer, sorted_words(tokenizer), template)

    with (
        replaced(common, get_alpha_tokens=sorted_words),
        replaced(feature, get_alpha_tokens=examples),
        replaced(
            main,
            run_k_sparse_probing_experiment=partial(
                main.run_k_sparse_probing_experiment, experiment_dir=k_sparse, probes_dir=probes
            ),
            run_feature_absortion_experiment=partial(
                main.run_feature_absortion_experiment,
                experiment_dir=scratch / "feature_absorption",
                sparse_probing_experiment_dir=k_sparse,
                probes_dir=probes,
            ),
        ),
    ):
        yield


_METRICS = (
    Metric(
        category="mean",
        metric="mean_absorption_fraction_score",
        label="absorption",
        direction="down",
        headline=True,
        definition="How much of a first-letter feature is carried by other latents where the "
        "letter's own latent stays silent.",
    ),
    Metric(
        category="mean",
        metric="mean_full_absorption_score",
        label="full absorption",
        direction="down",
        definition="Share of words where another latent replaced the letter's own.",
    ),
    Metric(
        category="mean",
        metric="mean_num_split_features",
        label="split latents a letter",
        direction="none",
        definition="Latents that one first-letter feature is split over.",
    ),
)

EVALS = (
    Eval(
        name="absorption",
        package="absorption",
        config_class="AbsorptionEvalConfig",
        output_class="AbsorptionEvalOutput",
        config=_config,
        metrics=lambda _: _METRICS,
        run=_run,
        has_artifacts=True,
        only_resid_post=True,
        notes=lambda measurement: [_FORCED] if measurement.is_quick else [],
        seconds=10.0,
    ),
)
