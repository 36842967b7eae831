"""The monosemanticity score where the truth is planted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.measures.labelled import N_CLASSES, blind_latents, class_latents, collected, world
from tests.measures.sums import sums_of
from wsae_plugin.measures.labelled import LabelledSamples
from wsae_plugin.measures.measure import Evidence
from wsae_plugin.measures.monosemanticity import monosemanticity_score
from wsae_plugin.sources import Classes

X = torch.randn(4, 8)
NOTHING = Evidence(sums_of([(X, X), (X, X)]))


def test_without_labels_there_is_none() -> None:
    assert list(monosemanticity_score(NOTHING)) == []


def test_latents_of_one_class_are_above_chance_and_others_at_it() -> None:
    x, labels, shuffled = world()
    labelled = collected(x, class_latents(labels), labels, shuffled)
    (score,) = monosemanticity_score(replace(NOTHING, labelled=labelled))
    unit = torch.nn.functional.normalize(x.double(), dim=1)
    of_class = [unit[labels == c] @ unit[labels == c].T for c in range(5)]
    within = [(c.sum() - len(c)) / (len(c) * (len(c) - 1)) for c in of_class]
    assert score.metric == "monosemanticity_score" and score.direction == "up"
    assert score.value == pytest.approx(float(torch.stack(within).mean()), abs=0.01)
    assert score.chance == pytest.approx(labelled.mean_cosine)
    assert score.chance is not None and score.value is not None
    assert score.value > score.chance + 0.4
    assert score.control == pytest.approx(score.chance, abs=0.01)
    assert "the 5 latents" in score.note and "given to samples of other images" in score.note

    labelled = collected(x, blind_latents(labels), labels, shuffled)
    (blind,) = monosemanticity_score(replace(NOTHING, labelled=labelled))
    assert blind.value == pytest.approx(score.chance, abs=0.01)


def test_no_latent_that_is_active_has_no_mean() -> None:
    x, labels, shuffled = world(100)
    labelled = collected(x, torch.zeros(100, 3), labels, shuffled)
    (score,) = monosemanticity_score(replace(NOTHING, labelled=labelled))
    assert score.value is None and "mean over the 0 latents" in score.note


def test_what_knows_the_image_alone_is_no_better_than_its_control() -> None:
    differences: list[float] = []
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        images, n = torch.arange(60).repeat_interleave(9), 540
        x = torch.randn(60, 16, generator=generator)[images]
        x += 0.3 * torch.randn(n, 16, generator=generator)
        acts = (torch.rand(60, 8, generator=generator) < 0.3).float()[images]
        labels = torch.randint(0, N_CLASSES, (60,), generator=generator)[images]
        samples = LabelledSamples(16, 8, N_CLASSES, seed)
        samples.add(x, acts, Classes(labels, labels, images, ("",) * N_CLASSES))
        labelled = samples.evidence()
        (score,) = monosemanticity_score(replace(NOTHING, labelled=labelled))
        assert score.value is not None and score.control is not None
        differences.append(score.value - score.control)
    found = torch.tensor(differences)
    assert abs(float(found.mean())) < 4 * float(found.std()) / 30**0.5 + 0.005
