"""The source text of the running Python's standard library, split by module.

A text that every machine with Python already has, that may be read freely (the PSF licence), and
that needs no network. The bundled language model was trained on the ``train`` split.
"""

from __future__ import annotations

import hashlib
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

Split = Literal["train", "held_out"]

HELD_OUT_SHARE = 0.1
"""Share of the standard library's modules (not of its bytes) that is held out."""

_SKIPPED_FOLDERS = frozenset(
    {
        "__pycache__",
        "dist-packages",
        "encodings",  # character tables
        "idlelib",
        "lib2to3",
        "pydoc_data",  # the language reference as one generated dictionary
        "site-packages",
        "test",
        "tests",
    }
)
_GENERATED_TABLES = frozenset(
    {"_opcode_metadata.py", "html/entities.py", "locale.py", "stringprep.py"}
)


@dataclass(frozen=True)
class SourceFile:
    """One file of the standard library.

    Args:
        path: Path below the standard library's folder, with forward slashes on every system.
        text: The whole file, decoded from UTF-8, with ``\\n`` as the line ending.
    """

    path: str
    text: str


def stdlib_root() -> Path:
    """Folder of the running Python's standard library; it may hold no source (zipped Python)."""
    return Path(sysconfig.get_path("stdlib"))


def split_of(path: str) -> Split:
    """Split that the file at ``path`` belongs to: a pure function of its module's name.

    A module that became a package in a later Python (``zipfile.py``, then
    ``zipfile/__init__.py``) has kept its name and so its split: what was trained on under one
    version of Python is not held out under another.

    Args:
        path: Path below the standard library's folder, with forward slashes.

    Returns:
        ``"held_out"`` for about one module in ten, else ``"train"``.
    """
    # "json.decoder" for "json/decoder.py", "json" for "json/__init__.py".
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    digest = hashlib.sha256(module.encode()).digest()
    is_held_out = int.from_bytes(digest[:8], "big") < HELD_OUT_SHARE * 2**64
    return "held_out" if is_held_out else "train"


def read_stdlib(split: Split, root: Path | None = None) -> list[SourceFile]:
    """Read one split of the standard library's source, sorted by path.

    Left out: test suites, the two programs shipped inside it (``idlelib``, ``lib2to3``), generated
    tables, blank files, files that are not UTF-8, and whatever lies in the folder without being
    part of the standard library.

    Args:
        split: ``"train"`` or ``"held_out"``; the two share no file.
        root: The folder to read; default: that of the running Python.

    Returns:
        At least one file, in the order of the paths.

    Raises:
        ValueError: ``split`` is neither of the two.
        FileNotFoundError: The folder holds no such source, as when Python's library is a zip
            archive or was installed as bytecode only.
    """
    if split not in ("train", "held_out"):
        raise ValueError(f"split is {split!r}; it must be 'train' or 'held_out'")
    root = stdlib_root() if root is None else root
    paths = [path for path in _paths_worth_reading(root) if split_of(path) == split]
    files = [SourceFile(path, text) for path in paths if (text := _read_utf8(root / path))]
    if not files:
        raise FileNotFoundError(
            f"no {split} source text of the standard library in {root}: this Python may keep its"
            " library in a zip archive or as bytecode only; use a Python whose library is"
            " installed as .py files"
        )
    return files


def _paths_worth_reading(root: Path) -> list[str]:
    """Hand-written source files of the standard library itself, sorted; nothing else is walked."""
    modules = sys.stdlib_module_names - _SKIPPED_FOLDERS
    entries = [entry for entry in root.glob("*") if entry.name.removesuffix(".py") in modules]
    files = [file for entry in entries for file in (entry, *entry.rglob("*.py"))]
    paths = sorted(file.relative_to(root).as_posix() for file in files if file.suffix == ".py")
    kept = [p for p in paths if _SKIPPED_FOLDERS.isdisjoint(PurePosixPath(p).parts)]
    return [path for path in kept if path not in _GENERATED_TABLES]


def _read_utf8(path: Path) -> str | None:
    """The file's text, or None where it is blank or not UTF-8."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None
    return text if text.strip() else None
