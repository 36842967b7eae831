from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sae_lens.synthetic import mean_correlation_coefficient
from torch import Tensor

from tests.measures.draws import directions, draw, seeds
from wsae_plugin.measures.identifiability import Agreement, agreement, random_like, rotated
from wsae_plugin.measures.matching import best_matches
from wsae_plugin.toy.metrics import feature_recovery_rate

sizes = st.integers(2, 8)


def numbers(measured: Agreement) -> list[float]:
    assert measured.assignment is not None
    return [
        measured.assignment.share,
        measured.assignment.mean_cosine,
        measured.forward.share,
        measured.forward.mmcs,
        measured.backward.share,
        measured.backward.mmcs,
    ]


def permuted_and_rescaled(decoder: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    scales = torch.rand(len(decoder), 1, generator=generator, dtype=torch.float64) * 10 + 0.01
    return (decoder * scales)[torch.randperm(len(decoder), generator=generator)]


def test_worked_by_hand() -> None:
    # One to one 0° – 8°, 90° – 270° and 45° – 60°; the best of 90°, signed, is 60°.
    first, second = directions(0, 90, 45), directions(8, 270, 60)
    c = {angle: float(directions(angle)[0, 0]) for angle in (8, 15, 30, 37)}
    measured = agreement(first, second, threshold=0.98)
    assert measured.assignment is not None
    assert measured.assignment.share == pytest.approx(2 / 3)
    assert measured.assignment.mean_cosine == pytest.approx((c[8] + 1 + c[15]) / 3)
    assert measured.assignment.opposite_share == pytest.approx(1 / 3)
    assert measured.assignment.curve == pytest.approx([1, c[8], c[15]])
    assert measured.forward.share == measured.backward.share == pytest.approx(1 / 3)
    assert measured.forward.mmcs == pytest.approx((c[8] + c[30] + c[15]) / 3)
    # 270° is 90° away from the nearest, 0°.
    assert measured.backward.mmcs == pytest.approx((c[8] + 0 + c[15]) / 3)


def test_the_threshold_is_strict() -> None:
    measured = agreement(torch.eye(2), torch.eye(2), threshold=1.0)
    assert measured.assignment is not None
    assert (measured.assignment.share, measured.forward.share) == (0, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_copy_agrees_exactly(dtype: torch.dtype) -> None:
    decoder = draw(200, 32, 0).to(dtype)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    for copy in (decoder, decoder[order]):
        measured = agreement(decoder, copy)
        assert numbers(measured) == [1.0] * 6
        assert measured.assignment is not None
        assert measured.assignment.curve == [1.0] * 101


def test_the_rescaled_copy_too() -> None:
    decoder = draw(100, 16, 0)
    assert numbers(agreement(decoder, permuted_and_rescaled(decoder, 1))) == [1.0] * 6


def test_random_and_rotated_decoders_are_at_chance() -> None:
    decoder = draw(128, 42, 0)
    for control in (random_like(decoder, 1), rotated(decoder, 1)):
        measured = agreement(decoder, control)
        assert measured.assignment is not None
        assert measured.assignment.share == measured.forward.share == 0
        assert measured.assignment.mean_cosine == pytest.approx(0.40, abs=0.02)
        assert measured.forward.mmcs == pytest.approx(0.39, abs=0.02)


def test_a_dictionary_within_another_is_found_one_way() -> None:
    large = draw(40, 16, 0)
    measured = agreement(large[:10], large)
    assert measured.assignment is not None
    # The share is of the ten that can have a partner.
    assert measured.assignment.share == measured.forward.share == 1
    assert measured.backward.share == 10 / 40
    assert agreement(large, large[:10]).assignment == measured.assignment


def test_too_large_an_assignment_is_left_out() -> None:
    small, large = draw(5, 4, 0), draw(9, 4, 1)
    assert agreement(large, large, largest_assignment=8).assignment is None
    assert agreement(large, small, largest_assignment=5).assignment is not None
    left_out, whole = agreement(small, large, largest_assignment=4), agreement(small, large)
    assert left_out.assignment is None
    assert (left_out.forward, left_out.backward) == (whole.forward, whole.backward)


def test_controls_keep_what_they_promise() -> None:
    decoder = draw(30, 8, 0).float() * torch.linspace(0.1, 5, 30).unsqueeze(1)
    chance, turned = random_like(decoder, 3), rotated(decoder, 3)
    assert chance.dtype == turned.dtype == decoder.dtype
    torch.testing.assert_close(chance.norm(dim=1), decoder.norm(dim=1))
    torch.testing.assert_close(turned @ turned.T, decoder @ decoder.T, rtol=0, atol=1e-4)
    assert random_like(decoder, 3).equal(chance)
    assert not random_like(decoder, 4).equal(chance)


def test_the_turn_is_uniform_over_the_orthogonal_matrices() -> None:
    # An entry of a uniform orthogonal 4 × 4 matrix has mean 0 and variance 1/4.
    axes = torch.eye(4, dtype=torch.float64)
    turns = torch.stack([rotated(axes, seed) for seed in range(400)])
    assert turns.mean(dim=0).abs().max() < 0.1
    torch.testing.assert_close(turns.var(dim=0), torch.full_like(axes, 0.25), rtol=0, atol=0.06)


def test_the_rotated_copy_knows_the_shape_and_the_random_one_does_not() -> None:
    # All latents in one narrow cone: once turned, any two of them are about as far as the cones.
    cone = torch.eye(16, dtype=torch.float64)[:1] + 0.01 * draw(50, 16, 0)
    within = [float(abs(rotated(cone, seed)[:, 0].mean())) for seed in range(20)]
    measured = [agreement(cone, rotated(cone, seed)).assignment for seed in range(20)]
    for cosine, assignment in zip(within, measured, strict=True):
        assert assignment is not None
        assert assignment.mean_cosine == pytest.approx(cosine, abs=0.05)


@given(n=sizes, m=sizes, d=sizes, seed=seeds, threshold=st.floats(0.1, 0.99))
def test_invariance_symmetry_and_bounds(
    n: int, m: int, d: int, seed: int, threshold: float
) -> None:
    first, second = draw(n, d, seed), draw(m, d, seed + 1)
    measured = agreement(first, second, threshold)
    moved = agreement(
        permuted_and_rescaled(first, seed), permuted_and_rescaled(second, seed + 1), threshold
    )
    assert numbers(moved) == pytest.approx(numbers(measured))
    turned = agreement(second, first, threshold)
    assert turned.assignment is not None
    assert measured.assignment is not None
    assert numbers(turned)[:2] == pytest.approx(numbers(measured)[:2])
    assert turned.assignment.opposite_share == measured.assignment.opposite_share
    assert turned.assignment.curve == pytest.approx(measured.assignment.curve)
    assert (turned.forward, turned.backward) == (measured.backward, measured.forward)
    assert all(-1 <= number <= 1 for number in numbers(measured))
    assert measured.assignment.mean_cosine >= 0
    curve = measured.assignment.curve
    assert curve == sorted(curve, reverse=True)


@given(n=sizes, m=sizes, d=sizes, seed=seeds)
def test_each_number_is_what_it_is_named_after(n: int, m: int, d: int, seed: int) -> None:
    first, second = draw(n, d, seed), draw(m, d, seed + 1)
    measured = agreement(first, second, threshold=0.5)
    assert measured.assignment is not None
    assert measured.assignment.mean_cosine == pytest.approx(
        mean_correlation_coefficient(first, second)
    )
    assert measured.forward.mmcs == float(best_matches(first, second)[0].mean())
    assert measured.backward.mmcs == float(best_matches(second, first)[0].mean())
    assert measured.forward.share == feature_recovery_rate(second, first, 0.5)
