"""Semantic consistency: by hand, by brute force, however the samples are batched and stored."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma import consistency
from wsae_plugin.gamma.consistency import (
    ACTIVE,
    FEWEST,
    N_TOP,
    LabelCounter,
    LabelEvidence,
    chance,
    semantic_consistency,
    sparse_of,
)

seeds = st.integers(0, 2**31)


def counted(
    activations: Tensor, labels: Tensor, n_classes: int, batch: int = 1000, n_top: int = N_TOP
) -> LabelEvidence:
    counter = LabelCounter(activations.shape[1], n_classes, n_top=n_top)
    for start in range(0, len(labels), batch):
        counter.add(activations[start : start + batch], labels[start : start + batch])
    return counter.evidence()


def brute_force(acts: Tensor, labels: Tensor, n_classes: int, n_top: int) -> LabelEvidence:
    active = torch.zeros(acts.shape[1], n_classes, dtype=torch.long)
    top = torch.zeros_like(active)
    for q, column in enumerate(acts.T.tolist()):
        there = [
            (-value, at)
            for at, value in enumerate(column)
            if value > ACTIVE and int(labels[at]) >= 0
        ]
        for _, at in there:
            active[q, labels[at]] += 1
        for _, at in sorted(there)[:n_top]:
            top[q, labels[at]] += 1
    sizes = torch.tensor([int((labels == c).sum()) for c in range(n_classes)])
    return LabelEvidence(active, top, sizes)


def assert_same(one: LabelEvidence, other: LabelEvidence) -> None:
    for name, counts in vars(one).items():
        assert counts.dtype == torch.int64
        assert torch.equal(counts, getattr(other, name)), name


def test_a_top_sample_more_than_is_needed_would_judge_dimensions_by_unequal_numbers() -> None:
    assert N_TOP == FEWEST


def test_counts_by_hand() -> None:
    acts = torch.tensor([[3.0, 0.0], [1.0, 1e-5], [2.0, -4.0], [9.0, 0.5], [2.0, 0.5]])
    labels = torch.tensor([0, 1, 1, -1, 0])
    found = counted(acts, labels, n_classes=3, n_top=2)
    assert found.active.tolist() == [[2, 2, 0], [1, 0, 0]]
    # Of the two 2.0, the one that came first; what has no label is not there at all.
    assert found.top.tolist() == [[1, 1, 0], [1, 0, 0]]
    assert found.class_sizes.tolist() == [2, 2, 0]


def test_consistency_by_hand() -> None:
    counts = torch.tensor([[15, 5, 0], [20, 0, 0], [8, 8, 8], [19, 0, 0], [0, 0, 0]])
    found = semantic_consistency(counts)
    assert found.dtype == torch.float64
    assert found[:3].tolist() == pytest.approx([0.75, 1.0, 1 / 3])
    assert found[3:].isnan().all()


def test_chance_is_the_largest_class() -> None:
    assert chance(torch.tensor([30, 50, 20])) == pytest.approx(0.5)


@given(
    st.integers(1, 60),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(1, 9),
    st.integers(1, 20),
    st.booleans(),
    seeds,
)
def test_any_stream_gives_what_all_at_once_does(
    n: int, d: int, n_classes: int, n_top: int, batch: int, ties: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    acts = torch.randn(n, d, generator=generator)
    acts = (3 * acts).round() if ties else acts
    labels = torch.randint(-1, n_classes, (n,), generator=generator)
    expected = brute_force(acts, labels, n_classes, n_top)
    assert_same(counted(acts, labels, n_classes, batch, n_top), expected)


@given(st.integers(1, 40), st.integers(1, 6), seeds)
def test_the_order_of_batches_does_not_matter(n: int, batch: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Distinct activations, since of equal ones the first is taken.
    acts = torch.randperm(n * 4, generator=generator).reshape(n, 4) - float(n)
    labels = torch.randint(-1, 3, (n,), generator=generator)
    order = torch.randperm(n, generator=generator)
    assert_same(
        counted(acts, labels, 3, batch, n_top=3),
        counted(acts[order], labels[order], 3, batch, n_top=3),
    )


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state:UserWarning")
@given(st.integers(1, 40), st.sampled_from(["coo", "csr", "uncoalesced"]), seeds)
def test_sparse_activations_are_dense_ones(n: int, layout: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    acts = torch.randn(n, 6, generator=generator).clamp(min=-0.5)
    acts[torch.rand(n, 6, generator=generator) < 0.5] = 0
    labels = torch.randint(-1, 3, (n,), generator=generator)
    stored = sparse_of(acts)
    if layout == "csr":
        stored = stored.to_sparse_csr()
    elif layout == "uncoalesced":
        order = torch.randperm(stored._nnz(), generator=generator)
        indices, values = stored.indices()[:, order], stored.values()[order]
        stored = torch.sparse_coo_tensor(indices, values, acts.shape, check_invariants=True)
    counter = LabelCounter(6, 3, n_top=4)
    counter.add(stored, labels)
    assert_same(counter.evidence(), counted(acts, labels, 3, n_top=4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_floating_dtype_is_counted(dtype: torch.dtype) -> None:
    acts = torch.tensor([[1.0, 0.0], [0.5, -1.0], [4.0, 2.0]])
    labels = torch.tensor([0, 1, 1])
    assert_same(counted(acts.to(dtype), labels, 2, n_top=1), counted(acts, labels, 2, n_top=1))


def test_evidence_can_be_asked_for_between_batches() -> None:
    acts, labels = torch.rand(60, 3), torch.arange(60) % 4
    counter = LabelCounter(3, 4)
    counter.add(acts[:35], labels[:35])
    early = counter.evidence()
    counter.add(acts[35:], labels[35:])
    assert_same(early, counted(acts[:35], labels[:35], 4))
    assert_same(counter.evidence(), counted(acts, labels, 4))


@pytest.mark.parametrize("label", [3, -2])
def test_a_label_that_is_no_class_is_refused(label: int) -> None:
    counter = LabelCounter(2, 3)
    with pytest.raises(BadInputError, match="labels: from .* must be from 0 to 2"):
        counter.add(torch.ones(2, 2), torch.tensor([0, label]))
    assert counter.evidence().class_sizes.tolist() == [0, 0, 0]


def test_no_sample_and_no_active_one_are_counted_as_such() -> None:
    counter = LabelCounter(2, 3)
    counter.add(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))
    counter.add(torch.zeros(4, 2), torch.tensor([0, 1, 1, -1]))
    counter.add(sparse_of(torch.zeros(1, 2)), torch.tensor([2]))
    found = counter.evidence()
    assert not found.active.any() and not found.top.any()
    assert found.class_sizes.tolist() == [1, 2, 1]


@given(st.integers(0, 40), st.integers(1, 7), st.sampled_from([None, 0.25, -0.5]), seeds)
def test_sparse_of_is_what_torch_finds(n: int, d: int, above: float | None, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-2, 3, (n, d), generator=generator) / 4
    kept = x if above is None else x * (x > above)
    expected = (x != 0 if above is None else x > above).nonzero().T
    found = sparse_of(x, above)
    assert torch.equal(found.indices(), expected)
    assert found.is_coalesced() and torch.equal(found.to_dense(), kept)


def test_blocks_end_where_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block of 16 after a full one of fewer: no flag of the one is left for the other."""
    monkeypatch.setattr(consistency, "_BLOCK", 16)
    x = torch.ones(3, 7)
    x[2, 5:] = 0
    assert torch.equal(sparse_of(x).to_dense(), x)


def test_rows_at_a_time_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    acts = torch.randn(200, 5, generator=generator).round()
    labels = torch.randint(-1, 4, (200,), generator=generator)
    whole = counted(acts, labels, 4)
    monkeypatch.setattr(consistency, "_ELEMENTS_AT_A_TIME", 15)
    assert_same(counted(acts, labels, 4), whole)


def test_a_planted_dimension_is_consistent_and_one_that_knows_nothing_is_like_a_shuffle() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 10, (5000,), generator=generator)
    shuffled = labels[torch.randperm(5000, generator=generator)]
    strength = 0.1 + torch.rand(5000, 310, generator=generator)
    strength[:, :10] *= torch.nn.functional.one_hot(labels, 10)
    true, control = (counted(strength, of, 10) for of in (labels, shuffled))
    assert (semantic_consistency(true.top)[:10] == 1).all()
    assert (semantic_consistency(true.active)[:10] == 1).all()
    blind = semantic_consistency(true.top)[10:].mean().item()
    assert blind == pytest.approx(semantic_consistency(control.top).mean().item(), abs=0.01)
    # The best of ten classes of twenty samples is far above a class's share.
    assert blind > 1.8 * chance(true.class_sizes)
    everywhere = semantic_consistency(true.active)[10:]
    assert everywhere.tolist() == pytest.approx([chance(true.class_sizes)] * 300)
    assert not math.isnan(blind)
