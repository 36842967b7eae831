"""Gradients by hand against autograd on the dense definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wsae_plugin.kernels.backend import Backend
from wsae_plugin.kernels.cpu import CPUBackend
from wsae_plugin.kernels.pattern import Pattern
from wsae_plugin.kernels.products import decode, encode
from wsae_plugin.kernels.reference import ReferenceBackend

BATCH, D_IN, D_SAE, K = 6, 5, 12, 3

every_backend = pytest.mark.parametrize(
    "backend", [CPUBackend(), ReferenceBackend()], ids=lambda b: b.name
)
every_set = pytest.mark.parametrize("everywhere", [None, torch.tensor([1, 7])])


def leaves(*shapes: tuple[int, ...]) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def pattern() -> Pattern:
    generator = torch.Generator().manual_seed(1)
    latents = torch.stack([torch.randperm(D_SAE, generator=generator)[:K] for _ in range(BATCH)])
    return Pattern.of_latents(latents, D_SAE)


@every_backend
@every_set
def test_encode(backend: Backend, everywhere: Tensor | None) -> None:
    x, W_enc, b_enc = leaves((BATCH, D_IN), (D_IN, D_SAE), (D_SAE,))
    active = pattern()
    dense = x @ W_enc + b_enc
    outputs = encode(x, W_enc, b_enc, active, backend, everywhere)
    torch.testing.assert_close(outputs[0], dense[active.rows, active.columns])
    if everywhere is not None:
        torch.testing.assert_close(outputs[1], dense[:, everywhere])
    assert torch.autograd.gradcheck(
        lambda *args: encode(*args, active, backend, everywhere), (x, W_enc, b_enc)
    )


@every_backend
@every_set
def test_decode(backend: Backend, everywhere: Tensor | None) -> None:
    n = 0 if everywhere is None else len(everywhere)
    values, values_everywhere, W_dec = leaves((BATCH * K,), (BATCH, n), (D_SAE, D_IN))
    active = pattern()
    outputs = decode(values, W_dec, active, backend, everywhere, values_everywhere)
    torch.testing.assert_close(outputs[0], active.coo(values).to_dense() @ W_dec)
    if everywhere is not None:
        torch.testing.assert_close(outputs[1], values_everywhere @ W_dec[everywhere])
    assert torch.autograd.gradcheck(
        lambda v, e, w: decode(v, w, active, backend, everywhere, e),
        (values, values_everywhere, W_dec),
    )


@every_backend
def test_a_latent_major_encoder_has_a_latent_major_gradient(backend: Backend) -> None:
    x, weight, b_enc = leaves((BATCH, D_IN), (D_SAE, D_IN), (D_SAE,))
    W_enc = weight.detach().T.requires_grad_()
    encode(x, W_enc, b_enc, pattern(), backend)[0].sum().backward()
    assert W_enc.grad is not None and W_enc.grad.stride() == W_enc.stride()
