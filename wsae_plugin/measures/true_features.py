"""Whether the latents are the features of a synthetic model: what SAELens measures there."""

from __future__ import annotations

from wsae_plugin.measures.measure import Evidence, measure
from wsae_plugin.measures.sums import Found


@measure("MCC with the true features", "up", headline=True)
def mcc(evidence: Evidence) -> Found | None:
    """Mean |cosine| between the latents and the true features, matched one to one (arXiv
    2505.20254)."""
    return evidence.truth and Found(evidence.truth.mcc)


@measure("distinct features of the latents", "up")
def uniqueness(evidence: Evidence) -> Found | None:
    """Number of true features that are the closest one of a latent, divided by the number of
    latents."""
    return evidence.truth and Found(evidence.truth.uniqueness)


@measure("F1 of the latents as detectors", "up", headline=True)
def feature_f1(evidence: Evidence) -> Found | None:
    """F1 of a latent's activity as a detector of its closest true feature's, mean over latents."""
    return evidence.truth and Found(evidence.truth.classification.f1_score)


@measure("true features active on a sample", "none")
def true_l0(evidence: Evidence) -> Found | None:
    """Features of the synthetic model that are active on a sample, mean."""
    return evidence.truth and Found(evidence.truth.true_l0)
