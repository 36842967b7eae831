"""Worlds with a known truth, and the learned W_p."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.synthetic import train_toy_sae
from torch import Tensor

from wsae_plugin.errors import BadInputError
from wsae_plugin.toy.superposition import learn_superposition, superposition_loss
from wsae_plugin.toy.worlds import (
    Block,
    World,
    block_directions,
    exactly_sparse,
    make_world,
    mixed_axes,
    parents_and_children,
    random_directions,
)

WORLDS: dict[str, Callable[[], World]] = {
    "superposed": lambda: make_world(torch.randn(9, 4), 0.2),
    "axes": lambda: make_world(block_directions([Block(1, 1), Block(2, 1), Block(5, 2)]), 0.1),
    "dictionary": lambda: exactly_sparse(random_directions(12, 5), [3]),
    "hierarchy": lambda: parents_and_children(3, 2, 6),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", WORLDS)
def test_activations_are_features_times_feature_vectors(name: str) -> None:
    world = WORLDS[name]()
    features, activations = world.sample(50, seeded())
    torch.testing.assert_close(activations, features @ world.feature_vectors)
    assert features.shape == (50, len(world.feature_vectors))
    assert ((features >= 0) & (features <= 1)).all()


@pytest.mark.parametrize("name", WORLDS)
def test_a_generator_decides_the_samples_and_nothing_else_does(name: str) -> None:
    world = WORLDS[name]()
    before = torch.random.get_rng_state()
    first = world.sample(20, seeded(3))[0]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(world.sample(20, seeded(3))[0], first)
    assert not torch.equal(world.sample(20, seeded(4))[0], first)


def test_a_world_feeds_saelenss_own_training() -> None:
    world = WORLDS["axes"]()
    sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=4, d_sae=8, k=2))
    before = sae.W_dec.detach().clone()
    train_toy_sae(
        sae,
        world.feature_dict,
        world.activation_generator,
        training_samples=160,
        batch_size=16,
        lr=1e-2,
    )
    assert not torch.equal(sae.W_dec, before)


def test_features_are_zero_with_probability_s_and_else_uniform() -> None:
    features, _ = make_world(torch.ones(4, 2), 0.3).sample(20_000, seeded())
    active = features > 0
    # 80,000 draws: three standard errors of a share of 0.3 are 0.005
    assert float(active.float().mean()) == pytest.approx(0.3, abs=0.006)
    values = features[active]
    assert float(values.mean()) == pytest.approx(1 / 2, abs=0.01)
    assert float(values.square().mean()) == pytest.approx(1 / 3, abs=0.01)


def test_blocks_worked_by_hand() -> None:
    vectors = block_directions([Block(1, 1), Block(2, 1)])
    assert vectors.tolist() == [[1, 0], [0, 1], [0, -1]]
    polygon = block_directions([Block(4, 2)])
    expected = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    torch.testing.assert_close(polygon, expected, atol=1e-6, rtol=0)


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(2, 4)), min_size=1, max_size=4))
@settings(max_examples=25)
def test_blocks_have_their_dimensions_to_themselves(shapes: list[tuple[int, int]]) -> None:
    world = make_world(block_directions([Block(*shape) for shape in shapes]), 0.2)
    vectors = world.feature_vectors
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))
    owner = torch.tensor([i for i, (n, _) in enumerate(shapes) for _ in range(n)])
    column = torch.tensor([i for i, (_, d) in enumerate(shapes) for _ in range(d)])
    outside = owner.unsqueeze(1) != column.unsqueeze(0)
    assert (vectors[outside] == 0).all()


def test_mixed_axes_are_half_single() -> None:
    assert mixed_axes(6, Block(5, 2)) == [Block(1, 1)] * 4 + [Block(5, 2)]
    assert mixed_axes(4, Block(2, 1)) == [Block(1, 1)] * 2 + [Block(2, 1)] * 2
    with pytest.raises(BadInputError, match="d_in is 2"):
        mixed_axes(2, Block(5, 2))


def test_a_dictionary_is_exactly_sparse() -> None:
    features, _ = exactly_sparse(random_directions(12, 5), [2, 7]).sample(400, seeded())
    active = (features > 0).sum(dim=1)
    assert set(active.tolist()) == {2, 7}
    # half of the samples each: 400 coins, four standard errors are 0.1
    assert float((active == 2).float().mean()) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("exclusive", [False, True])
def test_children_fire_only_with_their_parent(exclusive: bool) -> None:
    world = parents_and_children(
        3, 2, 9, parent_probability=0.4, child_probability=0.8, mutually_exclusive=exclusive
    )
    features, _ = world.sample(2000, seeded())
    parents, children = features[:, :3] > 0, (features[:, 3:] > 0).view(-1, 3, 2)
    assert not (children & ~parents.unsqueeze(-1)).any()
    assert float(parents.float().mean()) == pytest.approx(0.4, abs=0.04)
    assert (children.sum(dim=-1).max() == 1) == exclusive
    assert not world.is_independent


def test_what_is_impossible_is_refused() -> None:
    with pytest.raises(BadInputError, match="one dimension has two directions"):
        Block(3, 1)
    with pytest.raises(BadInputError, match="n_active is"):
        exactly_sparse(random_directions(4, 2), [5])
    with pytest.raises(BadInputError, match="firing_probabilities"):
        make_world(block_directions([Block(1, 1)]), 0.0)
    with pytest.raises(BadInputError, match="superposition needs"):
        learn_superposition([0.9], [0], n_features=4, d_in=4)
    with pytest.raises(BadInputError, match="sparsity is"):
        learn_superposition([1.0], [0], n_features=4, d_in=2)


def test_the_superposition_loss_worked_by_hand() -> None:
    # Example 1 of the paper: W_p = [[1, 0, 0], [0, 1, −1]] reconstructs single features exactly,
    # and loses (x_2, x_3) = (1, 1) altogether.
    vectors = torch.tensor([[[1.0, 0], [0, 1], [0, -1]]])
    singles = torch.eye(3).unsqueeze(0)
    assert float(superposition_loss(vectors, singles)) == 0
    both = torch.tensor([[[0.0, 1, 1]]])
    assert float(superposition_loss(vectors, both)) == 2


def test_a_learned_superposition_beats_the_best_linear_code_and_has_no_privileged_axes() -> None:
    vectors = learn_superposition([0.95] * 2, [0, 1], 24, 6, n_steps=600, lr=1e-2)
    features, _ = make_world(vectors[0], 0.05).sample(8192, seeded())
    relative = float(superposition_loss(vectors[:1], features.unsqueeze(0))) / float(
        features.square().sum(dim=1).mean()
    )
    # six dimensions for six features, and nothing for the other 18, is 18/24
    assert relative < 0.7
    variance: Tensor = vectors.square().sum(dim=1)
    assert (variance.std(dim=1) / variance.mean(dim=1) < 0.25).all()


def test_a_model_does_not_depend_on_its_neighbours() -> None:
    both = learn_superposition([0.9, 0.5], [0, 7], 8, 3, n_steps=5)
    alone = learn_superposition([0.5], [7], 8, 3, n_steps=5)
    torch.testing.assert_close(both[1:], alone)


@pytest.mark.parametrize("n_clusters", [1, 4])
def test_coherence_is_the_cosine_within_a_cluster(n_clusters: int) -> None:
    vectors = random_directions(200, 2000, coherence=0.3, n_clusters=n_clusters)
    cosines = vectors @ vectors.T
    together = (torch.arange(200)[:, None] - torch.arange(200)) % n_clusters == 0
    assert abs(cosines[together & ~torch.eye(200, dtype=torch.bool)].mean() - 0.3) < 0.03
    assert abs(cosines.diagonal().mean() - 1) < 0.03
    assert n_clusters == 1 or abs(cosines[~together].mean()) < 0.02
