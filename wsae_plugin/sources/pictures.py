"""What the rows of a table look like."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps
from torch import Tensor

from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.images import load_image
from wsae_plugin.messages import naming, refusals_as_bad_input
from wsae_plugin.sources.table_files import columns_of

_SHOWN = 128
"""Pixels of an image before a patch is marked in it."""


@dataclass(frozen=True)
class Pictures:
    """The pictures of a table's rows.

    Args:
        n: How many there are.
        of: Number → picture.
        rows_each: How many rows in a row have one.
    """

    n: int
    of: Callable[[int], Image.Image]
    rows_each: int

    def __call__(self, rows: Tensor) -> list[Image.Image]:
        """The pictures of some rows; where the rows of one are a square of patches, with the
        patch marked, unless it is smaller than a pixel."""
        return [self._one(row) for row in rows.tolist()]

    def _one(self, row: int) -> Image.Image:
        number, patch = divmod(row, self.rows_each)
        image, side = self._read(number), math.isqrt(self.rows_each)
        is_square = side * side == self.rows_each
        if not is_square or not 1 < side <= _SHOWN:
            return image
        image = ImageOps.fit(image.convert("RGB"), (_SHOWN, _SHOWN))
        (down, right), size = divmod(patch, side), _SHOWN / side
        box = [right * size, down * size, (right + 1) * size - 1, (down + 1) * size - 1]
        ImageDraw.Draw(image).rectangle(box, outline=(255, 0, 0), width=2)
        return image

    def _read(self, number: int) -> Image.Image:
        try:
            return self.of(number)
        except RunFailedError as error:
            # A picture that was lost takes nothing from what was measured.
            warnings.warn(str(error), stacklevel=2)
            return Image.new("RGB", (_SHOWN, _SHOWN), "grey")


def read_pictures(said: str | None, n_rows: int, field: str, folder: str | None) -> Pictures | None:
    """The pictures of a table.

    Args:
        said: A file of arrays (n, height, width) or (n, height, width, 3), uint8, or a .txt file
            of paths, one a line.
        n_rows: Of the table.
        field: The config field, for messages.
        folder: What the paths are relative to; None for the file's folder.

    Returns:
        None where nothing was said.

    Raises:
        BadInputError: There are none, or they do not divide the rows.
    """
    if said is None:
        return None
    file = Path(said)
    with naming(f"{field} = {said!r}"), refusals_as_bad_input():
        if not file.is_file():
            raise BadInputError("no such file")
        n, of = _paths(file, folder) if file.suffix == ".txt" else _arrays(file)
        if n == 0 or n_rows % n:
            raise BadInputError(f"has {n:,} pictures, which is no divisor of {n_rows:,} rows")
        for number in {0, n - 1}:
            of(number)
    return Pictures(n, of, n_rows // n)


def _paths(file: Path, folder: str | None) -> tuple[int, Callable[[int], Image.Image]]:
    names = file.read_text(encoding="utf-8").splitlines()
    root = Path(folder) if folder else file.parent
    return len(names), lambda number: load_image(root / names[number])


def _arrays(file: Path) -> tuple[int, Callable[[int], Image.Image]]:
    found = [
        column
        for column in columns_of(str(file)).values()
        if (len(column.shape) == 3 or column.shape[3:] == (3,)) and 0 not in column.shape
    ]
    if len(found) != 1 or found[0].dtype.lower() not in ("uint8", "u8", "torch.uint8"):
        raise BadInputError(
            "must hold one array (n, height, width) or (n, height, width, 3), uint8"
        )
    column = found[0]
    return len(column), lambda n: Image.fromarray(column.read(slice(n, n + 1))[0].numpy())
