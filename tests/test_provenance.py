"""What the numbers of a run depend on, without running what a repository names."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from wsae_plugin.provenance import git_revision


def git(*arguments: str) -> str:
    own = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    done = subprocess.run(["git", *own, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-q", "-m", "first")
    return tmp_path


def test_the_revision_and_whether_anything_has_changed(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = git("rev-parse", "HEAD")
    assert git_revision() == revision
    (repository / "file").touch()
    (repository / "another").touch()
    assert git_revision() == revision
    (repository / "file").write_text("two")
    assert git_revision() == f"{revision}-dirty"
    git("add", "file")
    assert git_revision() == f"{revision}-dirty"
    monkeypatch.chdir(repository.parent)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(repository.parent.parent))
    assert git_revision() is None
    monkeypatch.setenv("PATH", str(repository))
    assert git_revision() is None


def plant(repository: Path, made: Path) -> None:
    """Every program that git would run to look at the files."""
    touch = f"touch {made}"
    git("config", "core.fsmonitor", f"{touch}; false")
    git("config", "filter.planted.clean", f"{touch}; cat")
    (repository / ".git" / "info" / "attributes").write_text("file filter=planted")
    hook = repository / ".git" / "hooks" / "post-index-change"
    hook.write_text(f"#!/bin/sh\n{touch}\n")
    hook.chmod(0o755)
    (repository / "file").touch()


def test_a_repository_from_elsewhere_runs_nothing(repository: Path) -> None:
    revision, made = git("rev-parse", "HEAD"), repository / "made"
    plant(repository, made)
    assert git_revision() == revision
    assert not made.exists()
    (repository / "file").touch()
    git("describe", "--always", "--dirty")
    assert made.exists(), "what is planted would run"
