"""The scores of semantic consistency, by hand and where the truth is planted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.measures.labelled import blind_latents, class_latents, collected, world
from tests.measures.sums import sums_of
from wsae_plugin.gamma.consistency import LabelEvidence, chance
from wsae_plugin.measures.measure import Evidence, HeldOutScore
from wsae_plugin.measures.semantic_consistency import semantic_consistency

X = torch.randn(4, 8)
NOTHING = Evidence(sums_of([(X, X), (X, X)]))


def scores_of(evidence: Evidence) -> dict[str, HeldOutScore]:
    return {score.metric: score for score in semantic_consistency(evidence)}


def test_without_labels_there_is_none() -> None:
    assert scores_of(NOTHING) == {}


def test_by_hand() -> None:
    x, labels, shuffled = world(100)
    sizes = torch.tensor([60, 40])

    def counts(top: list[list[int]], active: list[list[int]]) -> LabelEvidence:
        return LabelEvidence(torch.tensor(active), torch.tensor(top), sizes)

    found = scores_of(
        replace(
            NOTHING,
            labelled=replace(
                collected(x, blind_latents(labels), labels, shuffled),
                latents=counts([[20, 0], [15, 5], [9, 0]], [[15, 5], [18, 42], [9, 0]]),
                latents_shuffled=counts([[12, 8], [11, 9], [9, 0]], [[55, 45], [36, 24], [9, 0]]),
                directions=counts([[10, 10]], [[50, 50]]),
                directions_shuffled=counts([[13, 7]], [[60, 40]]),
            ),
        )
    )
    shown = [(s.metric, s.direction, s.headline) for s in found.values()]
    assert shown == [
        ("latents_with_consistency", "none", False),
        ("semantic_consistency", "up", True),
        ("semantic_consistency_of_random_directions", "none", False),
        ("semantic_consistency_of_active", "up", False),
        ("semantic_consistency_of_active_of_random_directions", "none", False),
    ]
    assert [(s.value, s.chance, s.control) for s in found.values()] == [
        pytest.approx(expected)
        for expected in (
            (2 / 3, None, None),
            (0.875, 0.6, 0.575),
            (0.5, 0.6, 0.65),
            (0.725, 0.6, 0.575),
            (0.5, 0.6, 0.6),
        )
    ]
    assert "the 2 latents active on 20 held-out samples" in found["semantic_consistency"].note
    assert "the 20 samples that excite it most" in found["semantic_consistency"].definition
    assert all(score.definition for score in found.values())


def test_latents_of_one_class_score_1_and_blind_ones_like_the_control() -> None:
    x, labels, shuffled = world()
    for latents, expected in ((class_latents(labels), 1.0), (blind_latents(labels, n=400), None)):
        labelled = collected(x, latents, labels, shuffled)
        found = scores_of(replace(NOTHING, labelled=labelled))
        for metric in ("semantic_consistency", "semantic_consistency_of_active"):
            score = found[metric]
            assert score.chance == pytest.approx(chance(torch.bincount(labels)))
            wanted = score.control if expected is None else expected
            assert score.value == pytest.approx(wanted, abs=0.015), metric
        top = found["semantic_consistency"]
        assert top.control is not None and top.chance is not None
        assert top.control > 1.4 * top.chance, "the best of five classes of twenty samples"
        directions = found["semantic_consistency_of_random_directions"]
        assert directions.value is not None and directions.control is not None
        assert 0.9 > directions.value > directions.control + 0.1


def test_no_latent_that_is_active_has_no_mean() -> None:
    x, labels, shuffled = world(100)
    labelled = collected(x, torch.zeros(100, 3), labels, shuffled)
    score = scores_of(replace(NOTHING, labelled=labelled))["semantic_consistency"]
    assert score.value is None and score.control is None
    assert "not finite; mean over the 0 latents" in score.note
