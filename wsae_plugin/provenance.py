"""What the numbers of a run depend on beside its config: versions and revision."""

from __future__ import annotations

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
    """Of the working folder, with `-dirty` where it applies; None outside a repository."""
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None
