"""Rows of a table that no training sees: which they are, and the next of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from wsae_plugin.errors import BadInputError
from wsae_plugin.sources.labels import Labels
from wsae_plugin.sources.source import Classes, Samples
from wsae_plugin.sources.table_files import Column, refuse_not_finite

_MOST_CANDIDATES = 2**22
"""Of a longer table, this many random rows are asked whether they are held out: more than anybody
measures on, in a moment."""


class HeldOutRows:
    """Rows of a column, each once, image by image in an order that torch's generator draws with the
    first.

    Args:
        column: Its values.
        rows: Which, shape (n,), int64, ascending.
        labels: Of all rows of the column; None where nobody says.
        rows_each: How many rows in a row are of one image.
        name: Of the column, for messages.
    """

    def __init__(
        self, column: Column, rows: Tensor, labels: Labels | None, rows_each: int, name: str
    ) -> None:
        self._column, self._rows, self._labels = column, rows, labels
        self.rows_each, self._name = rows_each, name
        self._shuffled: Tensor | None = None
        self._n_given = 0

    def __len__(self) -> int:
        return len(self._rows)

    def next(self, n_samples: int) -> Samples:
        """The next rows.

        Raises:
            BadInputError: There are not so many left, or one holds what is no finite number.
        """
        if self._n_given == 0:
            # Image by image, so that batches share hardly one, and are independent.
            images, of_row = (self._rows // self.rows_each).unique_consecutive(return_inverse=True)
            order = torch.randperm(len(images)).argsort()[of_row].argsort(stable=True)
            if self._labels is not None:
                shuffled = shuffled_labels(self._labels.codes, self._rows, self.rows_each)
                self._shuffled = shuffled[order]
            self._rows = self._rows[order]
        of_these = slice(self._n_given, self._n_given + n_samples)
        rows = self._rows[of_these]
        if len(rows) < n_samples:
            raise BadInputError(
                f"{n_samples:,} more held-out rows are wanted, and {len(rows):,} are left of "
                f"{len(self):,}; ask for fewer batches or hold out more"
            )
        self._n_given += n_samples
        ascending, back = rows.sort()
        x = torch.empty(n_samples, self._column.shape[1])
        x[back] = refuse_not_finite(self._column.read(ascending).float(), ascending, self._name)
        if self._labels is None or self._shuffled is None:
            return Samples(x, rows)
        codes, shuffled = self._labels.codes[rows].long(), self._shuffled[of_these].long()
        images = rows // self.rows_each
        return Samples(x, rows, Classes(codes, shuffled, images, self._labels.names))


def is_held_out(numbers: Tensor, share: float, seed: int) -> Tensor:
    """Which rows are held out: by a hash of their numbers alone, so that it never changes.

    Args:
        numbers: Of rows, or of images, shape (n,), int64.
        share: Of all that are to be.
        seed: Another one holds others out.

    Returns:
        Shape (n,), bool.
    """
    # The finaliser of splitmix64 (Steele, Lea and Flood 2014).
    hashed = numbers.numpy().astype(np.uint64) + np.uint64(1)
    with np.errstate(over="ignore"):
        hashed = (hashed + np.uint64(seed) * np.uint64(0xD1342543DE82EF95)) * np.uint64(
            0x9E3779B97F4A7C15
        )
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            hashed = (hashed ^ (hashed >> np.uint64(shift))) * np.uint64(factor)
    hashed ^= hashed >> np.uint64(31)
    return torch.from_numpy(hashed < np.uint64(share * 2**64))


def candidates(n_rows: int) -> Tensor:
    """All rows of a table, or very many, always the same, shape (n,), ascending."""
    if n_rows <= _MOST_CANDIDATES:
        return torch.arange(n_rows)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(n_rows, (_MOST_CANDIDATES,), generator=generator).unique()


def shuffled_labels(
    codes: Tensor, rows: Tensor, rows_each: int, generator: torch.Generator | None = None
) -> Tensor:
    """The labels of rows where every image has got those of another one.

    Rows of one image are alike and of one class, so that labels which were permuted row by row
    would say less of any latent than chance does. Labels that differ within an image keep their
    place in it, so that what they owe to their place alone is in the control too.

    Args:
        codes: Of all rows of the table, shape (n_rows,).
        rows: Among which they are permuted, shape (n,), int64, ascending.
        rows_each: How many rows in a row are of one image.
        generator: None for torch's own.

    Returns:
        Shape (n,).
    """
    images, of_row = (rows // rows_each).unique_consecutive(return_inverse=True)
    others = images[torch.randperm(len(images), generator=generator)]
    return codes[others[of_row] * rows_each + rows % rows_each]
