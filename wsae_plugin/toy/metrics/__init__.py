"""SAEs against a known truth, and against each other: pure functions on tensors."""

from wsae_plugin.toy.metrics.codes import (
    GroundTruthLoss,
    LatentClassification,
    align_codes,
    classify_latents,
    dead_latents,
    ground_truth_loss,
    l0,
    latent_variance,
    mcc_code,
)
from wsae_plugin.toy.metrics.identifiability import (
    Agreement,
    AssignmentAgreement,
    BestMatchAgreement,
    agreement,
    random_like,
    rotated,
)
from wsae_plugin.toy.metrics.matching import Assignment, assign, best_matches
from wsae_plugin.toy.metrics.monosemanticity import activated_features, average_activated_features
from wsae_plugin.toy.metrics.reconstruction import explained_variance, shrinkage
from wsae_plugin.toy.metrics.recovery import (
    align_decoder,
    feature_recovery_rate,
    feature_uniqueness,
    mcc_decoder,
    mmcs,
)

__all__ = [
    "Agreement",
    "Assignment",
    "AssignmentAgreement",
    "BestMatchAgreement",
    "GroundTruthLoss",
    "LatentClassification",
    "activated_features",
    "agreement",
    "align_codes",
    "align_decoder",
    "assign",
    "average_activated_features",
    "best_matches",
    "classify_latents",
    "dead_latents",
    "explained_variance",
    "feature_recovery_rate",
    "feature_uniqueness",
    "ground_truth_loss",
    "l0",
    "latent_variance",
    "mcc_code",
    "mcc_decoder",
    "mmcs",
    "random_like",
    "rotated",
    "shrinkage",
]
