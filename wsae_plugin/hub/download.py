"""An SAE of the Hub as a folder here, in which scores can be kept beside it."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi

from wsae_plugin.errors import BadInputError
from wsae_plugin.hub.errors import hub_errors
from wsae_plugin.hub.names import read_address

FOLDER = Path("downloaded")
_FILES = ("*.json", "*.safetensors", "*.yaml", "*.jsonl")


def download(address: str) -> Path:
    """Bring the SAEs of a repository into downloaded/, and nothing that could run code.

    What is there is not downloaded again: the folder is named after the commit.

    Args:
        address: `hf://user/name`, `hf://user/name@revision`, either with `/SAE` for one of its
            folders.

    Returns:
        The folder of the SAE, or of all of them.

    Raises:
        BadInputError: It is no address, or the repository has no SAE there.
        RunFailedError: The Hub refused or cannot be reached.
    """
    found = read_address(address)
    repo, sae = found.id, found.path_in_repo
    with hub_errors(f"download {repo}"):
        api = HfApi()
        commit = str(api.repo_info(repo, revision=found.revision).sha)
        saes = {
            Path(name).parent
            for name in api.list_repo_files(repo, revision=commit)
            if Path(name).name == "cfg.json"
        }
        wanted = Path(sae)
        if not any(folder.is_relative_to(wanted) for folder in saes):
            there = ", ".join(sorted(map(str, saes))) or "none"
            raise BadInputError(
                f"{address}: has no SAE that SAELens saved (a folder with cfg.json); there: {there}"
            )
        folder = FOLDER / f"{repo.replace('/', '--')}--{commit[:12]}"
        inside = f"{sae}/" if sae else ""
        patterns = [f"{inside}{files}" for files in _FILES]
        api.snapshot_download(repo, revision=commit, local_dir=folder, allow_patterns=patterns)
        return folder / wanted
    raise AssertionError  # hub_errors raised
