"""Names of repositories, and of files in them, from wherever they came."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

from huggingface_hub.utils import validate_repo_id

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


def check_repo_name(repo: str) -> None:
    """Refuse what is not `user/name`.

    Raises:
        BadInputError: It is not.
    """
    try:
        validate_repo_id(repo)
    except ValueError as error:
        raise BadInputError(f"--repo {repo}: {' '.join(str(error).split())}") from None
    if repo.count("/") != 1:
        raise BadInputError(f"--repo {repo}: must be user/name")
