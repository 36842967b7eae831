"""Files that are either whole or absent."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path


def write_text_atomic(path: Path, text: str) -> None:
    """Write `text` under a temporary name beside `path`, then rename it into place.

    Args:
        path: The file to write; its folder must exist. An existing file is replaced.
        text: The whole content, written as UTF-8.

    Raises:
        OSError: The folder is missing or not writable, or the disk is full; `path` is untouched.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        # mkstemp makes a private file; the result should be as readable as any other.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json_atomic(path: Path, value: object) -> None:
    """Write `value` as indented JSON, whole or not at all.

    Args:
        path: The file to write; its folder must exist.
        value: Anything strict JSON can hold.

    Raises:
        ValueError: A number in `value` is NaN or infinite, which JSON cannot hold.
        OSError: As for `write_text_atomic`.
    """
    write_text_atomic(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
