"""The same numbers as PyTorch's Adam, whatever the memory layout, and the same checkpoints."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.optim import Adam

from wsae_plugin.training.fused_adam import FusedAdam


def parameters() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    plain, transposed = (torch.randn(6, 4, generator=generator) for _ in range(2))
    bias = torch.randn(5, generator=generator)
    return [torch.nn.Parameter(t) for t in (plain, transposed.T, bias)]


def steps(optimizer: Adam, first: int, n: int) -> None:
    for step in range(first, first + n):
        generator = torch.Generator().manual_seed(step)
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
        optimizer.zero_grad()


def assert_close(a: list[torch.nn.Parameter], b: list[torch.nn.Parameter]) -> None:
    for p, q in zip(a, b, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_the_same_numbers() -> None:
    expected, ours = parameters(), parameters()
    steps(Adam(expected, lr=0.1, betas=(0.5, 0.9)), 0, 20)
    steps(FusedAdam(ours, lr=0.1, betas=(0.5, 0.9)), 0, 20)
    assert_close(ours, expected)
    assert [p.stride() for p in ours] == [p.stride() for p in parameters()]


def test_the_fused_kernel_gets_what_it_need_not_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    fused = torch._fused_adam_
    contiguous: list[bool] = []

    def watching(*lists: list[torch.Tensor], **kwargs: Any) -> None:
        contiguous.extend(tensor.is_contiguous() for tensors in lists for tensor in tensors)
        fused(*lists, **kwargs)

    monkeypatch.setattr(torch, "_fused_adam_", watching)
    steps(FusedAdam(parameters(), lr=0.1), 0, 2)
    assert contiguous and all(contiguous)


def transposed_moments(optimizer: Adam) -> dict[str, Any]:
    """A checkpoint of the same numbers in other layouts."""
    written = optimizer.state_dict()
    for state in written["state"].values():
        for name in ("exp_avg", "exp_avg_sq"):
            if state[name].ndim == 2:
                state[name] = state[name].T.contiguous().T
    return written


@pytest.mark.parametrize("first_class", [Adam, FusedAdam])
@pytest.mark.parametrize("second_class", [Adam, FusedAdam])
@pytest.mark.parametrize("write", [lambda o: o.state_dict(), transposed_moments])
def test_each_goes_on_from_the_others_checkpoint(
    first_class: type[Adam], second_class: type[Adam], write: Any
) -> None:
    expected, ours = parameters(), parameters()
    steps(Adam(expected, lr=0.1), 0, 10)
    first = first_class(ours, lr=0.1)
    steps(first, 0, 6)
    second = second_class(ours, lr=0.5)
    second.load_state_dict(write(first))
    assert second.param_groups[0]["fused"] == (True if second_class is FusedAdam else None)
    steps(second, 6, 4)
    assert_close(ours, expected)
