"""What the metrics of a comparison mean, in a sentence each."""

from __future__ import annotations

import re
from typing import Any

_EVALS = {
    "held_out": "held-out text",
    "saebench/core": "SAEBench core",
    "corrected/core": "core, corrected",
}

# The first pattern that is found in "eval metric" gives the definition.
_DEFINITIONS = (
    (
        "saebench/core explained_variance_legacy",
        "Mean over tokens of 1 − error / deviation, as in SAEBench's paper.",
    ),
    (
        "saebench/core explained_variance",
        "SAEBench's own figure, which squares once too often; see the corrected one.",
    ),
    (
        "own_weighted_explained_variance",
        "1 − E‖Γ(x − x̂)‖² / E‖Γ(x − E x)‖² under the SAE's own Γ: what it was trained for.",
    ),
    (
        "weighted_explained_variance",
        "1 − E‖Γ(x − x̂)‖² / E‖Γ(x − E x)‖² under one Γ for all arms, that of a weighted arm (named "
        "in the remarks). That arm was trained for it, so its gain here is expected.",
    ),
    (
        "explained_variance_.*quarter",
        "Unweighted explained variance of the quarter of dimensions that Γ weights most, or least.",
    ),
    (
        "explained_variance",
        "1 − E‖x − x̂‖² / E‖x − E x‖², unweighted, whatever the SAE was trained on. Weighting gives "
        "some of it up by design.",
    ),
    (
        "ce_loss_recovered|ce_loss_score",
        "(CE with the activations set to 0 − CE with the reconstruction) / (CE with 0 − CE of the "
        "model); CE is the model's cross-entropy on the next token.",
    ),
    (
        "kl_div_score|kl_recovered",
        "The same for KL(model ‖ model with the SAE) in place of the cross-entropy.",
    ),
    ("kl_divergence", "KL(model ‖ model with the SAE), nats per token."),
    (
        "saebench/core mse",
        "SAEBench's squared error, divided by the tokens of a batch: it changes with the batch "
        "size.",
    ),
    ("mse", "Squared error ‖x − x̂‖², mean over tokens."),
    ("cossim|cosine", "Mean cosine between activation and reconstruction."),
    ("l2_ratio|norm_ratio", "‖x̂‖ / ‖x‖, mean over tokens; below 1 is shrinkage."),
    (" l0$", "Latents active on a token, mean. Descriptive: most metrics follow it."),
    ("dead", "Latents that fired on no held-out token."),
    ("dense", "Latents that fire on a large share of tokens."),
    ("frac_alive", "Share of latents that fired at least once."),
    (
        "consistency_of_random",
        "The same for random directions in place of latents: what any direction of the activations "
        "would score.",
    ),
    (
        "(token|context).*_consistency",
        "How often two of the tokens on which a latent is most active are alike; a proxy of "
        "monosemanticity that needs no judge.",
    ),
    ("_consistent_share", "Share of latents whose top tokens agree more than shuffled ones do."),
    (
        "seed_consistency|seed_best_match",
        "Cosine between the latents of SAEs trained from different seeds: whether they find the "
        "same directions.",
    ),
    (
        "sparse_probing.*(llm_test)",
        "The same probe on the model's own activations: what the SAE could reach.",
    ),
    (
        "sparse_probing.*top_",
        "Test score of a linear probe on the latents that differ most between the classes, as many "
        "as the label says, mean over the tasks.",
    ),
    ("sparse_probing", "Test score of a linear probe on all latents, mean over the tasks."),
    (
        "absorption_fraction",
        "How much of a first-letter feature is carried by other latents where the letter's own "
        "latent stays silent.",
    ),
    ("full_absorption", "Share of words where another latent replaced the letter's own."),
    ("split_features", "Latents that one first-letter feature is split over."),
    (
        "scr",
        "Spurious correlation removal: how far ablating the top latents of a bias removes it from "
        "a classifier. Unbounded and noisy; it failed an audit of SAEBench's metrics (arXiv "
        "2605.18229), so nothing is concluded from it.",
    ),
    (
        "tpp",
        "Targeted probe perturbation: how far ablating one class's latents hurts that class's "
        "probe and no other. It failed an audit of SAEBench's metrics (arXiv 2605.18229), so "
        "nothing is concluded from it.",
    ),
    (
        "autointerp_score",
        "How often a judge tells from a latent's description where it fires; as good as the judge "
        "is.",
    ),
    (
        "decoder_fraction",
        "Share of the decoder's variance that a smaller SAE of it explains: shared structure "
        "between latents.",
    ),
)


def definition(metric: dict[str, Any]) -> str:
    """What `metric` measures; empty if it is not one of those known here."""
    name = f"{metric['eval']} {metric['metric']}"
    return next((text for pattern, text in _DEFINITIONS if re.search(pattern, name)), "")


def eval_label(name: str) -> str:
    """`SAEBench absorption` for `saebench/absorption`."""
    return _EVALS.get(name) or name.replace("saebench/", "SAEBench ").replace("_", " ")
