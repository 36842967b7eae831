"""The one-call step against the formulas, written out densely."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wsae_plugin.kernels import Kernel, topk_step
from wsae_plugin.kernels.cpu import CPUBackend
from wsae_plugin.kernels.reference import ReferenceBackend

BATCH, D_IN, D_SAE, K = 20, 6, 40, 4


def parameters(dtype: torch.dtype) -> list[Tensor]:
    torch.manual_seed(0)
    shapes = [(D_IN, D_SAE), (D_SAE,), (D_SAE, D_IN), (D_IN,)]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("backend", [CPUBackend(), ReferenceBackend()], ids=lambda b: b.name)
@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("shift", [True, False])
def test_values_losses_and_gradients(
    backend: CPUBackend | ReferenceBackend, rescale: bool, shift: bool
) -> None:
    x = torch.randn(BATCH, D_IN, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gamma = torch.linspace(0.5, 2, D_IN, dtype=torch.float64)

    W_enc, b_enc, W_dec, b_dec = expected_parameters = parameters(torch.float64)
    norms = W_dec.norm(dim=1) if rescale else torch.ones(D_SAE, dtype=torch.float64)
    scores = ((x - b_dec if shift else x) @ W_enc + b_enc) * norms
    top = scores.topk(K)
    acts = torch.zeros_like(scores).scatter(1, top.indices, top.values.relu())
    reconstruction = (acts / norms) @ W_dec + b_dec
    weighted = ((gamma * (reconstruction - x)) ** 2).sum(dim=1).mean()
    weighted.backward()

    ours = parameters(torch.float64)
    step = topk_step(
        x,
        *ours,
        gamma,
        k=K,
        kernel=Kernel(backend, "exact"),
        rescale_acts_by_decoder_norm=rescale,
        apply_b_dec_to_input=shift,
    )
    step.weighted_loss.backward()
    torch.testing.assert_close(step.reconstruction, reconstruction, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(step.weighted_loss, weighted, rtol=1e-10, atol=0)
    unweighted = ((reconstruction - x) ** 2).sum(dim=1).mean()
    torch.testing.assert_close(step.unweighted_loss, unweighted, rtol=1e-10, atol=0)
    code = torch.zeros_like(scores).scatter(1, step.latents, step.values)
    torch.testing.assert_close(code, acts, rtol=1e-10, atol=1e-10)
    for parameter, expected in zip(ours, expected_parameters, strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad, rtol=1e-10, atol=1e-10)


def test_without_gamma_the_losses_are_one() -> None:
    step = topk_step(
        torch.randn(BATCH, D_IN),
        *parameters(torch.float32),
        k=K,
        kernel=Kernel(CPUBackend(), "screened"),
    )
    assert step.weighted_loss == step.unweighted_loss
