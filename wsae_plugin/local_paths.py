"""Paths of this machine, taken out of what is published: only their last name stays."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

_SPLIT = re.compile(r"(.+) \(([\w.-]+)\)", re.DOTALL)
# In the middle of a sentence: two names or more after a root, and no `https://` before them.
_IN_TEXT = re.compile(
    r"(?<![\w.:/~\\-])(?:file://)?(?:~|\.{1,2})?(?:/[^\s/'\"`,;:()\[\]<>]+){2,}/?"
    r"|(?<![\w/\\])[A-Za-z]:[\\/][^\s'\"`,;()\[\]<>]+"
)


def is_local(dataset: str) -> bool:
    """Whether this names a folder or a file of a machine, and nothing that others can fetch."""
    path = dataset.removeprefix("file://")
    rooted = PurePosixPath(path).is_absolute() or bool(PureWindowsPath(path).anchor)
    return rooted or path.startswith(("~", "./", "../")) or Path(path).exists()


def dataset_and_split(recorded: str) -> tuple[str, str | None]:
    """`name (split)`, as scores have it, in its two parts; a name may hold parentheses too."""
    found = _SPLIT.fullmatch(recorded)
    if found is None or Path(recorded).exists():
        return recorded, None
    return found[1], found[2]


def without_local_paths(value: Any, known: Collection[str | None] = ()) -> Any:
    """JSON with every path of a machine in a text cut down to its last name.

    `/home/ann/texts/held-out.jsonl (train)` becomes `held-out.jsonl (train)`; names on the Hub,
    addresses and everything else stay.

    Args:
        value: What JSON can hold.
        known: Paths that do not look like one, since they start in the working directory.
    """
    if isinstance(value, str):
        return _public(value, known)
    if isinstance(value, Mapping):
        return {key: without_local_paths(entry, known) for key, entry in value.items()}
    if isinstance(value, list):
        return [without_local_paths(entry, known) for entry in value]
    return value


def last_name(path: str) -> str:
    """Of a path of any system, the file's or folder's own name."""
    return PureWindowsPath(path.removeprefix("file://")).name


def _public(text: str, known: Collection[str | None]) -> str:
    name, split = dataset_and_split(text)
    # A path may hold spaces, and then the text says nothing else.
    is_path = name in known or (_is_rooted(name) and "\n" not in name)
    if is_path and last_name(name):
        return last_name(name) + ("" if split is None else f" ({split})")
    home = rf"(?<![\w.~-]){re.escape(str(Path.home()))}(?=/)"
    return _IN_TEXT.sub(lambda found: last_name(found[0]), re.sub(home, "~", text))


def _is_rooted(text: str) -> bool:
    path = text.removeprefix("file://")
    rooted = PurePosixPath(path).is_absolute() or bool(PureWindowsPath(path).drive)
    return rooted or path.startswith(("~/", "./", "../"))
