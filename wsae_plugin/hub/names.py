"""Names of repositories."""

from __future__ import annotations

from huggingface_hub.utils import validate_repo_id

from wsae_plugin.errors import BadInputError


def check_repo_name(repo: str, option: str = "--repo", needs_owner: bool = True) -> None:
    """Refuse what is not `user/name`.

    Args:
        repo: The name.
        option: Where it was given, for the message.
        needs_owner: Whether a name alone is refused, such as those of old models have.

    Raises:
        BadInputError: It is not.
    """
    try:
        validate_repo_id(repo)
    except ValueError as error:
        raise BadInputError(f"{option} {repo}: {' '.join(str(error).split())}") from None
    if needs_owner and "/" not in repo:
        raise BadInputError(f"{option} {repo}: must be user/name")
