"""`wsae push`: its flags and its errors. What goes up is tested in tests/hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from wsae_plugin.cli.push import push
from wsae_plugin.errors import BadInputError
from wsae_plugin.hub.bundle import Bundle

app = typer.Typer(context_settings={"terminal_width": 100, "max_content_width": 100})
app.command()(push)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a wrong request must not reach the Hub")

    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", refuse)
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)


def refused(*arguments: object) -> str:
    with pytest.raises(BadInputError) as error:
        CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    return str(error.value)


def test_help_teaches() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    page = " ".join(result.stdout.split())
    for word in (
        *("--repo", "--private", "--revision", "--dry-run", "--force", "--baseline", "--json"),
        *("SAE.from_pretrained", "hf auth login", "No path of this machine", "Exit codes"),
    ):
        assert word in page


@pytest.mark.parametrize("missing", [["run"], ["--repo", "me/mine"]])
def test_runs_and_repository_are_needed(missing: list[str]) -> None:
    result = CliRunner().invoke(app, missing)
    assert result.exit_code == 2
    assert ("RUN" if "--repo" in missing else "--repo") in result.output


@pytest.mark.parametrize(
    "repo", ["mine", "me/mine/more", "me/../mine", "https://hf.co/me/mine", ""]
)
def test_a_repository_is_user_and_name(tmp_path: Path, repo: str) -> None:
    assert f"--repo {repo}" in refused(tmp_path, "--repo", repo)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    assert "no such folder" in refused(tmp_path / "nowhere", "--repo", "me/mine")
    (tmp_path / "sae_weights.safetensors").write_bytes(b"")
    assert "holds no SAE (no cfg.json)" in refused(tmp_path, "--repo", "me/mine")


def test_of_many_saes_the_folders_are_listed() -> None:
    files = {"README.md": b"ab", "a/cfg.json": b"123", "a/eval.json": b"4", "b/cfg.json": b"5"}
    bundle = Bundle(files, {})
    assert bundle.listed(2) == {name: len(text) for name, text in files.items()}
    assert bundle.listed(1) == {"README.md": 2, "a/ (2 files)": 4, "b/ (1 files)": 1}
