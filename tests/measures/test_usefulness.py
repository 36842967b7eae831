"""Classifiers of latents: near perfect where these know the class, at chance where they do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

from tests.measures.labelled import blind_latents, class_latents, collected, world
from tests.measures.sums import sums_of
from wsae_plugin.measures.labelled import LabelledSamples
from wsae_plugin.measures.measure import Evidence, HeldOutScore
from wsae_plugin.measures.usefulness import (
    N_PROBED,
    linear_probe_accuracies,
    linear_probe_accuracy,
    nearest_neighbour_accuracies,
    nearest_neighbour_accuracy,
)
from wsae_plugin.sources import Classes

X = torch.randn(4, 8)
NOTHING = Evidence(sums_of([(X, X), (X, X)]))


def scores_of(evidence: Evidence) -> dict[str, HeldOutScore]:
    both = (*nearest_neighbour_accuracy(evidence), *linear_probe_accuracy(evidence))
    return {score.metric: score for score in both}


def test_without_labels_there_is_none() -> None:
    assert scores_of(NOTHING) == {}


def test_nearest_neighbour_by_hand() -> None:
    # By the cosine, not by the distance; four samples train, four test, one of which is wrong.
    features = np.array(
        [[1.0, 0], [9, 1], [0, 2], [1, 5], [0.1, 0], [0, 9], [2, 0.1], [0.1, 2]], dtype="float32"
    )
    labels = np.array([0, 0, 1, 1, 0, 1, 0, 0])
    value, control = nearest_neighbour_accuracies(
        features, labels, len(labels) // 2, np.random.default_rng(0)
    )
    assert value == 0.75
    of_others = np.array([0, 1, 0, 0, 0, 0, 1, 1])
    nearest = [0, 2, 0, 2]
    assert control == np.mean(of_others[nearest] == of_others[4:])
    stored = sparse.csr_array(features)
    assert nearest_neighbour_accuracies(
        stored, labels, len(labels) // 2, np.random.default_rng(0)
    ) == (
        value,
        control,
    )


def test_the_probe_finds_the_latents_that_know_and_no_random_one_does() -> None:
    _, labels, _ = world()
    acts = torch.cat([class_latents(labels), blind_latents(labels, n=300)], dim=1)
    features, of = sparse.csr_array(acts.numpy()), labels.numpy()
    value, control = linear_probe_accuracies(features, of, len(of) // 2, np.random.default_rng(0))
    assert value > 0.99
    assert control < 0.6
    dense = linear_probe_accuracies(acts.numpy(), of, len(of) // 2, np.random.default_rng(0))
    assert dense == pytest.approx((value, control), abs=0.01)


def test_latents_are_chosen_by_the_half_that_trains() -> None:
    """One knows the class in the half that tests alone, which nobody may see."""
    _, labels, shuffled = world()
    known = torch.cat([shuffled[:1000], labels[1000:]])
    acts = torch.cat([blind_latents(labels), class_latents(known)], dim=1).numpy()
    value, _ = linear_probe_accuracies(
        acts, labels.numpy(), len(labels.numpy()) // 2, np.random.default_rng(0)
    )
    assert value < 0.5


def test_choosing_among_many_that_know_nothing_finds_nothing() -> None:
    """By all samples, the best of so many would seem to know the class of half of them."""
    _, labels, _ = world(200)
    acts = blind_latents(labels, n=3000).numpy()
    value, control = linear_probe_accuracies(acts, labels.numpy(), 100, np.random.default_rng(0))
    assert value < 0.32
    assert control < 0.32


def test_the_probe_reads_latents_of_any_scale() -> None:
    _, labels, _ = world()
    acts = 1e-5 * torch.cat([class_latents(labels), 1e9 * blind_latents(labels, n=5)], dim=1)
    value, _ = linear_probe_accuracies(
        acts.numpy(), labels.numpy(), len(labels) // 2, np.random.default_rng(0)
    )
    assert value > 0.99


def test_a_latent_that_is_constant_in_each_class_is_the_best() -> None:
    _, labels, _ = world(400)
    acts = torch.cat([torch.rand(400, 100), (labels == 2).unsqueeze(1).float()], dim=1)
    acts[:, 3] = 7  # constant
    of = (labels == 2).long().numpy()
    value, _ = linear_probe_accuracies(acts.numpy(), of, len(of) // 2, np.random.default_rng(0))
    assert value == 1


def test_latents_that_never_vary_are_at_chance() -> None:
    labels = np.array([0, 0, 1] * 40)
    found = linear_probe_accuracies(
        np.zeros((120, 3)), labels, len(labels) // 2, np.random.default_rng(0)
    )
    assert found == pytest.approx((2 / 3, 2 / 3))


def test_scores_of_latents_that_know_and_of_those_that_do_not() -> None:
    x, labels, shuffled = world()
    knowing = scores_of(
        replace(NOTHING, labelled=collected(x, class_latents(labels), labels, shuffled))
    )
    assert [(s.metric, s.direction) for s in knowing.values()] == [
        ("nearest_neighbour_accuracy", "up"),
        ("nearest_neighbour_accuracy_of_activations", "none"),
        ("linear_probe_accuracy", "up"),
        ("linear_probe_accuracy_of_activations", "none"),
    ]
    for score in knowing.values():
        assert score.value is not None and score.value > 0.95, score.metric
        assert score.chance == pytest.approx(0.2, abs=0.03)
        assert score.definition and not score.headline
        assert "1000 samples train, 1000 test" in score.note
    assert knowing["nearest_neighbour_accuracy"].control == pytest.approx(0.2, abs=0.05)
    # No more than as many are read, so that random ones are all there are.
    assert knowing["linear_probe_accuracy"].control == knowing["linear_probe_accuracy"].value
    assert f"{N_PROBED} latents" in knowing["linear_probe_accuracy"].definition
    blind = scores_of(
        replace(NOTHING, labelled=collected(x, blind_latents(labels), labels, shuffled))
    )
    for metric in ("nearest_neighbour_accuracy", "linear_probe_accuracy"):
        assert blind[metric].value == pytest.approx(0.2, abs=0.05), metric


@pytest.mark.parametrize(
    ("sizes", "of_class"),
    [
        # Too few to test on, and two images that are of a class each.
        ([30, 12], [0, 1]),
        ([60, 60], [0, 1]),
    ],
)
def test_halves_of_images_may_have_too_little(sizes: list[int], of_class: list[int]) -> None:
    images = torch.arange(2).repeat_interleave(torch.tensor(sizes))
    labels = torch.tensor(of_class)[images] if sizes[0] == sizes[1] else torch.arange(42) % 2
    x = torch.randn(len(images), 8)
    # Either image trains.
    for seed in range(4):
        samples = LabelledSamples(8, 8, 2, seed)
        samples.add(x, x.clamp(min=0), Classes(labels, labels, images, ("a", "b")))
        found = scores_of(replace(NOTHING, labelled=samples.evidence()))
        assert len(found) == 4
        assert all(score.value is None and score.control is None for score in found.values())


@pytest.mark.parametrize(("n", "n_classes"), [(30, 5), (300, 1)])
def test_too_few_samples_or_one_class_have_no_accuracy(n: int, n_classes: int) -> None:
    x, labels, shuffled = world(n)
    labelled = collected(x, blind_latents(labels), labels % n_classes, shuffled)
    found = scores_of(replace(NOTHING, labelled=labelled))
    assert len(found) == 4
    for score in found.values():
        assert score.value is None and score.control is None
        assert f"{n} held-out samples with a label: too few, or all of one class" in score.note
