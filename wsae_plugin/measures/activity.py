"""How many latents work, and the size and direction of what they add up to."""

from __future__ import annotations

from torch import Tensor

from wsae_plugin.measures.measure import Evidence, batch_measure, measure
from wsae_plugin.measures.sums import Found, HeldOutSums

DENSE = 0.1
"""A latent that is active on more than this share of the tokens is called dense."""


@batch_measure("L0", "none", headline=True)
def l0(sums: HeldOutSums, counts: Tensor) -> Tensor:
    """Latents active on a token, mean. Descriptive: most metrics follow it."""
    return counts @ sums.active_latents / (counts @ sums.tokens)


@measure("dead latents", "down", headline=True, note="share of latents active on no held-out token")
def dead_share(evidence: Evidence) -> Found:
    """Latents that fired on no held-out token."""
    return Found(float((evidence.sums.firings.sum(dim=0) == 0).double().mean()))


@measure(
    "dense latents",
    "none",
    note=f"share of latents active on more than {DENSE:.0%} of the tokens",
)
def dense_share(evidence: Evidence) -> Found:
    """Latents that fire on a large share of tokens."""
    share = evidence.sums.firings.sum(dim=0) / evidence.sums.tokens.sum()
    return Found(float((share > DENSE).double().mean()))


@batch_measure("norm ratio ‖x̂‖ / ‖x‖", "none", note="SAELens's l2_ratio; below 1 the SAE shrinks")
def norm_ratio(sums: HeldOutSums, counts: Tensor) -> Tensor:
    """‖x̂‖ / ‖x‖, mean over tokens; below 1 is shrinkage."""
    return counts @ sums.norm_ratio / (counts @ sums.tokens)


@batch_measure("cosine of x and x̂", "up")
def cosine_similarity(sums: HeldOutSums, counts: Tensor) -> Tensor:
    """Mean cosine between activation and reconstruction."""
    return counts @ sums.cosine_similarity / (counts @ sums.tokens)
