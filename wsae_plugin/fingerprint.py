"""Short hashes that say whether a result still answers the question that is asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

_LENGTH = 16
_BLOCK = 1 << 20


def fingerprint_of(value: object) -> str:
    """Of a value that JSON can hold; the order of keys does not count."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:_LENGTH]


def fingerprint_of_weights(folder: Path) -> str:
    """Of an SAE's weights alone."""
    return fingerprint_of_files(folder / "sae_weights.safetensors")


def fingerprint_of_files(folder: Path, patterns: Iterable[str] = ("**/*",)) -> str:
    """Of names and content of a folder's files, or of one file; times and places do not count."""
    if folder.is_file():
        files = [folder]
    else:
        files = sorted({f for pattern in patterns for f in folder.glob(pattern) if f.is_file()})
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0")
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()[:_LENGTH]
