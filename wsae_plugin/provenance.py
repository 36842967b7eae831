"""What the numbers of a run depend on beside its config: versions and revision."""

from __future__ import annotations

import os
import platform
import subprocess

import sae_lens
import torch
import transformers

import wsae_plugin


def versions() -> dict[str, str]:
    """Of everything that the numbers of a run depend on."""
    return {
        "wsae-plugin": wsae_plugin.__version__,
        "sae-lens": sae_lens.__version__,
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


def git_revision() -> str | None:
    """Of the working folder, with `-dirty` where it is known to be; None outside a repository.

    A repository can name programs that git runs to see whether files have changed. One that came
    from elsewhere must not, so of a repository with filters of its own only the revision is told.
    """
    head = _git("rev-parse", "--verify", "--quiet", "HEAD")
    if head is None or head.returncode != 0:
        return None
    revision = head.stdout.strip()
    filters = _git("config", "--show-scope", "--get-regexp", r"^filter\.")
    if filters is None or filters.returncode > 1:
        return revision
    if any(not line.startswith(("global", "system")) for line in filters.stdout.splitlines()):
        return revision
    changes = _git("diff-index", "--quiet", "--ignore-submodules=all", "HEAD", "--")
    is_dirty = changes is not None and changes.returncode == 1
    return f"{revision}-dirty" if is_dirty else revision


def _git(*arguments: str) -> subprocess.CompletedProcess[str] | None:
    settings = ("core.fsmonitor=false", f"core.hooksPath={os.devnull}", "protocol.allow=never")
    options = [word for setting in settings for word in ("-c", setting)]
    try:
        return subprocess.run(
            ["git", *options, *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
