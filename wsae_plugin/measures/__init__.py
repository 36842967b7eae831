"""Measures of trained SAEs on held-out activations; `MEASURES` lists them.

`wsae_plugin.measures.evaluate` measures run folders; `wsae_plugin.measures.measure` says what a
measure is and how to add one.
"""

from wsae_plugin.measures import (
    activity,
    explained_variance,
    language_model,
    monosemanticity,
    seed_consistency,
    semantic_consistency,
    token_consistency,
    true_features,
    usefulness,
)
from wsae_plugin.measures.measure import Evidence, Measure
from wsae_plugin.measures.sums import Found

__all__ = ["MEASURES", "Evidence", "Found", "Measure"]

MEASURES: list[Measure] = [
    explained_variance.explained_variance,
    explained_variance.under_weights,
    language_model.ce_loss_recovered,
    language_model.ce_loss_with_sae,
    language_model.kl_divergence,
    language_model.kl_recovered,
    activity.l0,
    activity.dead_share,
    activity.dense_share,
    activity.norm_ratio,
    activity.cosine_similarity,
    token_consistency.token_consistency,
    semantic_consistency.semantic_consistency,
    monosemanticity.monosemanticity_score,
    usefulness.nearest_neighbour_accuracy,
    usefulness.linear_probe_accuracy,
    seed_consistency.seed_consistency,
    seed_consistency.seed_best_match,
    true_features.mcc,
    true_features.uniqueness,
    true_features.feature_f1,
    true_features.true_l0,
]
"""Everything that `wsae eval` measures, in the order in which it is shown."""
