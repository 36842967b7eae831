"""The stack's parts: activations, streams, the input map, initialisation, clipping."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig

from wsae_plugin.errors import BadInputError
from wsae_plugin.toy.batched.activation import NO_ACTIVATION, RELU, Activation, jump_relu, top_k
from wsae_plugin.toy.batched.data import FeatureStream, WorldStack
from wsae_plugin.toy.batched.model import SAEs, weighted_loss
from wsae_plugin.toy.batched.stack import initial_decoders
from wsae_plugin.toy.batched.trainer import InputMap, Training, clip_each, train_stack
from wsae_plugin.toy.streams import stream
from wsae_plugin.toy.worlds import Block, block_directions, make_world, parents_and_children

ACTIVATIONS = (NO_ACTIVATION, RELU, jump_relu(0.1), top_k(2))


def label(activation: Activation) -> str:
    return activation.label


def test_activations_worked_by_hand() -> None:
    pre = torch.tensor([0.3, -0.5, 0.1, 0.2])
    assert NO_ACTIVATION(pre).equal(pre)
    assert RELU(pre).tolist() == pytest.approx([0.3, 0, 0.1, 0.2])
    assert jump_relu(0.1)(pre).tolist() == pytest.approx([0.3, 0, 0, 0.2])
    assert top_k(2)(pre).tolist() == pytest.approx([0.3, 0, 0, 0.2])
    assert top_k(4)(pre).tolist() == pytest.approx([0.3, 0, 0.1, 0.2])  # through a ReLU
    scores = torch.tensor([0.0, 1, 1, 0])
    assert top_k(2)(pre, scores).tolist() == pytest.approx([0, 0, 0.1, 0])
    assert [label(a) for a in ACTIVATIONS] == ["none", "ReLU", "JumpReLU 0.1", "Top-2"]


def test_a_stream_has_the_distribution_of_the_world_and_depends_on_its_seed_alone() -> None:
    worlds = [make_world(torch.eye(3), 0.3), make_world(torch.eye(3), 0.8)]
    x = WorldStack(worlds, [1, 2]).stream("training").sample(20_000)
    rates = (x > 0).float().mean(dim=(1, 2))
    torch.testing.assert_close(rates, torch.tensor([0.3, 0.8]), atol=0.01, rtol=0)
    means = x.sum(dim=(1, 2)) / (x > 0).sum(dim=(1, 2))
    torch.testing.assert_close(means, torch.tensor([0.5, 0.5]), atol=0.01, rtol=0)
    alone = WorldStack(worlds[1:], [2]).stream("training")
    assert alone.sample(20_000).equal(x[1:])
    assert not WorldStack(worlds[1:], [2]).stream("held out").sample(20_000).equal(x[1:])


def test_worlds_that_do_not_stack_are_refused() -> None:
    one = make_world(block_directions([Block(1, 1), Block(1, 1)]), 0.1)
    with pytest.raises(BadInputError, match="cannot be stacked"):
        WorldStack([one, make_world(torch.eye(3), 0.5)], [0, 1])
    with pytest.raises(BadInputError, match="independent features"):
        WorldStack([parents_and_children(1, 2, 4)], [0])


@pytest.mark.parametrize("norm", [0.1, 1.0])
def test_initialisation_is_saelenss(norm: float) -> None:
    torch.manual_seed(5)
    sae = TopKTrainingSAE(
        TopKTrainingSAEConfig(d_in=6, d_sae=9, k=2, decoder_init_norm=norm, device="cpu")
    )
    torch.testing.assert_close(initial_decoders([4, 5], 9, 6, norm)[1], sae.W_dec.data)
    torch.testing.assert_close(sae.W_enc.data, sae.W_dec.data.T)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=label)
@pytest.mark.parametrize("tied", [True, False])
def test_the_training_forward_pass_is_the_stacks(tied: bool, activation: Activation) -> None:
    """The Top-k step reads active rows only; its value and gradient are the dense ones'."""
    torch.manual_seed(0)
    saes = SAEs(torch.randn(3, 7, 4, dtype=torch.float64), activation, tied)
    with torch.no_grad():
        for parameter in saes.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) / 10)
    assert sum(p.requires_grad for p in saes.parameters()) == (1 if tied else 4)
    x = torch.randn(3, 11, 4, dtype=torch.float64)
    stack = saes.stack()
    dense = stack.decode(stack.encode(x))
    torch.testing.assert_close(saes(x), dense)


def test_the_weighted_loss_worked_by_hand() -> None:
    x = torch.tensor([[[1.0, 2.0], [0.0, 0.0]]])
    x_hat = torch.tensor([[[0.0, 0.0], [1.0, 1.0]]])
    # γ² = (1, 4): first sample 1 + 16, second 1 + 4, mean 11
    assert weighted_loss(x_hat, x, torch.tensor([[1.0, 2.0]])).tolist() == [11.0]


def test_each_gradient_is_clipped_on_its_own() -> None:
    weights = [torch.nn.Parameter(torch.zeros(2, 2)), torch.nn.Parameter(torch.zeros(2, 1, 1))]
    weights[0].grad = torch.tensor([[3.0, 0.0], [0.1, 0.0]])
    weights[1].grad = torch.tensor([[[4.0]], [[0.0]]])
    clip_each(weights)
    torch.testing.assert_close(weights[0].grad, torch.tensor([[0.6, 0.0], [0.1, 0.0]]))
    torch.testing.assert_close(weights[1].grad, torch.tensor([[[0.8]], [[0.0]]]))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=label)
def test_an_sae_does_not_depend_on_its_neighbours(tied: bool, activation: Activation) -> None:
    x = torch.rand(2, 40, 3)
    gamma = torch.tensor([[1.0, 2.0, 0.5], [0.3, 1.0, 1.0]])
    decoders = initial_decoders([0, 1], 5, 3, norm=1.0)

    def trained(which: slice) -> list[torch.Tensor]:
        stack = train_stack(
            decoders[which],
            activation,
            lambda _: x[which],
            gamma[which],
            Training(8, 40, 1e-2, 2),
            tied=tied,
        )
        return [stack.W_enc, stack.b_enc, stack.W_dec, stack.b_dec]

    for both, alone in zip(trained(slice(0, 2)), trained(slice(1, 2)), strict=True):
        torch.testing.assert_close(both[1:], alone, atol=1e-6, rtol=1e-5)


@given(st.integers(0, 1000), st.booleans())
@settings(max_examples=20)
def test_folding_an_input_map_changes_no_reconstruction(seed: int, tied: bool) -> None:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    saes = SAEs(normal(2, 6, 3), top_k(2), tied)
    mapped = InputMap(normal(2, 3), torch.eye(3, dtype=torch.float64) + normal(2, 3, 3) / 9)
    x = normal(2, 10, 3)
    in_its_own_units = saes.stack()
    codes = in_its_own_units.encode(mapped(x))
    folded = mapped.fold(in_its_own_units)
    torch.testing.assert_close(folded.encode(x), codes)
    torch.testing.assert_close(mapped(folded.decode(codes)), in_its_own_units.decode(codes))


def test_gamma_in_the_loss_is_an_sae_on_gamma_x_up_to_the_optimiser() -> None:
    """E' = EΓ⁻¹, D' = ΓD: the same weighted loss, sample by sample."""
    torch.manual_seed(0)
    gamma = torch.tensor([[0.5, 2.0, 1.5]], dtype=torch.float64)
    on_gamma_x = SAEs(torch.randn(1, 6, 3, dtype=torch.float64), RELU, False).stack()
    mapped = InputMap(torch.zeros_like(gamma), torch.diag_embed(gamma))
    folded = mapped.fold(on_gamma_x)
    x = torch.randn(1, 20, 3, dtype=torch.float64)
    residual = on_gamma_x.decode(on_gamma_x.encode(mapped(x))) - mapped(x)
    weighted = weighted_loss(folded.decode(folded.encode(x)), x, gamma)
    torch.testing.assert_close(weighted, residual.square().sum(dim=-1).mean(dim=-1))


def test_a_float64_stream_of_features() -> None:
    half = torch.full((1, 3), 0.5, dtype=torch.float64)
    assert FeatureStream(half, [stream("training", 0)]).sample(4).dtype == torch.float64
