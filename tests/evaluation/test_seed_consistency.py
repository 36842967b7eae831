"""Whether seeds found the same latents, and how the scores say so."""

from __future__ import annotations

import math

import pytest
import torch

from tests.measures.draws import directions
from wsae_plugin.evaluation import seed_consistency as module
from wsae_plugin.evaluation.latent_scores import seed_records
from wsae_plugin.evaluation.seed_consistency import seed_consistency


def random_decoder(seed: int) -> torch.Tensor:
    return torch.randn(40, 12, generator=torch.Generator().manual_seed(seed))


def test_the_same_latents_in_another_order_agree_wholly() -> None:
    W_dec = random_decoder(0)
    found = seed_consistency([W_dec, 3 * W_dec.flip(0), W_dec[torch.randperm(40)]])
    assert found.assigned is not None
    for matched in (found.assigned, found.best_match):
        assert matched.value == pytest.approx(1)
        assert 0 < matched.random < 0.9
        assert 0 < matched.rotated < 0.9


def test_decoders_that_know_nothing_of_each_other_are_at_chance() -> None:
    found = seed_consistency([random_decoder(seed) for seed in range(4)])
    assert found.assigned is not None
    assert found.assigned.value == pytest.approx(found.assigned.random, abs=0.03)
    assert found.best_match.value == pytest.approx(found.best_match.random, abs=0.03)


def test_the_best_match_is_taken_both_ways() -> None:
    # One to one 0° – 8°, 90° – 270° and 45° – 60°; what is closest, signed, differs by the side.
    c = {angle: math.cos(math.radians(angle)) for angle in (8, 15, 30)}
    found = seed_consistency([directions(0, 90, 45), directions(8, 270, 60)])
    assert found.assigned is not None
    assert found.assigned.value == pytest.approx((c[8] + 1 + c[15]) / 3)
    there, back = (c[8] + c[30] + c[15]) / 3, (c[8] + 0 + c[15]) / 3
    assert found.best_match.value == pytest.approx((there + back) / 2)


def test_means_are_over_pairs() -> None:
    a, b = random_decoder(0), random_decoder(1)
    apart = seed_consistency([a, b]).best_match.value
    # a and a agree wholly, a and b twice as little
    assert seed_consistency([a, a, b]).best_match.value == pytest.approx((1 + 2 * apart) / 3)


def test_records(monkeypatch: pytest.MonkeyPatch) -> None:
    decoders = [random_decoder(seed) for seed in range(2)]
    assigned, best = seed_records("run", [4, 7], seed_consistency(decoders))
    assert "seeds 4, 7" in assigned["note"]
    assert assigned["value"] > 0 and best["value"] > 0
    monkeypatch.setattr(module, "LARGEST_ASSIGNMENT", 39)
    assigned, best = seed_records("run", [4, 7], seed_consistency(decoders))
    assert assigned["value"] is None and "no one-to-one assignment" in assigned["note"]
    assert best["value"] > 0
    for alone in seed_records("run", [4], None):
        assert alone["value"] is None and "two seeds" in alone["note"]
