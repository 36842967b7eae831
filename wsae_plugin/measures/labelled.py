"""What the latents say of held-out samples that belong to classes, collected as they stream by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wsae_plugin.gamma.consistency import LabelCounter, LabelEvidence, sparse_of
from wsae_plugin.measures.kept_samples import KeptSamples, Samples, halfway
from wsae_plugin.measures.top_tokens import N_DIRECTIONS, RandomProjection
from wsae_plugin.measures.weighted_cosines import WeightedCosines
from wsae_plugin.sources import Classes


@dataclass(frozen=True)
class LabelledEvidence:
    """What is known of latents on samples that belong to classes.

    Attributes:
        latents: of which classes the samples are that excite each latent, of d_sae.
        directions: the same of `N_DIRECTIONS` random directions of the activations.
        latents_shuffled: as `latents`, after the images got each other's labels.
        directions_shuffled: as `directions`, of the same.
        weighted_cosines: the monosemanticity score of each latent, shape (d_sae,), float64, see
            `WeightedCosines.scores`.
        cosines_of_others: the same where each activation was given to a sample of another image.
        mean_cosine: of two different samples.
        samples: a random few, for classifiers.
        seed: of what is drawn of them.
    """

    latents: LabelEvidence
    directions: LabelEvidence
    latents_shuffled: LabelEvidence
    directions_shuffled: LabelEvidence
    weighted_cosines: Tensor
    cosines_of_others: Tensor
    mean_cosine: float
    samples: Samples
    seed: int


class LabelledSamples:
    """Collects the evidence of one SAE.

    It takes 16 · d_sae · n_classes bytes, and 16 · d_sae · d_in: 0.23 GB for 16,384 latents of 768
    dimensions and 100 classes.

    Args:
        d_in: dimensions of an activation.
        d_sae: number of latents.
        classes: their names, or how many there are.
        seed: of the random directions and of what is kept.
    """

    def __init__(self, d_in: int, d_sae: int, classes: Sequence[str] | int, seed: int) -> None:
        n_classes = classes if isinstance(classes, int) else len(classes)
        self._seed = seed
        self._latents = LabelCounter(d_sae, n_classes), LabelCounter(d_sae, n_classes)
        self._directions = tuple(LabelCounter(N_DIRECTIONS, n_classes) for _ in range(2))
        self._project = RandomProjection(seed)
        self._cosines, self._of_others = (WeightedCosines(d_in, d_sae) for _ in range(2))
        self._kept = KeptSamples(d_in, d_sae, seed)

    @torch.no_grad()
    def add(self, x: Tensor, feature_acts: Tensor, classes: Classes) -> None:
        """Take in the next samples.

        Args:
            x: activations, shape (n, d_in).
            feature_acts: what the SAE makes of them, shape (n, d_sae), dense or sparse.
            classes: of which they are; one without counts for `weighted_cosines` alone.

        Raises:
            BadInputError: a label is no class.
        """
        is_dense = feature_acts.layout == torch.strided
        codes = sparse_of(feature_acts) if is_dense else feature_acts.to_sparse_coo().coalesce()
        projected = self._project(x)
        for latents, directions, of in zip(
            self._latents, self._directions, (classes.labels, classes.shuffled), strict=True
        ):
            latents.add(codes, of)
            directions.add(projected, of)
        self._cosines.add(x, codes)
        if (half := halfway(classes.images)) < len(x):
            # Those of an image are alike and lie together, and so they are moved together.
            self._of_others.add(x.roll(half, dims=0), codes)
        self._kept.add(x, codes, classes)

    def evidence(self) -> LabelledEvidence:
        """What the samples so far say."""
        latents, latents_shuffled = (counter.evidence() for counter in self._latents)
        directions, directions_shuffled = (counter.evidence() for counter in self._directions)
        return LabelledEvidence(
            latents=latents,
            directions=directions,
            latents_shuffled=latents_shuffled,
            directions_shuffled=directions_shuffled,
            weighted_cosines=self._cosines.scores(),
            cosines_of_others=self._of_others.scores(),
            mean_cosine=self._cosines.mean_cosine(),
            samples=self._kept.samples(),
            seed=self._seed,
        )
