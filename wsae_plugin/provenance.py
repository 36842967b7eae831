"""What the numbers of a run depend on beside its config: versions and revision."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version

from wsae_plugin import __version__

_PROGRAMS = r"^(filter|lfs\.extension)\.|^extensions\.partialclone$|^remote\..*\.promisor$"
"""Settings that have git run programs to look at files and objects."""
_SETTINGS = ("core.fsmonitor=false", f"core.hooksPath={os.devnull}")
# No setting of a repository outranks these: no protocol to fetch with, and nothing is fetched.
_ENVIRONMENT = {"GIT_ALLOW_PROTOCOL": "", "GIT_NO_LAZY_FETCH": "1"}


def versions() -> dict[str, str]:
    """Of everything that the numbers of a run depend on."""
    found = {name: version(name) for name in ("sae-lens", "torch", "transformers")}
    return {"wsae-plugin": __version__, **found, "python": platform.python_version()}


def git_revision() -> str | None:
    """Of the working folder, with `-dirty` where it is known to be; None outside a repository.

    A repository can name programs that git runs to see whether files have changed. One that came
    from elsewhere must not, so of a repository with filters, extensions of Git LFS or
    objects left to fetch, only the revision is told.
    """
    head = _git("rev-parse", "--verify", "--quiet", "HEAD")
    if head is None or head.returncode != 0:
        return None
    revision = head.stdout.strip()
    programs = _git("config", "--show-scope", "--get-regexp", _PROGRAMS)
    if programs is None or programs.returncode > 1:
        return revision
    if any(not line.startswith(("global", "system")) for line in programs.stdout.splitlines()):
        return revision
    # It compares what the files hold where only their times have changed, as `diff-index` does not.
    options = ("--quiet", "--ignore-submodules=all", "--no-ext-diff", "--no-textconv")
    changes = _git("diff", *options, "HEAD", "--")
    is_dirty = changes is not None and changes.returncode == 1
    return f"{revision}-dirty" if is_dirty else revision


def _git(*arguments: str) -> subprocess.CompletedProcess[str] | None:
    options = [word for setting in _SETTINGS for word in ("-c", setting)]
    try:
        return subprocess.run(
            ["git", *options, *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
            env=os.environ | _ENVIRONMENT,
        )
    except (OSError, subprocess.SubprocessError):
        return None
