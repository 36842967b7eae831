"""Checksums of the files of a checkpoint: a single flipped bit is noticed before it is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from wsae_plugin.files import sha256_of, write_json_atomic

CHECKSUMS_FILENAME = "checksums.json"


def write_checksums(folder: Path) -> None:
    """Write checksums.json: the path in `folder` of every file there, and its SHA-256.

    They tell damage, not forgery: whoever changes a file can change its checksum.

    Raises:
        OSError: A file cannot be read, or checksums.json not be written.
    """
    own = folder / CHECKSUMS_FILENAME
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != own)
    write_json_atomic(
        own,
        {path.relative_to(folder).as_posix(): sha256_of(path) for path in files},
    )


def not_as_saved(folder: Path) -> Path | None:
    """The first file under `folder` that is not what its checksums.json says, or not there.

    Files that it does not name are left alone. None where all are as they should be, and where
    there is no checksums.json.
    """
    file = folder / CHECKSUMS_FILENAME
    if not file.exists():
        return None
    try:
        written = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return file
    if not isinstance(written, dict):
        return file
    checksums = cast("dict[str, Any]", written)
    # Found by walking the folder: a path in the file could lead anywhere.
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name in checksums and sha256_of(path) != checksums.pop(name):
            return path
    return folder / min(checksums) if checksums else None
