"""Attributes of other libraries, variables and entries that are given other values for a while."""

from __future__ import annotations

from collections.abc import Generator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(target: Any, **attributes: Any) -> Generator[None]:
    """Give a module or class other values of attributes that it defines itself.

    Args:
        target: The module or class.
        attributes: Name → value for as long as this lasts.
    """
    originals = {name: vars(target)[name] for name in attributes}
    for name, value in attributes.items():
        setattr(target, name, value)
    try:
        yield
    finally:
        for name, value in originals.items():
            setattr(target, name, value)


@contextmanager
def replaced_items(table: MutableMapping[str, Any], items: Mapping[str, Any]) -> Generator[None]:
    """Give a table, such as `os.environ`, other entries.

    Args:
        table: The table.
        items: Key → value for as long as this lasts; None for no entry.
    """
    before = {key: table.pop(key) for key in items if key in table}
    table.update({key: value for key, value in items.items() if value is not None})
    try:
        yield
    finally:
        for key in items:
            table.pop(key, None)
        table.update(before)
