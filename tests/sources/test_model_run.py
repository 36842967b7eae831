"""What replacing activations costs a model, and where it would cost less."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformer_lens import HookedTransformer, HookedTransformerConfig

from wsae_plugin.sources.model_run import ModelRun, Place

TOKENS = torch.tensor([[0, 3, 1, 5, 2, 4], [0, 6, 6, 2, 1, 1]])
KEEP = torch.tensor([[False, True, True, True, True, True], [False, True, True, True, False, True]])


@pytest.fixture(scope="module")
def model() -> HookedTransformer:
    config = HookedTransformerConfig(
        n_layers=2, d_model=8, n_ctx=6, d_head=4, n_heads=2, d_vocab=7, act_fn="gelu", seed=0
    )
    return HookedTransformer(config).double()


def replaced(run: ModelRun, place: Place) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x = run.samples(place)
    return x + 0.3 * torch.randn(x.shape, generator=generator, dtype=x.dtype)


@pytest.mark.parametrize(
    "place", [("blocks.0.hook_resid_post", None), ("blocks.1.attn.hook_z", 1)], ids=str
)
def test_divergence_is_what_is_measured_and_its_gradient(
    model: HookedTransformer, place: Place
) -> None:
    run = ModelRun(model, TOKENS, KEEP, [place])
    x_hat = replaced(run, place)
    assert len(x_hat) == int(KEEP.sum())
    value, gradient = run.divergence(place, x_hat)
    whole = run.activations[place].clone()
    whole[KEEP] = x_hat
    torch.testing.assert_close(
        value, run.losses(place, whole)["kl_divergence"] / KEEP.sum(), check_dtype=False
    )
    # What is summed is in float32, so a difference quotient has four digits.
    direction = torch.randn(x_hat.shape, generator=torch.Generator().manual_seed(2)).double()
    step = 1e-3
    ends = [run.divergence(place, x_hat + sign * step * direction)[0] for sign in (1, -1)]
    slope = (ends[0] - ends[1]) / (2 * step)
    torch.testing.assert_close(
        (gradient * direction).sum(), slope, rtol=1e-2, atol=1e-5, check_dtype=False
    )
    assert all(parameter.grad is None for parameter in model.parameters())
    assert run.divergence(place, run.samples(place))[0] < 1e-6


def test_no_gradient_is_asked_of_who_calls(model: HookedTransformer) -> None:
    place = ("blocks.0.hook_resid_post", None)
    with torch.no_grad():
        run = ModelRun(model, TOKENS, KEEP, [place])
        value, gradient = run.divergence(place, replaced(run, place))
    assert not value.requires_grad and gradient.any()


def test_divergences_by_hand(model: HookedTransformer) -> None:
    """KL(the model ‖ as changed), x̂ where tokens count and zeros everywhere."""
    hook = "blocks.0.hook_resid_post"
    run = ModelRun(model, TOKENS, KEEP, [(hook, None)])
    whole = run.activations[hook, None].clone()
    whole[KEEP] = replaced(run, (hook, None))
    found = run.losses((hook, None), whole + 5 * ~KEEP[..., None])  # of those that do not count
    usual = model(TOKENS).softmax(dim=-1)
    for name, given in (("", whole), ("_with_ablation", torch.zeros_like(whole))):
        changed = model.run_with_hooks(TOKENS, fwd_hooks=[(hook, lambda *_, y=given, **__: y)])
        kl = (usual * (usual / changed.softmax(dim=-1)).log()).sum(dim=-1)[KEEP].sum()
        torch.testing.assert_close(found[f"kl_divergence{name}"], kl, rtol=1e-4, atol=1e-5)


def test_autocast_of_the_sae_does_not_round_the_model(model: HookedTransformer) -> None:
    place = ("blocks.0.hook_resid_post", None)
    single = ModelRun(model.float(), TOKENS, KEEP, [place])
    x_hat = replaced(single, place)
    expected = single.divergence(place, x_hat)
    with torch.autocast("cpu", torch.bfloat16):
        found = single.divergence(place, x_hat)
    model.double()
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
