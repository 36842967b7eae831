"""Memory is handed on once, and only such as is worth it."""

from __future__ import annotations

import pytest
import torch

from wsae_plugin.kernels import buffers

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def nothing_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "_free", {})


def test_each_piece_of_memory_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "_LEAST_BYTES", 1)
    tensor = torch.ones(4, 3)
    buffers.hand_on(tensor)
    assert buffers.take((3, 4), torch.float32, CPU).data_ptr() != tensor.data_ptr()
    assert buffers.take((4, 3), torch.float64, CPU).data_ptr() != tensor.data_ptr()
    assert buffers.take((4, 3), torch.float32, CPU).data_ptr() == tensor.data_ptr()
    assert buffers.take((4, 3), torch.float32, CPU).data_ptr() != tensor.data_ptr()


def test_small_or_strided_tensors_are_not_kept() -> None:
    small = torch.ones(4, 3)
    strided = torch.ones(2**13, 2**11)[:, ::2]
    buffers.hand_on(small)
    buffers.hand_on(strided)
    assert buffers._free == {}
