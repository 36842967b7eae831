"""How specific the latents are to tokens, without a judge."""

from __future__ import annotations

from collections.abc import Iterator

from wsae_plugin.measures.measure import Evidence, HeldOutScore, measure
from wsae_plugin.measures.top_tokens import FEWEST_TOKENS, STANDING_OUT_BY_CHANCE, TOP_TOKENS

_LABELS = {"token": "token", "context": "previous token", "token_class": "token class"}


def token_consistency(evidence: Evidence) -> Iterator[HeldOutScore]:
    """The consistency of top tokens, the share of latents that stand out by it, and a baseline.

    For each kind of label: `token`, `context` (the token before) and `token_class`.
    """
    tokens = evidence.tokens
    if tokens is None:
        return
    for kind in tokens.tokens.kinds:
        label = _LABELS[kind]
        latents, random = (tokens.specificity(kind, whose) for whose in tokens.positions)
        whose = f"the {latents.n_latents} latents active on {FEWEST_TOKENS} held-out tokens or more"
        yield from measure(
            f"{label} consistency",
            "up",
            metric=f"{kind}_consistency",
            definition="How often two of the tokens on which a latent is most active are alike; a "
            "proxy of monosemanticity that needs no judge.",
            headline=kind == "token",
            note=f"how often two of a latent's {TOP_TOKENS} most activating tokens agree, mean "
            f"over {whose}; control: shuffled within contexts",
        )(lambda _, found=latents.consistency: found)(evidence)
        yield from measure(
            f"latents of consistent {label}",
            "up",
            metric=f"{kind}_consistent_share",
            definition="Share of latents whose top tokens agree more than shuffled ones do.",
            note=f"share above {1 - STANDING_OUT_BY_CHANCE:.0%} of the shuffled, of {whose}",
        )(lambda _, found=latents.standing_out: found)(evidence)
        yield from measure(
            f"{label} consistency of random directions",
            "none",
            metric=f"{kind}_consistency_of_random_directions",
            definition="The same for random directions in place of latents: what any direction of "
            "the activations would score.",
            note=f"the same for {random.n_latents} random directions of the activations: what a "
            "latent must exceed to be more than any direction",
        )(lambda _, found=random.consistency: found)(evidence)
