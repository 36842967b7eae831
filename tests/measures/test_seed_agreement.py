"""Whether seeds found the same latents."""

from __future__ import annotations

import math

import pytest
import torch

from tests.measures.draws import directions
from wsae_plugin.measures.measure import Found
from wsae_plugin.measures.seed_agreement import Seeds, seed_agreement


def random_decoder(seed: int) -> torch.Tensor:
    return torch.randn(40, 12, generator=torch.Generator().manual_seed(seed))


def agreement_of(decoders: list[torch.Tensor]) -> tuple[Found, Found]:
    assigned, best_match = seed_agreement(decoders)
    assert assigned is not None
    return assigned, best_match


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
    def refuse() -> list[torch.Tensor]:
        raise AssertionError("was loaded")

    assert Seeds([4], refuse).agreement is None
