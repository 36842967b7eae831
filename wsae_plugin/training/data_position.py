"""The place of a run in its data, saved with a checkpoint and taken up again exactly.

SAELens saves how many rows were read. What also decides the next batch is which sequences were cut
from them, and the activations that wait in the mixing buffer.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sae_lens import ActivationsStore
from sae_lens.training.mixing_buffer import mixing_buffer
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm
from typing_extensions import override

from wsae_plugin.errors import RunFailedError

DATA_POSITION_FILENAME = "data_position.safetensors"
_FIRST_ROW = torch.tensor(0)


@dataclass(frozen=True)
class BufferedActivations:
    """What a mixing buffer holds between two batches.

    Attributes:
        waiting: shuffled, to be served next, shape (n, d).
        kept: to be mixed with what is read next, shape (m, d).
    """

    waiting: Tensor
    kept: Tensor


class MixingBuffer(Iterator[Tensor]):
    """SAELens's `mixing_buffer`, whose contents can be looked at and put back.

    Args:
        buffer_size: Activation vectors it holds.
        batch_size: Activation vectors it serves at a time.
        activations: What it is filled from, each of shape (n, d).
        mix_fraction: The share that is kept for mixing.
        contents: What a former buffer held, to go on from; None for an empty one.
    """

    def __init__(
        self,
        buffer_size: int,
        batch_size: int,
        activations: Iterator[Tensor],
        mix_fraction: float,
        contents: BufferedActivations | None = None,
    ) -> None:
        self._batch_size = batch_size
        self._before = contents
        self._waiting: list[Tensor] = []
        filled_from = activations
        if contents is not None:
            filled_from = _ahead_of(contents.kept, activations)
            if len(contents.waiting):
                self._waiting = list(contents.waiting.split(batch_size))
        # Without the decorator that turns gradients off, which would hide the generator's contents.
        generate: Any = inspect.unwrap(mixing_buffer)
        self._generator = generate(buffer_size, batch_size, filled_from, mix_fraction)

    @override
    @torch.no_grad()
    def __next__(self) -> Tensor:
        if self._waiting:
            return self._waiting.pop(0)
        batch = next(self._generator)
        self._before = None
        return batch

    def contents(self) -> BufferedActivations | None:
        """What it holds now; None before its first batch."""
        if self._before is not None:
            waiting = self._before.waiting
            n_waiting = sum(len(batch) for batch in self._waiting)
            return BufferedActivations(waiting[len(waiting) - n_waiting :], self._before.kept)
        local = inspect.getgeneratorlocals(self._generator)
        if "serving_buffer" not in local:
            return None
        n_served = (local["batch_idx"] + 1) * self._batch_size
        return BufferedActivations(local["serving_buffer"][n_served:], local["storage_buffer"])


class ResumableActivationsStore(ActivationsStore):
    """SAELens's store, which goes on from a checkpoint with the very next batch.

    A checkpoint holds the buffered activations, so it is larger by
    `n_batches_in_buffer · context_size · d_in` numbers at most, for every hook. Going on reads and
    tokenises the text up to the checkpoint again, without the language model. With
    `prefetch_llm_batches` the store runs ahead of the training and resumes as SAELens's own, near
    the place. So it does from a checkpoint that SAELens's own store wrote.
    """

    prefetched = False
    """Whether another thread draws the batches ahead of their use."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._draws: list[list[int]] = []
        self._buffer: MixingBuffer | None = None
        self._saved: BufferedActivations | None = None
        super().__init__(*args, **kwargs)

    @override
    def get_batch_tokens(
        self,
        batch_size: int | None = None,
        raise_at_epoch_end: bool = False,
        move_to_model_device: bool = True,
    ) -> Tensor:
        kind = [batch_size or 0, int(raise_at_epoch_end)]
        if self._draws and self._draws[-1][:2] == kind:
            self._draws[-1][2] += 1
        else:
            self._draws.append([*kind, 1])
        return super().get_batch_tokens(batch_size, raise_at_epoch_end, move_to_model_device)

    @override
    def get_data_loader(self) -> Iterator[Tensor]:
        yield from self._mixed(self._iterate_filtered_activations())

    @override
    def get_multi_hook_data_loader(self) -> Iterator[dict[str, Tensor]]:
        d_in = self._hook_d_ins or {}
        hooks, widths = list(d_in), list(d_in.values())
        # Side by side, so that one shuffle keeps the hooks aligned token by token.
        packed = (
            torch.cat([batch[hook] for hook in hooks], dim=1)
            for batch in self._iterate_filtered_multi_hook_activations()
        )
        for batch in self._mixed(packed):
            yield dict(zip(hooks, batch.split(widths, dim=1), strict=True))

    def _mixed(self, activations: Iterator[Tensor]) -> Iterator[Tensor]:
        self._buffer = MixingBuffer(
            self.n_batches_in_buffer * self.training_context_size,
            self.train_batch_size_tokens,
            activations,
            self.activations_mixing_fraction,
            self._saved,
        )
        yield from self._buffer

    @override
    def save_to_checkpoint(self, checkpoint_path: str | Path) -> None:
        super().save_to_checkpoint(checkpoint_path)
        buffered = None if self._buffer is None else self._buffer.contents()
        if self.prefetched or buffered is None:
            return
        position = {
            "draws": torch.tensor(self._draws, dtype=torch.int64).reshape(-1, 3),
            "waiting": buffered.waiting.contiguous(),
            "kept": buffered.kept.contiguous(),
        }
        if self.cached_activation_dataset is not None:
            position["cached_row"] = torch.tensor(self.current_row_idx)
        save_file(position, Path(checkpoint_path) / DATA_POSITION_FILENAME)

    @override
    def load_from_checkpoint(self, checkpoint_path: str | Path) -> None:
        file = Path(checkpoint_path) / DATA_POSITION_FILENAME
        if self.prefetched or not file.is_file():
            super().load_from_checkpoint(checkpoint_path)
            return
        position = read_position(file, self.cached_activation_dataset is not None, str(self.device))
        self._saved = BufferedActivations(position["waiting"], position["kept"])
        if self.cached_activation_dataset is not None:
            self.current_row_idx = int(position["cached_row"])
        self._draw_again(position["draws"].tolist())

    def _draw_again(self, draws: list[list[int]]) -> None:
        n_draws = sum(count for *_, count in draws)
        with tqdm(total=n_draws, desc="Reading up to the checkpoint", leave=False) as bar:
            for batch_size, raise_at_epoch_end, count in draws:
                for _ in range(count):
                    with contextlib.suppress(StopIteration):
                        self.get_batch_tokens(batch_size, bool(raise_at_epoch_end), False)
                    bar.update()


def read_position(file: Path, cached: bool, device: str) -> dict[str, Tensor]:
    """The tensors of a data position; `cached` where activations come from a cache.

    Raises:
        RunFailedError: They do not fit together.
    """
    position = load_file(file, device=device)
    trouble = trouble_with_position(position)
    if trouble is None and cached and "cached_row" not in position:
        trouble = "was not saved by a run on cached activations"
    if trouble is not None:
        raise RunFailedError(
            f"{file}: {trouble}; remove the folder {file.parent} to go on from the checkpoint "
            "before it"
        )
    return position


def trouble_with_position(position: dict[str, Tensor]) -> str | None:
    """What is wrong with the tensors of a data position, for a message; None where nothing is."""
    draws, waiting, kept = (position.get(name) for name in ("draws", "waiting", "kept"))
    row = position.get("cached_row", _FIRST_ROW)
    if (
        draws is None
        or waiting is None
        or kept is None
        or (draws.dtype, draws.shape[1:], draws.dim()) != (torch.int64, (3,), 2)
        or bool((draws < 0).any())
        or not waiting.dim() == kept.dim() == 2
        or waiting.shape[1] != kept.shape[1]
        or waiting.dtype != kept.dtype
        or not waiting.is_floating_point()
        or (row.dtype, row.dim()) != (torch.int64, 0)
        or bool(row < 0)
    ):
        return "is damaged: it does not hold a place in the data"
    return None


def _ahead_of(kept: Tensor, activations: Iterator[Tensor]) -> Iterator[Tensor]:
    """`activations` with `kept` joined to the first of them, as the buffer itself would."""
    for first in activations:
        yield torch.cat([kept, first], dim=0)
        del kept, first  # they may be large
        yield from activations
        return
