"""A labelled data set of real text that every Python has: lines of its standard library.

The label is the package that lines come from, the attribute whether they define something.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from wsae_plugin.assets.stdlib_text import SourceFile, read_stdlib

if TYPE_CHECKING:
    import pandas as pd

PACKAGES = ("asyncio", "email", "importlib", "multiprocessing", "xml")
"""Packages of many files and of different subjects, in every supported Python."""

ATTRIBUTES = ("defines", "uses")

_LINES = 6
_TEST_EVERY = 3  # files; no file is in both splits
_DEFINES = re.compile(r"^\s*(?:async\s+)?(?:def|class)\s", re.MULTILINE)


def stdlib_snippets() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train and test rows with `text`, `label` (a package) and `attribute`, from different files.

    A text is six consecutive lines that are not blank. `attribute` is "defines" where one of them
    begins a function or a class, else "uses".
    """
    import pandas as pd

    rows: dict[bool, list[dict[str, str]]] = {True: [], False: []}
    files = [*read_stdlib("train"), *read_stdlib("held_out")]
    for package in PACKAGES:
        mine = sorted((f for f in files if f.path.startswith(f"{package}/")), key=_path)
        for index, file in enumerate(mine):
            rows[index % _TEST_EVERY == 0] += [
                {"text": text, "label": package, "attribute": _attribute(text)}
                for text in _snippets(file)
            ]
    return pd.DataFrame(rows[False]), pd.DataFrame(rows[True])


def _path(file: SourceFile) -> str:
    return file.path


def _snippets(file: SourceFile) -> Iterator[str]:
    lines = [line for line in file.text.splitlines() if line.strip()]
    for start in range(0, len(lines) - _LINES + 1, _LINES):
        yield "\n".join(lines[start : start + _LINES])


def _attribute(text: str) -> str:
    return ATTRIBUTES[0] if _DEFINES.search(text) else ATTRIBUTES[1]
