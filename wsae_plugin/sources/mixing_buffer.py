"""SAELens's mixing buffer with its state in plain sight, and the file that holds the state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from typing_extensions import override

from wsae_plugin.distributed.spread_rows import SpreadRows

DATA_POSITION_FILENAME = "data_position.safetensors"


class MixingBuffer(Iterator[Tensor]):
    """Serves the batches that SAELens's `mixing_buffer` serves, and can be left and resumed.

    Whenever the buffer is full it is shuffled, `mix_fraction` of it is kept to be mixed with what
    is read next, and the rest is served; with a fraction of 0 all is served as it was read.

    Args:
        read: Returns the next activations, of shape (n, d), n not always the same.
        buffer_size: Activation vectors that make it full.
        batch_size: Activation vectors of a batch.
        mix_fraction: The share that is kept.

    Attributes:
        waiting: Shuffled, to be served next, shape (n, d); None before the first batch.
        kept: To be mixed with what is read next, shape (m, d); None before the first batch.
        spread: Where the rows are, of several processes; `waiting`, `kept` and what is read are
            then the numbers that stand for them.
    """

    def __init__(
        self,
        read: Callable[[], Tensor],
        buffer_size: int,
        batch_size: int,
        mix_fraction: float,
    ) -> None:
        self._read = read
        self._buffer_size = buffer_size
        self._batch_size = batch_size
        self._mix_fraction = mix_fraction
        self.waiting: Tensor | None = None
        self.kept: Tensor | None = None
        self.spread: SpreadRows | None = None
        self._gathered: tuple[Tensor, Tensor] | None = None

    @override
    @torch.no_grad()
    def __next__(self) -> Tensor:
        while self.waiting is None or len(self.waiting) == 0:
            self._add(self._read())
        batch, self.waiting = self.waiting[: self._batch_size], self.waiting[self._batch_size :]
        return batch if self.spread is None else self.spread.serve(batch)

    def gather(self) -> None:
        """Bring the rows of all processes to the first, for `position`; collective."""
        if self.spread is not None and self.waiting is not None and self.kept is not None:
            waiting, kept = self.spread.copy(self.waiting), self.spread.copy(self.kept)
            self._gathered = None if waiting is None or kept is None else (waiting, kept)

    def position(self) -> dict[str, Tensor]:
        """Where it is, to be saved between two batches; empty before the first."""
        waiting, kept = self._gathered or (self.waiting, self.kept)
        self._gathered = None
        if waiting is None or kept is None:
            return {}
        return {"waiting": waiting.contiguous(), "kept": kept.contiguous()}

    def restore(self, position: Mapping[str, Tensor]) -> None:
        """Go on from a position, of which every process has all."""
        waiting, kept = position["waiting"], position["kept"]
        if self.spread is not None:
            waiting, kept = self.spread.add_spread(waiting), self.spread.add_spread(kept)
        self.waiting, self.kept = waiting, kept

    def _add(self, activations: Tensor) -> None:
        kept = activations[:0] if self.kept is None else self.kept
        n = len(kept) + len(activations)
        if n < self._buffer_size or self._mix_fraction == 0:
            held = torch.cat([kept, activations])
        else:
            # Each row goes to its place at once, in half the time of joining and then shuffling.
            held, place = kept.new_empty(n, kept.shape[1]), torch.randperm(n).argsort()
            held[place[: len(kept)]], held[place[len(kept) :]] = kept, activations
        if n >= self._buffer_size:
            n_spare = n - int(self._buffer_size * self._mix_fraction)
            n_served = max(1, n_spare // self._batch_size) * self._batch_size
            self.waiting, held = held[:n_served], held[n_served:]
        self.kept = held


def read_position(file: Path, device: str = "cpu") -> dict[str, Tensor]:
    """Read the position of a run in its text.

    Returns:
        `read`, int64 of shape (2,): the sequences (of a cache: its rows) read since the text last
        began, and the text's rows read in all; of a table its blocks read in all, and its rows;
        `waiting` and `kept` as in `MixingBuffer`.

    Raises:
        ValueError: The tensors are missing or do not fit together.
        SafetensorError: It is not a safetensors file.
    """
    position = load_file(file, device=device)
    read, waiting, kept = (position.get(name) for name in ("read", "waiting", "kept"))
    if (
        read is None
        or waiting is None
        or kept is None
        or (read.dtype, read.shape) != (torch.int64, (2,))
        or bool((read < 0).any())
        or not waiting.dim() == kept.dim() == 2
        or waiting.shape[1] != kept.shape[1]
        or waiting.dtype != kept.dtype
        or not waiting.is_floating_point()
    ):
        raise ValueError("it does not hold a position in the data")
    return position
