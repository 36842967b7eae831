"""The rows of a buffer, of which every process keeps those that it has read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wsae_plugin.distributed.world import World

_ROWS_AT_A_TIME = 2**13


class SpreadRows:
    """Rows that lie in one process each, and numbers that stand for them everywhere.

    All processes shuffle the same numbers, (n, 2): which process has a row, and which of its rows
    it is. Only what is served travels.

    Args:
        world: The processes.
        device: Where rows are served.
    """

    def __init__(self, world: World, device: str | torch.device) -> None:
        self._world = world
        self._device = device
        self._rows: Tensor | None = None
        self._numbers = torch.empty(0, dtype=torch.int64)
        self._is_served = torch.empty(0, dtype=torch.bool)
        self._n_added = [0] * world.size

    def add(self, own: Tensor, counts: Sequence[int]) -> list[Tensor]:
        """Keep what this process has read.

        Args:
            own: (n, d).
            counts: How many rows every process adds now.

        Returns:
            The numbers of those of every process, (n, 2) each.
        """
        rank = self._world.rank
        firsts = self._n_added
        self._n_added = [first + n for first, n in zip(firsts, counts, strict=True)]
        numbers = torch.arange(firsts[rank], self._n_added[rank])
        if self._rows is not None:
            left = ~self._is_served
            own = torch.cat([self._rows[left.to(own.device)], own])
            numbers = torch.cat([self._numbers[left], numbers])
        self._rows, self._numbers = own, numbers
        self._is_served = torch.zeros(len(numbers), dtype=torch.bool)
        return [
            torch.stack([torch.full((n,), owner), torch.arange(first, first + n)], dim=1)
            for owner, (first, n) in enumerate(zip(firsts, counts, strict=True))
        ]

    def add_spread(self, rows: Tensor) -> Tensor:
        """Keep a share of rows (n, d) that all processes have; their numbers (n, 2)."""
        size = self._world.size
        counts = [len(range(rank, len(rows), size)) for rank in range(size)]
        numbers = torch.empty(len(rows), 2, dtype=torch.int64)
        for rank, of_rank in enumerate(self.add(rows[self._world.rank :: size], counts)):
            numbers[rank::size] = of_rank
        return numbers

    def serve(self, numbers: Tensor) -> Tensor:
        """The rows (n, d) that numbers (n, 2) stand for, which are then forgotten; collective."""
        self._is_served[self._places(numbers)] = True
        return self._gathered(numbers).to(self._device)

    def copy(self, numbers: Tensor) -> Tensor | None:
        """The same on the first process alone, in its own memory; nothing is forgotten."""
        parts: list[Tensor] = []
        for some in numbers.split(_ROWS_AT_A_TIME):
            rows = self._gathered(some)
            if self._world.is_first:
                parts.append(rows.cpu())
        return torch.cat(parts) if parts else None

    def _places(self, numbers: Tensor) -> Tensor:
        mine = numbers[numbers[:, 0] == self._world.rank, 1]
        return torch.searchsorted(self._numbers, mine)

    def _gathered(self, numbers: Tensor) -> Tensor:
        assert self._rows is not None
        places = self._places(numbers).to(self._rows.device)
        own = self._rows[places].to(self._device)
        counts = torch.bincount(numbers[:, 0], minlength=self._world.size).tolist()
        rows = own.new_empty(len(numbers), own.shape[1])
        for rank, part in enumerate(self._world.exchange(own, counts)):
            rows[(numbers[:, 0] == rank).to(rows.device)] = part
        return rows
