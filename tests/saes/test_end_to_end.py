"""Training on what the reconstructions cost elsewhere, for every architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.architectures import ARCHITECTURES, Architecture, forward, step_input
from tests.saes.test_contract import GBA
from tests.saes.test_metric import FOLDED, information, own
from wsae_plugin.errors import BadInputError
from wsae_plugin.saes.end_to_end import end_to_end

every_one = pytest.mark.parametrize("arch", [*ARCHITECTURES, GBA], ids=lambda a: a.name)
SCALE = 3.0
__all__ = ["own"]  # a fixture


def cost(x_hat: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the batch of a form that no squared error is, in nats, and its gradient."""
    value = (x_hat @ information() * x_hat).sum(dim=-1).mean() / 100
    return value, 2 * x_hat @ information() / 100 / len(x_hat)


def gradients(sae: Any, loss: Tensor) -> dict[str, Tensor]:
    named = {name: each for name, each in sae.named_parameters() if each.requires_grad}
    found = torch.autograd.grad(loss, [*named.values()], retain_graph=True, allow_unused=True)
    return {name: g for name, g in zip(named, found, strict=True) if g is not None}


@every_one
@pytest.mark.parametrize("kind", ["plain", "weighted", "metric"])
def test_a_step_is_half_of_each(arch: Architecture, kind: str, own: dict[str, Any]) -> None:
    if kind == "metric" and arch not in FOLDED:
        pytest.skip("cannot be untied from its space")
    fields = {"plain": {"alpha": 0.0}, "weighted": {"alpha": 1.0}, "metric": own}[kind]
    sae = arch.weighted(dtype="float64", **fields)
    given = step_input(sae)
    sae.train()
    if kind == "metric":
        sae.training_forward_pass(given)  # starts b_dec
    squared_error = sae.mse_loss_fn
    usual = forward(sae, step=1, sae_in=given.sae_in)
    reconstruction = usual.losses["mse_loss" if kind != "weighted" else "weighted_mse_loss"]

    with end_to_end(sae, lambda x: x / SCALE, cost) as found:
        output = forward(sae, step=1, sae_in=given.sae_in)
    assert sae.mse_loss_fn == squared_error

    inside = output.sae_out
    x_hat = sae.out_of_metric_space(inside) / SCALE
    value = cost(x_hat.detach())[0]
    torch.testing.assert_close(found[0], value)
    # Both have the same size, so the sum of all terms is what it was.
    torch.testing.assert_close(output.loss, usual.loss)
    if arch.name.startswith("matryoshka"):
        assert len(found) == 1 + len([name for name in usual.losses if "inner" in name])
        return
    size = float(reconstruction.detach() / value)
    rest = usual.loss - reconstruction
    graph_cost = (x_hat @ information() * x_hat).sum(dim=-1).mean() / 100
    expected = gradients(sae, rest + reconstruction / 2)
    followed = gradients(sae, size * graph_cost / 2)
    for name, gradient in gradients(sae, output.loss).items():
        sum_of_both = expected.get(name, 0) + followed.get(name, torch.zeros_like(gradient))
        torch.testing.assert_close(gradient, sum_of_both, rtol=1e-5, atol=1e-7)
    assert any(gradient.any() for gradient in followed.values())


def test_a_reconstruction_without_an_error_has_a_gradient() -> None:
    (arch,) = (each for each in ARCHITECTURES if each.name == "topk")
    sae = arch.weighted(alpha=0.0)
    with end_to_end(sae, lambda x: x, lambda x_hat: (torch.tensor(0.0), torch.zeros_like(x_hat))):
        found = gradients(sae, forward(sae).loss)
    assert found and all(gradient.isfinite().all() for gradient in found.values())


def test_the_loss_comes_back_after_an_error() -> None:
    (arch,) = (each for each in ARCHITECTURES if each.name == "topk")
    sae = arch.weighted(alpha=0.0)
    before = sae.mse_loss_fn

    def fails(x_hat: Tensor) -> tuple[Tensor, Tensor]:
        raise RuntimeError(f"no model for {x_hat.shape}")

    with pytest.raises(RuntimeError, match="no model"), end_to_end(sae, lambda x: x, fails):
        forward(sae)
    assert sae.mse_loss_fn == before


@every_one
def test_who_has_no_text_cannot_train_so(arch: Architecture, tmp_path: Path) -> None:
    sae = arch.weighted(alpha=0.0, finetune_kl=0.1)
    with pytest.raises(BadInputError, match=r"finetune_kl = 0\.1: takes text"):
        sae.get_coefficients()
    sae.has_text = True
    sae.get_coefficients()
    sae.save_inference_model(tmp_path)  # published as ever


@pytest.mark.parametrize(("field", "value"), [("finetune_kl", 1.5), ("finetune_kl_lr", 0.0)])
def test_wrong_shares(field: str, value: float) -> None:
    with pytest.raises(BadInputError, match=f"{field} = {value}"):
        ARCHITECTURES[0].weighted(**{field: value})
