"""Who may write into a folder: one process at a time, where nothing else is, and not beyond it."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import filelock

from wsae_plugin.errors import BadInputError

_LOCK = ".lock"


@contextmanager
def lock(folder: Path) -> Generator[None]:
    """Make `folder`, and keep other processes from training into it while entered.

    The system lets go of the lock of a process that was killed.

    Raises:
        BadInputError: Another process has it, or the folder cannot be written.
    """
    file_lock = filelock.FileLock(folder / _LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file_lock.acquire()
    except filelock.Timeout:
        raise BadInputError(
            f"--output {folder}: another process is training into this folder; wait for it, or "
            "choose another folder"
        ) from None
    except OSError as error:
        raise not_writable(folder, error) from error
    try:
        yield
    finally:
        # Still held, so that no other process takes a file that is about to go. Where it cannot be
        # removed, the folder has become read-only, and that is not what the user should hear of.
        with contextlib.suppress(OSError):
            (folder / _LOCK).unlink()
        file_lock.release()


def not_writable(folder: Path, error: OSError) -> BadInputError:
    """The refusal of a folder that the system does not let us write into."""
    return BadInputError(
        f"--output {folder}: cannot be written: {error.strerror or error}; choose another folder"
    )


def refuse_unless_free(folder: Path, kind: str, status: str | None) -> None:
    """Refuse a folder that is not free for what is about to be written.

    Args:
        folder: It need not exist.
        kind: What is to be written, for the message: "run", "comparison".
        status: Of one that is there already; None if there is none.

    Raises:
        BadInputError: It holds one, or files that are none of ours, or it is a file.
    """
    if status is not None:
        way_out = "" if status == "finished" else "continue it with --resume, or "
        raise BadInputError(
            f"--output {folder}: already holds a {kind} ({status}); {way_out}choose another folder"
        )
    if folder.is_dir():
        if any(path.name != _LOCK for path in folder.iterdir()):
            raise BadInputError(f"--output {folder}: is not empty; choose another folder")
    elif folder.exists():
        raise BadInputError(f"--output {folder}: is a file; give a folder")
