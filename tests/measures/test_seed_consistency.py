"""Whether seeds found the same latents, and how the scores say it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.measures.draws import directions
from tests.measures.sums import sums_of
from wsae_plugin.measures import identifiability as module
from wsae_plugin.measures.identifiability import Seeds
from wsae_plugin.measures.measure import Evidence
from wsae_plugin.measures.seed_consistency import seed_best_match, seed_consistency
from wsae_plugin.scores import Score

X = torch.randn(4, 12)


def random_decoder(seed: int) -> Tensor:
    return torch.randn(40, 12, generator=torch.Generator().manual_seed(seed))


def scores_of(seeds: list[int], decoders: Callable[[], list[Tensor]]) -> tuple[Score, Score]:
    evidence = Evidence(sums_of([(X, X), (X, X)]), seeds=Seeds(seeds, decoders))
    (assigned,), (best_match,) = seed_consistency(evidence), seed_best_match(evidence)
    return assigned, best_match


def agreement_of(decoders: list[Tensor]) -> tuple[Score, Score]:
    return scores_of([*range(len(decoders))], lambda: decoders)


def test_the_same_latents_in_another_order_agree_wholly() -> None:
    W_dec = random_decoder(0)
    for matched in agreement_of([W_dec, 3 * W_dec.flip(0), W_dec[torch.randperm(40)]]):
        assert matched.value == pytest.approx(1)
        assert matched.chance is not None and 0 < matched.chance < 0.9
        assert matched.control is not None and 0 < matched.control < 0.9


def test_decoders_that_know_nothing_of_each_other_are_at_chance() -> None:
    for matched in agreement_of([random_decoder(seed) for seed in range(4)]):
        assert matched.value == pytest.approx(matched.chance, abs=0.03)


def test_the_best_match_is_taken_both_ways() -> None:
    # One to one 0° – 8°, 90° – 270° and 45° – 60°; what is closest, signed, differs by the side.
    c = {angle: math.cos(math.radians(angle)) for angle in (8, 15, 30)}
    assigned, best_match = agreement_of([directions(0, 90, 45), directions(8, 270, 60)])
    assert assigned.value == pytest.approx((c[8] + 1 + c[15]) / 3)
    there, back = (c[8] + c[30] + c[15]) / 3, (c[8] + 0 + c[15]) / 3
    assert best_match.value == pytest.approx((there + back) / 2)


def test_means_are_over_pairs() -> None:
    a, b = random_decoder(0), random_decoder(1)
    apart = agreement_of([a, b])[1].value
    assert apart is not None
    # a and a agree wholly, a and b twice as little
    assert agreement_of([a, a, b])[1].value == pytest.approx((1 + 2 * apart) / 3)


def test_a_single_seed_agrees_with_none() -> None:
    def refuse() -> list[Tensor]:
        raise AssertionError("was loaded")

    for alone in scores_of([4], refuse):
        assert alone.value is None and "two seeds" in alone.note
        assert alone.chance is None and alone.control is None


def test_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    decoders = [random_decoder(4), random_decoder(7)]
    assigned, best = scores_of([4, 7], lambda: decoders)
    assert (assigned.metric, best.metric) == ("seed_consistency", "seed_best_match")
    assert (assigned.headline, best.headline) == (True, False)
    for score in (assigned, best):
        assert score.direction == "up"
        assert "seeds 4, 7" in score.note
        assert score.value is not None and score.value > 0
        assert score.chance is not None and score.control is not None
    monkeypatch.setattr(module, "LARGEST_ASSIGNMENT", 39)
    assigned, best = scores_of([4, 7], lambda: decoders)
    assert assigned.value is None and "no one-to-one assignment" in assigned.note
    assert best.value is not None
