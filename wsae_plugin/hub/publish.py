"""One atomic commit on the Hub that never overwrites what a person wrote."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.hub.bundle import CARD, ROOT_CONFIG, Bundle
from wsae_plugin.hub.errors import hub_errors
from wsae_plugin.hub.markdown import few
from wsae_plugin.hub.marker import is_untouched
from wsae_plugin.hub.names import check_repo_name


def publish(
    bundle: Bundle,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    force: bool = False,
) -> str:
    """Commit the whole bundle, or nothing.

    What an interrupted upload has sent is kept by the Hub's large-file storage, so running it again
    sends only the rest.

    Args:
        bundle: From `make_bundle`.
        repo: `user/name`, created if need be.
        private: Create it private.
        revision: The branch, created if need be; None for main.
        force: Overwrite a card that a person edited, and drop SAEs that are not in the bundle.

    Returns:
        The commit's hash.

    Raises:
        BadInputError: `repo` is no name, or the card there was edited and `force` is not set.
        RunFailedError: The Hub refused, or the connection broke; nothing was committed.
    """
    check_repo_name(repo)
    with hub_errors(f"push to {repo}", writes=True):
        api = HfApi()
        head = _head(api, repo, private, revision)
        there = set(api.list_repo_files(repo, revision=head))
        if not force:
            _refuse_to_overwrite_card(api, repo, head, there)
        stale = _stale_files(api, repo, head, there, bundle, force)
        commit = api.create_commit(
            repo,
            [
                *(CommitOperationAdd(name, content) for name, content in bundle.files.items()),
                *(CommitOperationDelete(name) for name in stale),
            ],
            commit_message=f"Upload {few(bundle.saes)}",
            revision=revision,
            parent_commit=head,
        )
        return commit.oid
    raise AssertionError  # hub_errors raised


def _head(api: HfApi, repo: str, private: bool, revision: str | None) -> str:
    try:
        info = api.repo_info(repo)
    except RepositoryNotFoundError:
        api.create_repo(repo, private=private, exist_ok=True)
        info = api.repo_info(repo)
    if private and not info.private:
        raise RunFailedError(
            f"push to {repo}: it is there and public; make it private in its settings, or leave "
            "out --private"
        )
    if revision is None:
        return str(info.sha)
    try:
        return str(api.repo_info(repo, revision=revision).sha)
    except RevisionNotFoundError:
        api.create_branch(repo, branch=revision, exist_ok=True)
        return str(api.repo_info(repo, revision=revision).sha)


def _refuse_to_overwrite_card(api: HfApi, repo: str, head: str, there: set[str]) -> None:
    if CARD in there and not is_untouched(_download(api, repo, head, CARD)):
        raise BadInputError(
            f"--repo {repo}: its {CARD} was written or edited by hand, and would be lost; keep a "
            "copy, push with --force, and put your words back"
        )


def _stale_files(
    api: HfApi, repo: str, head: str, there: set[str], bundle: Bundle, force: bool
) -> list[str]:
    """Files of an earlier push that this one does not replace."""
    if ROOT_CONFIG not in there:
        return []
    try:
        before: dict[str, Any] = json.loads(_download(api, repo, head, ROOT_CONFIG))["saes"]
        files = {f"{sae}/{name}" for sae, entry in before.items() for name in entry["sha256"]}
    except (ValueError, KeyError, TypeError, AttributeError):
        return []  # somebody else's config.json
    new = {name.split("/")[0] for name in bundle.files if "/" in name}
    dropped = sorted(set(before) - new)
    if dropped and not force:
        raise BadInputError(
            f"--repo {repo}: holds {', '.join(dropped)}, which are not among the runs; give their "
            "runs too, choose another repository, or drop them with --force"
        )
    return sorted((files & there) - set(bundle.files))


def _download(api: HfApi, repo: str, head: str, name: str) -> str:
    with tempfile.TemporaryDirectory(prefix="wsae-") as cache:
        path = api.hf_hub_download(repo, name, revision=head, cache_dir=cache)
        return Path(path).read_text(encoding="utf-8")
