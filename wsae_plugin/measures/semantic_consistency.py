"""How far the samples that excite a latent belong to one class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from wsae_plugin.gamma.consistency import FEWEST, N_TOP, LabelEvidence, chance
from wsae_plugin.gamma.consistency import semantic_consistency as consistency_of
from wsae_plugin.measures.measure import Evidence, HeldOutScore, measure
from wsae_plugin.measures.sums import Found

_KINDS: tuple[tuple[Literal["top", "active"], str, str, str], ...] = (
    ("top", "", "", f"the {N_TOP} samples that excite it most (arXiv 2506.15963)"),
    (
        "active",
        "_of_active",
        ", all active samples",
        "all samples that excite it (as the code of non-negative contrastive learning has it)",
    ),
)
"""Which counts, suffix of the metric and of its label, and whose classes they are."""


def semantic_consistency(evidence: Evidence) -> Iterator[HeldOutScore]:
    """The share of the modal class among the samples of a latent, and of a random direction.

    For the top-activated samples, and for all on which it is active.
    """
    labelled = evidence.labelled
    if labelled is None:
        return
    measured = (labelled.latents.active.sum(dim=1) >= FEWEST).double().mean()
    yield from measure(
        "latents with a consistency",
        "none",
        metric="latents_with_consistency",
        definition=f"Share of latents that are active on {FEWEST} held-out samples or more: the "
        "mean of the semantic consistency is over them alone.",
    )(lambda _: Found(float(measured)))(evidence)
    for kind, suffix, label, whose in _KINDS:
        n, latents = _found(labelled.latents, labelled.latents_shuffled, kind)
        yield from measure(
            f"semantic consistency{label}",
            "up",
            metric=f"semantic_consistency{suffix}",
            definition=f"Share of a latent's most frequent class among {whose}, mean over latents.",
            headline=kind == "top",
            note=f"mean over the {n} latents active on {FEWEST} held-out samples or more; chance: "
            "the largest class's share; control: the images got each other's labels, and the most "
            "frequent is picked as well",
        )(lambda _, found=latents: found)(evidence)
        n, directions = _found(labelled.directions, labelled.directions_shuffled, kind)
        yield from measure(
            f"semantic consistency of random directions{label}",
            "none",
            metric=f"semantic_consistency{suffix}_of_random_directions",
            definition="The same for random directions in place of latents: what any direction of "
            "the activations would score.",
            note=f"the same for {n} random directions of the activations: what a latent must "
            "exceed to be more than any direction",
        )(lambda _, found=directions: found)(evidence)


def _found(
    ours: LabelEvidence, shuffled: LabelEvidence, kind: Literal["top", "active"]
) -> tuple[int, Found]:
    """How many have a consistency, and its mean over them beside chance and control."""
    scores = [consistency_of(of.top if kind == "top" else of.active) for of in (ours, shuffled)]
    value, control = (float(each.nanmean()) for each in scores)
    return int((~scores[0].isnan()).sum()), Found(value, chance(ours.class_sizes), control)
