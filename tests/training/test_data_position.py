"""The mixing buffer and the store go on exactly where they were."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_lens.training.mixing_buffer import mixing_buffer
from torch import Tensor

from tests.training.tiny import TinyWorld, write_config, write_texts
from wsae_plugin.training.config import load_run_config
from wsae_plugin.training.data_position import MixingBuffer, ResumableActivationsStore
from wsae_plugin.training.sources import open_dataset, open_model


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
    read = chain(activations(sizes))  # which the end of one buffer does not close
    buffer = MixingBuffer(buffer_size, batch_size, read, mix_fraction)
    assert buffer.contents() is None
    served = list(islice(buffer, n_before))
    for n_batches in (n_between, 20):
        buffer = MixingBuffer(buffer_size, batch_size, read, mix_fraction, buffer.contents())
        served += list(islice(buffer, n_batches))
    assert len(served) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(served, expected, strict=True))


@pytest.mark.parametrize("n_steps", [3, 30])
def test_a_store_goes_on_over_the_end_of_its_text(
    world: TinyWorld, tmp_path: Path, n_steps: int
) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    write_texts(texts / "train.jsonl", n_rows=12)
    values = world.language_model(dataset_path=str(texts), n_batches_in_buffer=9)
    cfg: Any = load_run_config(write_config(tmp_path / "config.yaml", values)).runner_config()
    model = open_model(cfg, [cfg.hook_name])

    def store() -> Any:
        dataset = open_dataset(cfg.dataset_path, cfg.streaming)
        return ResumableActivationsStore.from_config(model, cfg, override_dataset=dataset)

    torch.manual_seed(0)
    with pytest.warns(UserWarning):
        whole = store()
        served = list(islice(whole, n_steps))
        whole.save_to_checkpoint(tmp_path)
        state = torch.get_rng_state()
        expected = list(islice(whole, 10))
        again = store()
        again.load_from_checkpoint(tmp_path)
        torch.set_rng_state(state)
        found = list(islice(again, 10))
    assert len(served) == n_steps and again.n_dataset_processed == whole.n_dataset_processed
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
