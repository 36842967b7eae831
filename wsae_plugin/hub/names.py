"""Names of repositories."""

from __future__ import annotations

from huggingface_hub.utils import validate_repo_id

from wsae_plugin.errors import BadInputError


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
