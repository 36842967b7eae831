"""How alike the samples are that excite a latent, in the activations that the SAE reads."""

from __future__ import annotations

import torch

from wsae_plugin.gamma.consistency import FEWEST
from wsae_plugin.measures.kept_samples import Samples
from wsae_plugin.measures.measure import Evidence, measure
from wsae_plugin.measures.sums import Found
from wsae_plugin.measures.weighted_cosines import WeightedCosines


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
    scored = ~scores.isnan()
    scores, compared = scores[scored], scored | ~scored.any()
    return Found(
        float(scores.mean()),
        chance=labelled.mean_cosine,
        # Of the same latents: rarer ones have near samples, whatever they are.
        control=_control(labelled.samples, compared),
        note=f"mean over the {len(scores)} latents active on {FEWEST} held-out samples or more; "
        "chance: the mean cosine of two samples; control: the feature activations of "
        f"{len(labelled.samples.labels)} samples, given to those of other images",
    )


def _control(samples: Samples, compared: torch.Tensor) -> float | None:
    """The mean score of latents whose activations were given to the samples of other images."""
    if samples.half in (0, len(samples.x)):
        return None
    codes = samples.codes_in_torch()
    cosines = WeightedCosines(samples.x.shape[1], codes.shape[1])
    # Their order is random, but those of an image stay together, and are alike.
    cosines.add(samples.x.roll(samples.half, dims=0), codes)
    # Without bias at any number of pairs, and few of so few samples excite one of many latents.
    return float(cosines.scores(fewest=2)[compared].nanmean())
