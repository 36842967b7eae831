"""How alike the samples are that excite a latent, in the activations that the SAE reads."""

from __future__ import annotations

from wsae_plugin.gamma.consistency import FEWEST
from wsae_plugin.measures.measure import Evidence, measure
from wsae_plugin.measures.sums import Found


@measure("monosemanticity score", "up")
def monosemanticity_score(evidence: Evidence) -> Found | None:
    """Mean cosine of the activations of two different samples, weighted by the product of how much
    they excite a latent, scaled to 0 to 1; mean over latents (arXiv 2504.02821, with the
    activations that the SAE reads as the embeddings). A latent that few samples excite has near
    ones whatever they are, so that SAEs of one L0 alone can be compared."""
    labelled = evidence.labelled
    if labelled is None:
        return None
    scores = labelled.weighted_cosines
    scores = scores[~scores.isnan()]
    return Found(
        float(scores.mean()),
        chance=labelled.mean_cosine,
        control=float(labelled.cosines_of_others.nanmean()),
        note=f"mean over the {len(scores)} latents active on {FEWEST} held-out samples or more; "
        "chance: the mean cosine of two samples; control: the feature activations given to samples "
        "of other images",
    )
