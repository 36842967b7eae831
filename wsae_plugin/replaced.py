"""Attributes of other libraries that are given other values for a while."""

from __future__ import annotations

from collections.abc import Generator
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
