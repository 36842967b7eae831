"""Names and addresses of repositories."""

from __future__ import annotations

from huggingface_hub.errors import HfUriError
from huggingface_hub.utils import HfUri, parse_hf_uri, validate_repo_id

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


def read_address(address: str) -> HfUri:
    """Take an address of the Hub apart, without asking the Hub.

    Args:
        address: `hf://user/name`, `hf://user/name@revision`, either with a folder after it. A slash
            in a revision is %2F, but for `refs/pr/1` and the like.

    Raises:
        BadInputError: It is none, or of no repository of models.
    """
    try:
        found = parse_hf_uri(address)
    except HfUriError as error:
        raise BadInputError(
            f"{address}: {' '.join(error.msg.split())}; give hf://USER/NAME, "
            "hf://USER/NAME@REVISION, or either with /SAE"
        ) from None
    if found.type != "model":
        raise BadInputError(f"{address}: is a {found.type}; SAEs are in repositories of models")
    return found
