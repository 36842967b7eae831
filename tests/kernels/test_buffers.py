"""Memory is used again, but never while somebody can still see it."""

from __future__ import annotations

import pytest
import torch

from wsae_plugin.kernels import buffers

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def nothing_kept_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "_LEAST_BYTES", 16)
    monkeypatch.setattr(buffers, "_free", {})


def take(shape: tuple[int, ...] = (6, 8), dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return buffers.take(shape, dtype, CPU)


def test_shape_dtype_and_alignment() -> None:
    for shape, dtype in (((6, 8), torch.float32), ((5, 32), torch.bfloat16)):
        tensor = take(shape, dtype)
        assert (tensor.shape, tensor.dtype, tensor.device) == (shape, dtype, CPU)
        assert tensor.is_contiguous() and tensor.data_ptr() % 64 == 0
        assert torch.equal(tensor.fill_(2), torch.full(shape, 2, dtype=dtype))


def test_memory_is_used_again_when_the_tensor_is_gone() -> None:
    first = take()
    place = first.data_ptr()
    assert take().data_ptr() != place
    del first
    again = take((8, 3), torch.float64)  # as many bytes
    assert again.data_ptr() == place


def test_whoever_sees_the_memory_keeps_it() -> None:
    first = take()
    place = first.data_ptr()
    views = [first.T[2:3], first.detach(), first.untyped_storage()]
    del first
    while views:
        assert take().data_ptr() != place
        views.pop()
    both = [take(), take()]
    assert place in [tensor.data_ptr() for tensor in both]


def test_gradients_that_somebody_keeps_are_not_overwritten() -> None:
    class Gradient(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, parameter: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
            return parameter.sum()

        @staticmethod
        def backward(ctx: object, grad: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
            return take().fill_(float(grad))

    parameter = torch.zeros(6, 8, requires_grad=True)
    Gradient.apply(parameter).backward()
    kept = parameter.grad
    assert kept is not None
    parameter.grad = None
    (2 * Gradient.apply(parameter)).backward()
    assert (kept == 1).all() and (parameter.grad == 2).all()
    (3 * Gradient.apply(parameter)).backward()  # adds to the gradient that is there
    assert (parameter.grad == 5).all()


def test_small_tensors_are_left_to_the_allocator() -> None:
    take((1, 3))
    assert buffers._free == {}


def test_tensors_of_ever_new_sizes_share_their_memory() -> None:
    # As many rows are scored again as a batch happens to need.
    for n_rows in range(100, 300):
        take((n_rows, 8))
    kept = [memory for free in buffers._free.values() for memory in free]
    assert len(kept) <= 3
    assert sum(memory.nbytes for memory in kept) <= 4 * 300 * 8 * 4


def test_memory_of_a_power_of_two_is_no_larger() -> None:
    for n_bytes in (1024, 1025):
        take((n_bytes,), torch.uint8)
    assert {capacity: len(free) for capacity, free in buffers._free.items()} == {1024: 1, 2048: 1}
