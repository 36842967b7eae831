"""The measures, on SAEs whose scores are known beforehand."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from sae_lens.synthetic import mean_correlation_coefficient
from torch import Tensor

from wsae_plugin.toy.batched.activation import NO_ACTIVATION, RELU, Activation, top_k
from wsae_plugin.toy.batched.data import WorldStack
from wsae_plugin.toy.batched.measures import measure
from wsae_plugin.toy.batched.stack import SAEStack
from wsae_plugin.toy.metrics import activated_features
from wsae_plugin.toy.worlds import Block, World, block_directions, make_world

ONE = torch.zeros(1, dtype=torch.int64)


def tied_stack(W: Tensor, activation: Activation) -> SAEStack:
    """One bias-free SAE with these rows."""
    W = W.unsqueeze(0)
    n, d_sae, d_in = W.shape
    return SAEStack(
        W, W.new_zeros(n, d_sae), W, W.new_zeros(n, d_in), W.new_ones(n, d_sae), activation
    )


def score(world: World, stack: SAEStack, *, unit_decoder: bool = False) -> dict[str, float]:
    worlds = WorldStack([world], [0])
    found = measure(stack, worlds, ONE, 3000, unit_decoder=unit_decoder)
    return {name: float(value) for name, value in found.items()}


AXES = make_world(block_directions([Block(1, 1)] * 4), 0.3)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1]])
def test_the_truth_in_any_order_scores_perfectly(order: list[int]) -> None:
    found = score(AXES, tied_stack(torch.eye(4)[order], RELU))
    for name in ("l_gt", "l_gt_nonzero", "l_gt_scaled", "reconstruction_error", "dead"):
        assert found[name] == pytest.approx(0, abs=1e-6)
    assert found["recovered"] == pytest.approx(1)
    assert found["activated_features"] == found["activated_features_live"] == 1
    assert found["l0"] == pytest.approx(4 * 0.3, abs=0.05)
    # Var of a feature: p/3 − p²/4
    assert found["latent_variance"] == pytest.approx(0.3 / 3 - 0.09 / 4, abs=0.004)


def test_an_sae_that_says_nothing_scores_one() -> None:
    found = score(AXES, tied_stack(torch.zeros(4, 4), RELU))
    for name in ("l_gt", "l_gt_nonzero", "l_gt_scaled", "dead"):
        assert found[name] == pytest.approx(1)
    assert found["activated_features"] == 0
    # E x² = p/3 over the variance of a feature
    assert found["reconstruction_error"] == pytest.approx(0.1 / (0.1 - 0.09 / 4), rel=0.03)


def test_a_wrong_scale_costs_l_gt_and_not_its_scaled_form() -> None:
    # Tied rows of length 2: z = 2x, so E‖x − z‖² = E‖x‖².
    found = score(AXES, tied_stack(2 * torch.eye(4), RELU))
    assert found["l_gt"] == pytest.approx(1, abs=1e-5)
    assert found["l_gt_scaled"] == pytest.approx(0, abs=1e-5)


def test_units_of_the_decoder() -> None:
    eye = torch.eye(4).unsqueeze(0)
    split = SAEStack(
        W_enc=eye / 3,
        b_enc=torch.zeros(1, 4),
        W_dec=eye * 3,
        b_dec=torch.zeros(1, 4),
        score_scale=torch.ones(1, 4),
        activation=RELU,
    )
    assert score(AXES, split, unit_decoder=True)["l_gt"] == pytest.approx(0, abs=1e-5)
    # z = x/3: (2/3)² of the energy is missing
    assert score(AXES, split)["l_gt"] == pytest.approx(4 / 9, abs=1e-5)


def test_l_gt_is_the_paper_s_formula_for_a_given_alignment() -> None:
    torch.manual_seed(0)
    world = make_world(torch.randn(5, 3), 0.4)
    stack = tied_stack(torch.randn(5, 3), RELU)
    found = score(world, stack)
    worlds = WorldStack([world], [0])
    x = worlds.stream("held out").sample(3000)
    z = stack.encode(worlds.activations(x))[0]
    x = x[0]
    orders = [torch.tensor(order) for order in permutations(range(5))]
    losses = [float((x - z[:, order]).square().sum() / x.square().sum()) for order in orders]
    assert found["l_gt"] == pytest.approx(min(losses), rel=1e-4)
    best = orders[losses.index(min(losses))]
    on = ((x - z[:, best]) * (x > 0)).square().sum() / x.square().sum()
    assert found["l_gt_nonzero"] == pytest.approx(float(on), rel=1e-4)


def test_features_of_any_directions_are_recovered() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.6, 0.8], [-0.8, 0.6]])
    stack = tied_stack(2 * vectors, RELU)
    assert score(make_world(vectors, 0.5), stack)["recovered"] == pytest.approx(1)


def test_narrower_saes_leave_features_at_zero() -> None:
    found = score(AXES, tied_stack(torch.eye(4)[:2], RELU))
    assert found["l_gt"] == pytest.approx(0.5, abs=0.03)
    assert found["recovered"] == pytest.approx(0.5)


def test_activated_features_worked_by_hand() -> None:
    # x_p = x_1 e_1 + (x_2 − x_3) e_2, as in Example 1 of the paper.
    vectors = torch.tensor([[[1.0, 0], [0, 1], [0, -1]]])
    W = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.0]])
    assert activated_features(tied_stack(W, RELU).encode, vectors).tolist() == [[1, 1, 2, 0]]
    # Without an activation a latent's negative response is none, as M > threshold is printed.
    assert activated_features(tied_stack(W, NO_ACTIVATION).encode, vectors).tolist() == [
        [1, 1, 2, 0]
    ]


@pytest.mark.parametrize("d_sae", [4, 10, 30])
def test_top_k_bounds_the_metric_of_figure_2_whatever_the_weights_are(d_sae: int) -> None:
    torch.manual_seed(d_sae)
    vectors = torch.randn(1, 12, 4)
    stack = tied_stack(torch.randn(d_sae, 4), top_k(2))
    counts = activated_features(stack.encode, vectors)
    assert int(counts.sum()) <= 2 * 12  # so that the mean over d_sae latents is at most 2n / d_sae


def test_recovered_agrees_with_saelens_where_the_match_is_one_to_one() -> None:
    torch.manual_seed(0)
    vectors = torch.linalg.qr(torch.randn(4, 4)).Q
    near = vectors + 0.05 * torch.randn(4, 4)
    found = score(make_world(vectors, 0.5), tied_stack(near, RELU))
    assert found["recovered"] == pytest.approx(
        mean_correlation_coefficient(near, vectors), abs=1e-5
    )
