from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.toy.metrics.draws import draw, seeds, sparse
from wsae_plugin.errors import BadInputError
from wsae_plugin.toy.metrics import activated_features, average_activated_features

FEATURES = torch.eye(3)
# Columns: answers to feature 0; to 0 and half as much to 2, a twentieth to 1; to nothing.
ENCODER = torch.tensor([[1.0, 1.0, -1.0], [0.0, 0.05, -1.0], [0.0, 0.5, 0.0]])
X = torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])


def encode(x: Tensor) -> Tensor:
    return (x @ ENCODER).relu()


def test_worked_by_hand() -> None:
    assert activated_features(encode, X, FEATURES).tolist() == [1, 2, 0]
    assert activated_features(encode, X, FEATURES, threshold=0.01).tolist() == [1, 3, 0]
    assert activated_features(encode, X, FEATURES, threshold=0).tolist() == [1, 3, 0]
    assert average_activated_features(encode, X, FEATURES) == 1.5


def test_neither_the_sample_nor_a_features_frequency_counts() -> None:
    rare = torch.cat([X, torch.tensor([[1.0, 0.0, 0.0]]).expand(500, 3)])
    assert activated_features(encode, rare, FEATURES).tolist() == [1, 2, 0]
    assert activated_features(encode, X.repeat(100, 1), FEATURES).tolist() == [1, 2, 0]


def test_a_feature_that_never_occurs_activates_nothing() -> None:
    assert activated_features(encode, X * torch.tensor([1.0, 1, 0]), FEATURES).tolist() == [1, 1, 0]
    with pytest.raises(BadInputError, match="no value above 0"):
        activated_features(encode, torch.zeros(2, 3), FEATURES)
    with pytest.raises(BadInputError, match="threshold is 1"):
        activated_features(encode, X, FEATURES, threshold=1)


def test_dead_latents_have_no_average() -> None:
    assert average_activated_features(lambda x: torch.zeros(len(x), 4), X, FEATURES) is None


def test_a_latent_that_is_always_on_counts_everything() -> None:
    assert average_activated_features(lambda x: torch.ones(len(x), 4), X, FEATURES) == 3


@pytest.mark.parametrize("rectify", [False, True])
def test_chance_is_what_the_docstring_says(rectify: bool) -> None:
    vectors, encoder = draw(200, 20, 0), draw(20, 100, 1)
    x = torch.ones(2, 200, dtype=torch.float64)
    average = average_activated_features(
        lambda x: (x @ encoder).relu() if rectify else x @ encoder, x, vectors
    )
    assert average == pytest.approx(0.4 * 200, rel=0.1)


@given(n_features=st.integers(1, 6), seed=seeds)
def test_order_and_scale_of_the_latents_do_not_matter(n_features: int, seed: int) -> None:
    x, vectors = sparse(8, n_features, seed) + 0.01, draw(n_features, 4, seed + 1)
    encoder, scale = draw(4, 5, seed + 2), draw(1, 5, seed + 3).abs() + 0.01
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    counts = activated_features(lambda x: (x @ encoder).relu(), x, vectors)
    moved = activated_features(lambda x: (x @ (encoder * scale)[:, order]).relu(), x, vectors)
    assert moved.equal(counts[order])
    assert ((counts >= 0) & (counts <= n_features)).all()
