"""An SAE of the Hub as a folder here, in which scores can be kept beside it."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import HfApi

from wsae_plugin.errors import BadInputError
from wsae_plugin.hub.errors import hub_errors
from wsae_plugin.hub.names import check_repo_name

FOLDER = Path("downloaded")
_FILES = ("*.json", "*.safetensors", "*.yaml", "*.jsonl")
_ADDRESS = re.compile(r"([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.+))?")


def download(address: str) -> Path:
    """Bring the SAEs of a repository into downloaded/, and nothing that could run code.

    What is there is not downloaded again: the folder is named after the commit.

    Args:
        address: `user/name`, `user/name@revision`, either with `/SAE` for one of its folders.

    Returns:
        The folder of the SAE, or of all of them.

    Raises:
        BadInputError: It is no address, or the repository has no SAE there.
        RunFailedError: The Hub refused or cannot be reached.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise BadInputError(
            f"hf://{address}: must be hf://USER/NAME, hf://USER/NAME@REVISION, or either with /SAE"
        )
    repo, revision, sae = found.groups()
    check_repo_name(repo)
    with hub_errors(f"download {repo}"):
        api = HfApi()
        commit = str(api.repo_info(repo, revision=revision).sha)
        saes = {
            Path(name).parent
            for name in api.list_repo_files(repo, revision=commit)
            if Path(name).name == "cfg.json"
        }
        wanted = Path(sae or "")
        if not any(folder.is_relative_to(wanted) for folder in saes):
            there = ", ".join(sorted(map(str, saes))) or "none"
            raise BadInputError(
                f"hf://{address}: has no SAE that SAELens saved (a folder with cfg.json); there: "
                f"{there}"
            )
        folder = FOLDER / f"{repo.replace('/', '--')}--{commit[:12]}"
        inside = "" if sae is None else f"{sae}/"
        patterns = [f"{inside}{files}" for files in _FILES]
        api.snapshot_download(repo, revision=commit, local_dir=folder, allow_patterns=patterns)
        return folder / wanted
    raise AssertionError  # hub_errors raised
