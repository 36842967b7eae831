"""Gate 0: what is said of errors beside what they cost, on a tiny model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformer_lens import HookedTransformer, HookedTransformerConfig

from wsae_plugin.measures import gate as module
from wsae_plugin.measures.gate import gate
from wsae_plugin.measures.held_out import HeldOutText

HOOK = "blocks.0.hook_resid_post"


class Noise:
    """What adds errors of one size."""

    device = torch.device("cpu")

    def __init__(self, size: float) -> None:
        self.size = size

    def __call__(self, x: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return x + self.size * torch.randn(x.shape, generator=generator, dtype=x.dtype)


@pytest.fixture(scope="module")
def text() -> HeldOutText:
    config = HookedTransformerConfig(
        n_layers=2, d_model=8, n_ctx=10, d_head=4, d_vocab=7, act_fn="gelu", seed=0
    )
    model = HookedTransformer(config).double()
    for parameter in model.parameters():
        # So that its predictions are no longer nearly even.
        parameter.data *= 3
    tokens = torch.randint(1, 7, (2, 6, 10), generator=torch.Generator().manual_seed(1))
    tokens[:, :, 0] = 0
    return HeldOutText(model, None, list(tokens), [0], seed=0)


def test_small_errors_cost_what_the_fisher_information_says(
    text: HeldOutText, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LABELS", 400)
    sae: Any = Noise(1e-3)
    found = gate(text, sae, (HOOK, None), {"half": torch.eye(8) / 2}, n_contexts=8)
    assert found["(gδᵀ)²"] > 0.95
    assert found["half"] == pytest.approx(found["‖δ‖²"])
    assert found["‖δ‖²"] < found["tr F(x) ‖δ‖²"] < found["(gδᵀ)²"]


def test_what_an_error_costs_by_hand(text: HeldOutText) -> None:
    model, context = text.model, text.batches[0][0]
    _, cache = model.run_with_cache(context[None], names_filter=HOOK)
    x = cache[HOOK][0]
    # Not the same in all dimensions: that a LayerNorm takes out.
    delta = 3 * torch.linspace(-1, 1, 8, dtype=torch.float64).square()
    at, x_hat = torch.tensor([2, 7]), x[[2, 7]] + delta
    costs = module._costs(model, (HOOK, None), context, at, x_hat)
    assert costs.max() > 1e-3
    for n, position in enumerate(at.tolist()):
        changed = x.clone()
        changed[position] = x_hat[n]
        hooks = [(HOOK, lambda _, hook, changed=changed: changed[None])]  # noqa: ARG005
        q = model.run_with_hooks(context[None], fwd_hooks=hooks)[0].log_softmax(-1)
        p = model(context[None])[0].log_softmax(-1)
        torch.testing.assert_close(costs[n], (p.exp() * (p - q)).sum())
        # What comes before feels nothing.
        assert (p - q)[:position].abs().max() < 1e-12


def test_only_what_counts_is_tried(text: HeldOutText, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Tensor] = []
    costs = module._costs

    def spy(model: Any, place: Any, context: Tensor, at: Tensor, x_hat: Tensor) -> Tensor:
        tried.append(at)
        return costs(model, place, context, at, x_hat)

    monkeypatch.setattr(module, "_costs", spy)
    sae: Any = Noise(0.1)
    gate(text, sae, (HOOK, None), {}, n_contexts=5)
    assert len(tried) == 5
    assert all(len(at) == 8 and 0 not in at and len(set(at.tolist())) == 8 for at in tried)


def test_an_error_of_one_head(text: HeldOutText) -> None:
    model, context = text.model, text.batches[0][0]
    hook, at = "blocks.1.attn.hook_z", torch.tensor([4])
    _, cache = model.run_with_cache(context[None], names_filter=hook)
    z = cache[hook][0, at]
    changed = z.clone()
    changed[:, 1] += 10 * torch.linspace(-1, 1, 4, dtype=torch.float64)
    of_head = module._costs(model, (hook, 1), context, at, changed[:, 1])
    of_all = module._costs(model, (hook, None), context, at, changed.flatten(1))
    torch.testing.assert_close(of_head, of_all)
    assert of_head.min() > 1e-5


def test_a_metric_guesses_its_quadratic_form(
    text: HeldOutText, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Costs that are the form itself.
    form = torch.diag(torch.logspace(-2, 2, 8, dtype=torch.float64))
    sae: Any = Noise(0.1)

    def costs(model: Any, place: Any, context: Tensor, at: Tensor, x_hat: Tensor) -> Tensor:
        _, cache = model.run_with_cache(context[None], names_filter=place[0])
        delta = x_hat - cache[place[0]][0, at]
        return torch.einsum("ni,ij,nj->n", delta, form, delta)

    monkeypatch.setattr(module, "_costs", costs)
    found = gate(text, sae, (HOOK, None), {"form": form, "square": form @ form}, n_contexts=8)
    assert found["form"] == pytest.approx(1)
    assert found["square"] < 0.999 and found["‖δ‖²"] < 0.999
