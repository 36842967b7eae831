from __future__ import annotations

from itertools import permutations
from math import cos, radians

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sae_lens.util import cosine_similarities

from tests.measures.draws import directions, draw, seeds
from wsae_plugin.measures import matching
from wsae_plugin.measures.matching import assign, best_matches

sizes = st.integers(1, 7)


def test_best_matches_worked_by_hand() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, -1.0]])
    candidates = torch.tensor([[3.0, 0.0], [-1.0, 0.0], [1.0, 1.0]])
    cosines, indices = best_matches(vectors, candidates)
    assert cosines.tolist() == pytest.approx([1, 0.5**0.5, 0])
    assert indices.tolist()[:2] == [0, 2]


def test_the_assignment_is_not_greedy() -> None:
    # Greedy takes the pair 1° apart, and is left with cos 60°: 0.9998 + 0.5000. The best sum is
    # cos 5° + cos 54° = 0.9962 + 0.5878.
    pairs = assign(directions(0, 6), directions(5, 60))
    assert (pairs.first.tolist(), pairs.second.tolist()) == ([0, 1], [0, 1])
    assert pairs.cosines.tolist() == pytest.approx([cos(radians(5)), cos(radians(54))])


def test_opposite_directions_are_paired_and_keep_their_sign() -> None:
    pairs = assign(torch.eye(2), torch.tensor([[0.0, -2.0], [0.5, 0.0]]))
    assert pairs.second.tolist() == [1, 0]
    assert pairs.cosines.tolist() == [1, -1]


def test_a_zero_vector_matches_nothing() -> None:
    zero = torch.zeros(1, 3)
    assert best_matches(zero, torch.eye(3))[0].tolist() == [0]
    assert assign(torch.eye(3)[:1], zero).cosines.tolist() == [0]
    assert assign(zero, zero).cosines.tolist() == [0]


def test_the_smaller_side_is_matched_whole() -> None:
    few, many = directions(10, 100), directions(95, 45, 12)
    pairs = assign(few, many)
    assert (pairs.first.tolist(), pairs.second.tolist()) == ([0, 1], [2, 0])
    turned = assign(many, few)
    assert (turned.first.tolist(), turned.second.tolist()) == ([0, 2], [1, 0])
    assert sorted(turned.cosines.tolist()) == sorted(pairs.cosines.tolist())


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = draw(10, 4, 0), draw(8, 4, 1)
    whole = assign(first, second), best_matches(first, second)
    monkeypatch.setattr(matching, "_BLOCK", 3)
    assert assign(first, second).second.equal(whole[0].second)
    torch.testing.assert_close(assign(first, second).cosines, whole[0].cosines)
    assert best_matches(first, second)[1].equal(whole[1][1])


@given(n=st.integers(1, 5), m=st.integers(1, 5), seed=seeds)
def test_no_permutation_is_better(n: int, m: int, seed: int) -> None:
    first, second = draw(n, 3, seed), draw(m, 3, seed + 1)
    similarity = cosine_similarities(first, second).abs()
    if n > m:
        similarity = similarity.T
    best = max(
        sum(float(similarity[i, j]) for i, j in enumerate(order))
        for order in permutations(range(max(n, m)), min(n, m))
    )
    assert float(assign(first, second).cosines.abs().sum()) == pytest.approx(best)


@given(n=sizes, m=sizes, d=sizes, seed=seeds)
def test_cosines_are_saelens(n: int, m: int, d: int, seed: int) -> None:
    first, second = draw(n, d, seed), draw(m, d, seed + 1)
    similarity = cosine_similarities(first, second)
    cosines, indices = best_matches(first, second)
    torch.testing.assert_close(cosines, similarity.max(dim=1).values, rtol=0, atol=1e-12)
    torch.testing.assert_close(cosines, similarity[range(n), indices], rtol=0, atol=1e-12)
    pairs = assign(first, second)
    torch.testing.assert_close(
        pairs.cosines, similarity[pairs.first, pairs.second], rtol=0, atol=1e-12
    )
    assert pairs.cosines.abs().max() <= 1
    assert cosines.abs().max() <= 1


@given(n=sizes, d=sizes, seed=seeds, scale=st.floats(1e-6, 1e6))
def test_a_permuted_and_rescaled_copy_is_found_exactly(
    n: int, d: int, seed: int, scale: float
) -> None:
    vectors = draw(n, d, seed).float()
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    assert (best_matches(vectors, vectors[order])[0] == 1).all()
    assert (assign(vectors, vectors[order]).cosines.abs() == 1).all()
    rescaled = assign(vectors, vectors[order].double() * scale)
    assert (rescaled.cosines.abs() == 1).all()
