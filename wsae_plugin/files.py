"""Files and folders that are either whole or absent, checksums of them, and links among them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from wsae_plugin.credentials import redacted
from wsae_plugin.errors import BadInputError


def write_text_atomic(path: Path, text: str) -> None:
    """Write `text` under a temporary name beside `path`, then rename it into place.

    Args:
        path: The file to write; its folder must exist. An existing file is replaced.
        text: The whole content, written as UTF-8, with stars for any credential in it.

    Raises:
        OSError: The folder is missing or not writable, or the disk is full; `path` is untouched.
    """
    write_bytes_atomic(path, redacted(text).encode())


def write_bytes_atomic(path: Path, content: bytes) -> None:
    """Write `content` as `write_text_atomic` does, as it is."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
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


@contextmanager
def folder_written_whole(path: Path) -> Generator[Path]:
    """A folder to write into, which becomes `path` at the end.

    Args:
        path: The folder to make, and the folders above it. An existing one is replaced.

    Yields:
        An empty folder beside `path`; whatever goes wrong, it is removed and `path` untouched.
    """
    # `x/..` is not there before x is made, and must not go then.
    partial, was_there = partial_of(path), path.exists()
    # One that was left when its writer was killed.
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        if was_there:
            shutil.rmtree(path)
        partial.rename(path)
    except BaseException:
        # A full disk is the likely cause; what is left would keep it full.
        shutil.rmtree(partial, ignore_errors=True)
        raise


def refuse_output(option: str, path: Path, is_folder: bool = True) -> None:
    """Refuse to write to a path where something of another kind is, before any work is done.

    Args:
        option: Of the command line, for the message.
        path: What it gives.
        is_folder: Whether a folder is to be written, or a file.

    Raises:
        BadInputError: There is a file where a folder has to be, or the other way round.
    """
    # Not by Path.exists, which raises of a name that is too long.
    place = next(place for place in (path, *path.absolute().parents) if os.path.exists(place))
    is_above = place != path
    if place.is_dir() != (is_folder or is_above):
        kind, wanted = ("a folder", "a file") if place.is_dir() else ("a file", "a folder")
        what = f"{place} is" if is_above else "is"
        raise BadInputError(f"{option} {path}: {what} {kind}; give {wanted}")


@contextmanager
def locked(output: Path, file: Path) -> Generator[None]:
    """Keep other processes from writing to `output` while entered.

    The system lets go of the lock of a process that was killed.

    Args:
        output: What is written to.
        file: Is made to lock it, and removed.

    Raises:
        BadInputError: Another process has it, or the file cannot be written.
    """
    file_lock = filelock.FileLock(file, timeout=0)
    try:
        file_lock.acquire()
    except filelock.Timeout:
        raise BadInputError(
            f"--output {output}: another process is writing to it; wait for it, or choose another "
            "folder"
        ) from None
    except OSError as error:
        reason = error.strerror or error
        raise BadInputError(
            f"--output {output}: cannot be written: {reason}; choose another folder"
        ) from error
    try:
        yield
    finally:
        # Still held, so that no other process takes a file that is about to go. Where it cannot be
        # removed, the folder has become read-only, and that is not what the user should hear of.
        with suppress(OSError):
            file.unlink()
        file_lock.release()


def partial_of(path: Path) -> Path:
    """What the folder `path` is called while it is not whole."""
    return path.with_name(f".{path.name}.partial")


def sha256_of(content: bytes | Path) -> str:
    """The SHA-256 of a file's content, or of what will be one, in hexadecimal.

    Raises:
        OSError: The file cannot be read.
    """
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256()
    with content.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def refuse_links(
    folder: Path, unread: str = "saebench/cache", only: Collection[str] | None = None
) -> None:
    """Refuse a folder, from wherever it came, that holds a link to a place outside of it.

    Args:
        folder: The folder.
        unread: End of the path of folders whose contents nobody follows.
        only: Names in the folder that are looked at; None for all.

    Raises:
        BadInputError: The message names the link.
    """
    link = link_out_of(folder, unread, only)
    if link is not None:
        raise BadInputError(
            f"{link}: is a link that leads out of {folder}, where nothing is read or written; put "
            "in its place what it leads to"
        )


def link_out_of(
    folder: Path, unread: str = "saebench/cache", only: Collection[str] | None = None
) -> Path | None:
    """The first symbolic link under `folder` that leads out of it; None where there is none.

    `folder` itself may be a link: it is what was asked for. A snapshot in the Hub's cache, and a
    folder in one, consist of links to the blobs beside it, which belong to it.

    Args:
        folder: The folder.
        unread: End of the path of folders whose contents nobody follows.
        only: Names in the folder that are looked at; None for all.
    """
    # `realpath`, which a ring of links does not disturb.
    root = Path(os.path.realpath(folder))
    places = [root]
    for place in (root, *root.parents):
        if place.parent.name == "snapshots" and place.parent.parent.name.startswith("models--"):
            places.append(place.parent.parent / "blobs")
    for parent, folders, files in os.walk(folder):
        if only is not None and Path(parent) == folder:
            folders[:], files = ([n for n in names if n in only] for names in (folders, files))
        for path in sorted(Path(parent, name) for name in (*folders, *files)):
            real = Path(os.path.realpath(path)) if path.is_symlink() else root
            if not any(real.is_relative_to(place) for place in places):
                return path
        folders[:] = [name for name in folders if not Path(parent, name).match(unread)]
    return None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
