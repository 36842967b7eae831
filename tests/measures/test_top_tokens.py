"""How specific latents are to tokens: by hand, by brute force, and where the truth is planted."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from wsae_plugin.measures.top_tokens import (
    FEWEST_TOKENS,
    N_DIRECTIONS,
    STANDING_OUT_BY_CHANCE,
    TOP_TOKENS,
    HeldOutTokens,
    RandomDirections,
    TopTokens,
    chance_of_agreeing,
    consistency,
    shuffled_within,
    specificity,
)


def test_held_out_tokens_know_what_came_before() -> None:
    batches = [torch.tensor([[9, 1, 2], [9, 3, 9]]), torch.tensor([[4, 5, 6], [9, 7, 8]])]
    tokens = HeldOutTokens.of(batches, exclude_tokens=[9], tokenizer=None)
    assert tokens.kinds["token"].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert tokens.kinds["context"].tolist() == [9, 1, 9, -1, 4, 5, 9, 7]
    assert tokens.contexts.tolist() == [0, 0, 1, 2, 2, 2, 3, 3]


def test_consistency_by_hand() -> None:
    labels = torch.tensor([7, 7, 7, 8, 8, 9, 7])
    positions = torch.tensor(
        [
            [0, 1, 2, 3, 4, 5],  # 3 + 1 of 15 pairs
            [6, 2, 1, 0, 3, -1],  # 6 of 10, one place empty
            [0, 1, 2, 6, -1, -1],  # too few
            [-1, -1, -1, -1, -1, -1],
        ]
    )
    scores = consistency(labels, positions)
    assert scores[:2].tolist() == pytest.approx([4 / 15, 6 / 10])
    assert scores[2:].isnan().all()


def test_chance_by_hand() -> None:
    # 3 + 1 of 15 pairs
    assert chance_of_agreeing(torch.tensor([7, 7, 7, 8, 8, 9])) == pytest.approx(4 / 15)


@given(
    st.lists(st.integers(-1, 3), min_size=8, max_size=30),
    st.integers(1, 9),
    st.integers(0, 2**31),
)
def test_consistency_counts_pairs(labels: list[int], n_top: int, seed: int) -> None:
    n_top = min(n_top, len(labels))
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randperm(len(labels), generator=generator)[:n_top] for _ in range(4)]
    there = torch.randint(0, n_top + 1, (4, 1), generator=generator)
    positions = torch.stack(drawn).where(torch.arange(n_top) < there, -1)
    for row, score in zip(
        positions.tolist(), consistency(torch.tensor(labels), positions).tolist(), strict=True
    ):
        chosen = [labels[position] for position in row if position >= 0]
        if len(chosen) < FEWEST_TOKENS:
            assert math.isnan(score)
        else:
            pairs = list(combinations(chosen, 2))
            assert score == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))


@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 8), st.integers(0, 2**31))
def test_streamed_top_tokens_are_those_of_all_at_once(
    n_tokens: int, d_sae: int, n_top: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Distinct values, so that the order has no ties; about half of them are inactive.
    values = torch.randperm(n_tokens * d_sae, generator=generator).reshape(n_tokens, d_sae)
    acts = (values - n_tokens * d_sae // 2).clamp(min=0).float()
    top = TopTokens(d_sae, n_top)
    at = 0
    while at < n_tokens:
        size = int(torch.randint(1, 12, (), generator=generator))
        top.add(acts[at : at + size])
        at += size
    for latent in range(d_sae):
        active = acts[:, latent].nonzero().flatten()
        best = active[acts[active, latent].argsort(descending=True)][:n_top].tolist()
        found = top.positions[latent].tolist()
        assert found == best + [-1] * (len(found) - len(best))


@given(st.lists(st.integers(1, 7), min_size=1, max_size=8), st.integers(0, 2**31))
def test_shuffling_stays_in_the_context(sizes: list[int], seed: int) -> None:
    contexts = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    permutation = shuffled_within(contexts, seed)
    assert permutation.sort().values.tolist() == list(range(len(contexts)))
    assert torch.equal(contexts[permutation], contexts)


def test_shuffling_moves_tokens() -> None:
    contexts = torch.arange(4).repeat_interleave(100)
    moved = shuffled_within(contexts, seed=0) != torch.arange(400)
    assert moved.double().mean() > 0.9
    assert not torch.equal(shuffled_within(contexts, 0), shuffled_within(contexts, 1))


def test_a_shuffle_is_that_of_its_seed_on_every_machine() -> None:
    # In each context the tokens in the order in which they were drawn, however sorts break ties.
    contexts = torch.arange(60) % 2
    drawn = torch.randperm(60, generator=torch.Generator().manual_seed(3)).tolist()
    permutation = shuffled_within(contexts, seed=3)
    for context in (0, 1):
        assert permutation[contexts == context].tolist() == [d for d in drawn if d % 2 == context]


N_IDS = 10


def planted_tokens(n_tokens: int = 20_000) -> Tensor:
    return torch.randint(0, N_IDS, (n_tokens,), generator=torch.Generator().manual_seed(0))


def top_positions(acts: Tensor) -> Tensor:
    top = TopTokens(acts.shape[1])
    for batch in acts.split(1000):
        top.add(batch)
    return top.positions


def test_planted_monosemantic_latents_score_1_and_their_shuffle_chance() -> None:
    ids = planted_tokens()
    strength = 0.5 + torch.rand(len(ids), 1, generator=torch.Generator().manual_seed(1))
    acts = torch.nn.functional.one_hot(ids, N_IDS) * strength
    contexts = torch.arange(len(ids)) // 100
    measured = specificity(ids, top_positions(acts), contexts, seed=0)
    assert measured.consistency.value == 1
    assert measured.standing_out.value == 1
    assert measured.n_latents == N_IDS
    assert measured.consistency.chance == pytest.approx(1 / N_IDS, abs=0.002)
    assert measured.consistency.control == pytest.approx(measured.consistency.chance, abs=0.03)


def test_latents_that_know_nothing_are_at_chance() -> None:
    ids = planted_tokens()
    acts = torch.rand(len(ids), 400, generator=torch.Generator().manual_seed(2))
    contexts = torch.arange(len(ids)) // 100
    measured = specificity(ids, top_positions(acts), contexts, seed=0)
    assert measured.consistency.value == pytest.approx(measured.consistency.chance, abs=0.005)
    assert measured.consistency.control == pytest.approx(measured.consistency.chance, abs=0.005)
    assert measured.standing_out.value < 2 * STANDING_OUT_BY_CHANCE
    assert measured.standing_out.control < 2 * STANDING_OUT_BY_CHANCE


def test_the_second_shuffle_is_another_one() -> None:
    # Latents that know their token, so that unshuffled they would all stand out. Of one and the
    # same shuffle no more than 5 % can be above its own 95 % quantile; of another, in some draws.
    ids = planted_tokens(4000)
    strength = torch.rand(4000, 30 * N_IDS, generator=torch.Generator().manual_seed(4))
    acts = torch.nn.functional.one_hot(ids, N_IDS).repeat(1, 30) * strength
    positions, contexts = top_positions(acts), torch.arange(len(ids)) // 100
    shares: list[Any] = [
        specificity(ids, positions, contexts, seed).standing_out.control for seed in range(12)
    ]
    assert STANDING_OUT_BY_CHANCE < max(shares) < 4 * STANDING_OUT_BY_CHANCE
    assert sum(shares) / len(shares) == pytest.approx(STANDING_OUT_BY_CHANCE, abs=0.03)


def test_a_latent_of_documents_is_above_chance_but_not_above_the_control() -> None:
    # Every context has one word of its own; latents fire anywhere in one context.
    contexts = torch.arange(100).repeat_interleave(100)
    ids = torch.where(torch.rand(10_000) < 0.5, contexts, 100 + torch.arange(10_000) % 50)
    acts = torch.nn.functional.one_hot(contexts, 100) * torch.rand(10_000, 1)
    measured = specificity(ids, top_positions(acts), contexts, seed=0)
    assert measured.consistency.value > 10 * measured.consistency.chance
    assert measured.consistency.value == pytest.approx(measured.consistency.control, abs=0.05)
    assert measured.standing_out.value < 3 * STANDING_OUT_BY_CHANCE


def test_no_latent_that_is_active_has_no_mean() -> None:
    measured = specificity(torch.arange(50), top_positions(torch.zeros(50, 3)), torch.zeros(50), 0)
    assert measured.n_latents == 0
    assert math.isnan(measured.consistency.value)
    assert math.isnan(measured.consistency.control)


def test_random_directions_find_what_the_activations_are_made_of() -> None:
    ids = planted_tokens(4000)
    generator = torch.Generator().manual_seed(3)
    embedding = torch.randn(N_IDS, 16, generator=generator)
    x = 100 + embedding[ids] + 0.01 * torch.randn(len(ids), 16, generator=generator)
    directions = RandomDirections(seed=0)
    for batch in x.split(500):
        directions.add(batch)
    assert directions.positions.shape == (N_DIRECTIONS, TOP_TOKENS)
    measured = specificity(ids, directions.positions, torch.arange(4000) // 100, seed=0)
    assert measured.consistency.value > 0.9
    assert measured.consistency.control < 0.2
