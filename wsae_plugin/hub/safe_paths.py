"""Names in a repository that must not lead out of the folder it is downloaded into."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

from wsae_plugin.errors import BadInputError


def path_inside(folder: Path, name: str, where: str) -> Path:
    """`folder / name`, which stays in `folder` by its text; `refuse_links` looks at links.

    Args:
        folder: The folder.
        name: A relative path with forward slashes.
        where: What names it, for the message.

    Raises:
        BadInputError: It is absolute, or climbs with `..`.
    """
    windows, posix = PureWindowsPath(name), PurePosixPath(name)
    is_relative = name and not posix.is_absolute() and not windows.anchor
    if not is_relative or ".." in windows.parts or "\0" in name or "\\" in name:
        raise BadInputError(f"{where}: {name!r} is not a relative path that stays inside")
    return folder / name
