"""What is collected of labelled samples is what its parts say of all of them at once."""

from __future__ import annotations

import pytest
import torch

from tests.measures.labelled import N_CLASSES, blind_latents, classes, collected, world
from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma.consistency import LabelCounter, sparse_of
from wsae_plugin.measures.labelled import LabelledSamples
from wsae_plugin.measures.top_tokens import N_DIRECTIONS, RandomProjection
from wsae_plugin.measures.weighted_cosines import WeightedCosines
from wsae_plugin.sources import Classes


def test_it_is_what_the_parts_say() -> None:
    x, labels, shuffled = world(300)
    labels[:7] = -1
    acts = blind_latents(labels, n=6)
    found = collected(x, acts, labels, shuffled, batch=300)
    projected = RandomProjection(0)(x)
    assert projected.shape == (300, N_DIRECTIONS)
    for kind, activations, of in (
        ("latents", acts, labels),
        ("latents_shuffled", acts, shuffled),
        ("directions", projected, labels),
        ("directions_shuffled", projected, shuffled),
    ):
        counter = LabelCounter(activations.shape[1], N_CLASSES)
        counter.add(activations, of)
        for name, counts in vars(counter.evidence()).items():
            assert torch.equal(getattr(getattr(found, kind), name), counts), (kind, name)
    cosines = WeightedCosines(8, 6)
    cosines.add(x, sparse_of(acts))
    assert torch.equal(found.weighted_cosines, cosines.scores())
    assert found.mean_cosine == cosines.mean_cosine()
    assert len(found.samples.labels) == 293


def test_batches_and_storage_change_nothing() -> None:
    x, labels, shuffled = world(300)
    acts = blind_latents(labels, n=6)
    whole, parts = (collected(x, acts, labels, shuffled, batch) for batch in (300, 41))
    stored = collected(x, sparse_of(acts).to_dense(), labels, shuffled, 41)
    samples = LabelledSamples(8, 6, [f"class {n}" for n in range(N_CLASSES)], seed=0)
    samples.add(x, sparse_of(acts), classes(labels, shuffled))
    for other in (parts, stored, samples.evidence()):
        assert torch.equal(whole.latents.top, other.latents.top)
        assert torch.equal(whole.latents_shuffled.active, other.latents_shuffled.active)
        torch.testing.assert_close(whole.weighted_cosines, other.weighted_cosines)
        assert torch.equal(whole.samples.labels, other.samples.labels)


def test_the_samples_of_an_image_stay_together() -> None:
    x, labels, shuffled = world(300)
    images = torch.arange(300) % 50
    samples = LabelledSamples(8, 6, N_CLASSES, seed=0)
    of = Classes(labels, shuffled, images, classes(labels, shuffled).names)
    samples.add(x, blind_latents(labels, n=6), of)
    kept = samples.evidence().samples
    # Which row each of them is, by its activations.
    rows = (kept.x.unsqueeze(1) == x).all(dim=2).nonzero()[:, 1]
    assert torch.equal(kept.labels, labels[rows])
    assert len(images[rows].unique_consecutive()) == 50
    assert kept.half % 6 == 0


def test_a_label_that_is_no_class_is_refused() -> None:
    samples, of = LabelledSamples(2, 3, ["cat", "dog"], seed=0), torch.tensor([2])
    with pytest.raises(BadInputError, match="must be from 0 to 1"):
        samples.add(torch.ones(1, 2), torch.ones(1, 3), classes(of, of - 2))
