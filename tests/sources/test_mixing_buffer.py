"""The mixing buffer is SAELens's, and resumes exactly where it was."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_lens.training.mixing_buffer import mixing_buffer
from torch import Tensor

from wsae_plugin.sources.mixing_buffer import MixingBuffer


def activations(sizes: list[int]) -> Iterator[Tensor]:
    """Endless vectors, all different, in pieces of these sizes over and over."""
    number = 0
    for size in cycle(sizes):
        values = torch.arange(number, number + size, dtype=torch.float64)
        number += size
        yield values[:, None].expand(size, 2)


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    buffer_size=st.integers(8, 64),
    batch_size=st.integers(1, 8),
    mix_fraction=st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]),
    n_before=st.integers(1, 20),
    n_between=st.integers(0, 6),
)
def test_a_buffer_goes_on_from_its_contents(
    sizes: list[int],
    buffer_size: int,
    batch_size: int,
    mix_fraction: float,
    n_before: int,
    n_between: int,
) -> None:
    torch.manual_seed(0)
    expected = list(
        islice(
            mixing_buffer(buffer_size, batch_size, activations(sizes), mix_fraction),
            n_before + n_between + 20,
        )
    )
    torch.manual_seed(0)
    stream = activations(sizes)
    buffer = MixingBuffer(lambda: next(stream), buffer_size, batch_size, mix_fraction)
    assert (buffer.waiting, buffer.kept) == (None, None)
    served = list(islice(buffer, n_before))
    for n_batches in (n_between, 20):
        waiting, kept = buffer.waiting, buffer.kept
        buffer = MixingBuffer(lambda: next(stream), buffer_size, batch_size, mix_fraction)
        buffer.waiting, buffer.kept = waiting, kept
        served += list(islice(buffer, n_batches))
    assert len(served) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(served, expected, strict=True))
