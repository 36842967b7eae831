from __future__ import annotations

import pytest
import torch

from wsae_plugin.saes.gba_counters import FiringCounters


def observe(counters: FiringCounters, hidden_pre: torch.Tensor) -> None:
    counters.observe(hidden_pre, hidden_pre.relu())


def test_by_hand() -> None:
    counters = FiringCounters(3)
    observe(counters, torch.tensor([[1.0, -1.0, 0.0], [2.0, -3.0, 0.5]]))
    observe(counters, torch.tensor([[-1.0, -2.0, 4.0]]))
    assert counters.n_samples.item() == 3
    assert counters.firings.tolist() == [2, 0, 2]
    assert counters.largest.tolist() == [2.0, -1.0, 4.0]
    counters.reset()
    assert counters.n_samples.item() == 0
    assert counters.firings.tolist() == [0, 0, 0]
    assert counters.largest.tolist() == [-torch.inf] * 3


def test_a_stream_is_its_concatenation() -> None:
    torch.manual_seed(0)
    x = torch.randn(60, 7)
    stream, whole = FiringCounters(7), FiringCounters(7)
    for batch in x.split(11):
        observe(stream, batch)
    observe(whole, x)
    assert torch.equal(stream.packed, whole.packed)


def test_tokens_of_several_prompts_are_samples() -> None:
    x = torch.randn(2, 5, 4)
    prompts, flat = FiringCounters(4), FiringCounters(4)
    observe(prompts, x)
    observe(flat, x.flatten(0, 1))
    assert torch.equal(prompts.packed, flat.packed)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_counts_survive_every_cast_of_a_checkpoint(dtype: torch.dtype) -> None:
    counters, again = FiringCounters(3), FiringCounters(3)
    for _ in range(1001):  # a count that bfloat16 does not hold
        observe(counters, torch.tensor([[1.0, 0.1, -0.3]]))
    state = {name: tensor.to(dtype) for name, tensor in counters.state_dict().items()}
    again.load_state_dict(state)
    assert torch.equal(again.packed, counters.packed)
    assert again.to(dtype).firings.tolist() == [1001, 1001, 0]


def test_a_mapped_checkpoint_may_lie_anywhere_in_its_file() -> None:
    counters, again = FiringCounters(3), FiringCounters(3)
    observe(counters, torch.tensor([[1.0, -1.0, 0.5]]))
    file = torch.cat([torch.zeros(3, dtype=torch.uint8), counters.packed])
    again.load_state_dict({"packed": file[3:]}, assign=True)
    assert again.n_samples == 1
    assert again.firings.tolist() == [1, 0, 1]


def test_memory_does_not_grow_with_the_samples() -> None:
    counters = FiringCounters(16)
    before = counters.packed.data_ptr()
    for _ in range(5):
        observe(counters, torch.randn(100, 16))
    assert counters.packed.data_ptr() == before
    assert [tensor.nbytes for tensor in counters.state_dict().values()] == [12 * 16 + 8]


def test_units() -> None:
    counters = FiringCounters(2)
    observe(counters, torch.tensor([[2.0, -6.0]]))
    counters.fold(0.5)
    assert counters.largest.tolist() == [1.0, -3.0]
    assert counters.firings.tolist() == [1, 0]
