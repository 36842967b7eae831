"""What the numbers of a run depend on, without running what a repository names."""

from __future__ import annotations

import os
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
    os.utime(repository / "file", (0, 0))
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


def test_a_repository_s_programs_for_other_commands_are_not_run(repository: Path) -> None:
    revision, made = git("rev-parse", "HEAD"), repository / "made"
    (repository / ".git" / "info" / "attributes").write_text("file diff=planted merge=planted")
    (repository / "file").write_text("two")
    names = ("diff.external", "diff.planted.command", "diff.planted.textconv", "core.pager")
    commands = ("alias.rev-parse", "alias.diff", "pager.diff", "credential.helper")
    for name in (*names, *commands):
        git("config", name, f"{'!' * (name in commands)}touch {made}; true")
    assert git_revision() == f"{revision}-dirty"
    assert not made.exists()
    git("diff", "HEAD")
    assert made.exists(), "what is planted would run"


def test_a_filter_of_the_user_s_own_runs_no_extension_of_a_repository(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git LFS runs the extensions that a repository names."""
    revision, made, own = git("rev-parse", "HEAD"), repository / "made", repository / "own"
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(own))
    git("config", "--global", "filter.lfs.clean", f"touch {made}; cat")
    (repository / ".git" / "info" / "attributes").write_text("file filter=lfs")
    (repository / "file").write_text("two")
    assert git_revision() == f"{revision}-dirty"
    made.unlink()
    git("config", "lfs.extension.planted.clean", f"touch {made}; cat")
    assert git_revision() == revision
    assert not made.exists()


def test_a_repository_from_elsewhere_runs_nothing(repository: Path) -> None:
    revision, made = git("rev-parse", "HEAD"), repository / "made"
    plant(repository, made)
    assert git_revision() == revision
    assert not made.exists()
    (repository / "file").touch()
    git("describe", "--always", "--dirty")
    assert made.exists(), "what is planted would run"


FETCHED = {
    "a command": ("ext::{touch}", {"protocol.ext.allow": "always"}),
    "a helper": ("{touch}", {"remote.origin.vcs": "ext", "protocol.ext.allow": "always"}),
    "ssh": ("host:path", {"core.sshCommand": "{touch};", "protocol.ssh.allow": "always"}),
    "a folder": (".", {"remote.origin.uploadpack": "{touch};", "protocol.file.allow": "always"}),
}


@pytest.mark.parametrize(("url", "settings"), FETCHED.values(), ids=FETCHED)
def test_a_repository_without_its_objects_runs_nothing_to_fetch_them(
    url: str, settings: dict[str, str], repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision, made = git("rev-parse", "HEAD"), repository / "made"
    tree = git("rev-parse", "HEAD^{tree}")
    (repository / ".git" / "index").unlink()
    (repository / ".git" / "objects" / tree[:2] / tree[2:]).unlink()
    for name, value in {
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.promisor": "true",
        "remote.origin.url": url,
        **settings,
    }.items():
        git("config", name, value.format(touch=f"touch {made}"))
    assert git_revision() == revision
    # The environment suffices alone, as does the look at the settings.
    monkeypatch.setattr("wsae_plugin.provenance._PROGRAMS", "^nothing$")
    assert git_revision() == revision
    assert not made.exists()
    with pytest.raises(subprocess.CalledProcessError):
        git("diff", "--quiet", "HEAD", "--")
    assert made.exists(), "what is planted would run"
