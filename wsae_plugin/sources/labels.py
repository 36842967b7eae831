"""What class each row of a table is of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsae_plugin.errors import BadInputError
from wsae_plugin.messages import naming, refusals_as_bad_input
from wsae_plugin.sources.table_files import READERS, Column, columns_of

_NAMES = "classes.txt"
"""Beside a file of numbers, what they are called, one a line."""
_MOST_CLASSES = 2**16
"""More than these are hardly classes, and would take gigabytes to count."""


@dataclass(frozen=True)
class Labels:
    """The class of every row.

    Args:
        codes: Shape (n_rows,), int32; −1 for a row without a class.
        names: What the classes are called.
    """

    codes: Tensor
    names: tuple[str, ...]

    def as_in(self, other: Labels | None) -> Labels:
        """The same classes with the numbers that they have in another table; what it has not,
        after those."""
        if other is None or self.names == other.names:
            return self
        names = (*other.names, *(name for name in self.names if name not in other.names))
        place = {name: number for number, name in enumerate(names)}
        numbers = torch.tensor([*(place[name] for name in self.names), -1], dtype=torch.int32)
        return Labels(numbers[self.codes.long()], names)


def is_file_name(said: str) -> bool:
    """Whether labels are in a file of their own, and not in a column of the table."""
    return Path(said).suffix in (".txt", *READERS)


def read_labels(
    said: str | None,
    columns: Mapping[str, Column],
    n_rows: int,
    field: str,
    classes: Sequence[str] | None = None,
) -> Labels | None:
    """The labels of a table.

    Args:
        said: A column of the table, or a file: .txt with one a line, or with one array of whole
            numbers or texts. Negative numbers, empty texts and nulls are no class.
        columns: Of the table.
        n_rows: Of the table.
        field: The config field, for messages.
        classes: What the numbers in a column of the table are called; None where nobody says.

    Returns:
        None where nothing was said.

    Raises:
        BadInputError: There are none, or they are no labels of so many rows.
    """
    if said is None:
        return None
    with naming(f"{field} = {said!r}"), refusals_as_bad_input():
        if said in columns:
            column = columns[said]
            named = column.names or classes
            values = _values(column)
        else:
            values, named = _from_file(Path(said), columns)
        if len(values) != n_rows:
            raise BadInputError(f"has {len(values):,} labels, and the table {n_rows:,} rows")
        return _labels(values, tuple(named or ()))


def _from_file(file: Path, columns: Mapping[str, Column]) -> tuple[Any, Sequence[str]]:
    if not file.is_file():
        known = [name for name, column in columns.items() if len(column.shape) == 1]
        of_table = f"whose columns of labels are {', '.join(known)}" if known else "which has none"
        raise BadInputError(f"neither a file nor a column of the table, {of_table}")
    if file.suffix == ".txt":
        return file.read_text(encoding="utf-8").splitlines(), ()
    found = [column for column in columns_of(str(file)).values() if len(column.shape) == 1]
    if len(found) != 1:
        raise BadInputError(f"must hold one array of labels, and holds {len(found)}")
    names = file.parent / _NAMES
    beside = names.read_text(encoding="utf-8").splitlines() if names.is_file() else ()
    return _values(found[0]), found[0].names or beside


def _values(column: Column) -> Any:
    if len(column.shape) != 1:
        raise BadInputError(f"has shape {column.shape}: one label a row is needed")
    return column.read(slice(0, len(column)))


def _labels(values: Any, names: tuple[str, ...]) -> Labels:
    if isinstance(values, Tensor):
        if values.is_floating_point() or values.dtype == torch.bool:
            raise BadInputError(f"holds {values.dtype}; labels are whole numbers or texts")
        numbers = values.long()
        if names:
            if int(numbers.max()) >= len(names):
                raise BadInputError(f"holds {int(numbers.max())}, and {len(names)} names are known")
            found, codes = list(names), numbers.clamp(min=-1)
        else:
            known, codes = numbers.clamp(min=-1).unique(return_inverse=True)
            n_without = int((known < 0).sum())
            found = [str(number) for number in known[n_without:].tolist()]
            codes = codes - n_without
    else:
        # Not by numpy, which gives every text the room of the longest.
        given = [None if not text or re.fullmatch(r"-\d+", text) else text for text in values]
        found = sorted({text for text in given if text is not None})
        number = {text: n for n, text in enumerate(found)}
        codes = torch.tensor([-1 if text is None else number[text] for text in given])
    if codes.max() < 0:
        raise BadInputError("no row has a class; leave the field out")
    if len(found) > _MOST_CLASSES:
        raise BadInputError(f"holds {len(found):,} classes; {_MOST_CLASSES:,} are the most")
    return Labels(codes.int(), tuple(found))
