"""`wsae toy`: what the commands write, say and refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from wsae_plugin.cli.toy import toy
from wsae_plugin.errors import BadInputError

SMALL = ["--seeds", "2", "--steps", "2", "--n-features", "14", "--d-in", "4", "--threads", "1"]
FIGURES = {
    "fig2": {"fig2.png"},
    "fig3": {"fig3.png", "fig3_difference.png"},
    "proxies": {"proxies.png"},
    "alpha": {"alpha.png"},
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_command_writes_json_and_figures_and_gives_a_verdict(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)  # as in a pipe, where no line is wrapped
    threads = torch.get_num_threads()
    folder = tmp_path / "out"
    result = CliRunner().invoke(toy, [name, "--output", str(folder), *SMALL])
    assert result.exit_code == 0, result.output
    assert {path.name for path in folder.iterdir()} == {
        "cells",
        "config.json",
        f"{name}.json",
        f"{name}.md",
        *FIGURES[name],
    }
    assert all((folder / figure).stat().st_size > 10_000 for figure in FIGURES[name])
    written, page = json.loads((folder / f"{name}.json").read_text()), folder / f"{name}.md"
    assert written["title"] in result.stdout.replace("\n", " ")
    assert len(written["verdict"]) == 3
    said = result.stdout.splitlines()
    assert said[-4:] == [*written["verdict"], f"What it rests on, with the figures: {page}"]
    text = page.read_text(encoding="utf-8")
    assert " ".join(written["verdict"]).replace("_", "\\_") in text
    assert all(f"]({figure})" in text for figure in FIGURES[name])
    assert text.count("\n- ") == len(written["evidence"])
    assert torch.get_num_threads() == threads


def test_json_on_stdout_is_the_file(tmp_path: Path) -> None:
    arguments = ["fig2", "--output", str(tmp_path / "out"), "--json", *SMALL]
    result = CliRunner().invoke(toy, arguments, catch_exceptions=False)
    assert json.loads(result.stdout) == json.loads((tmp_path / "out" / "fig2.json").read_text())


def test_a_wrong_request_writes_nothing(tmp_path: Path) -> None:
    arguments = ["fig2", "--output", str(tmp_path / "out"), "--n-features", "4", "--d-in", "4"]
    with pytest.raises(BadInputError, match="nothing is superposed"):
        CliRunner().invoke(toy, arguments, catch_exceptions=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", FIGURES)
def test_help_teaches(name: str) -> None:
    shown = " ".join(CliRunner().invoke(toy, [name, "--help"]).stdout.split())
    assert "Exit codes" in shown and "--n-features" in shown


def test_the_gba_study_writes_tables_and_figures(tmp_path: Path) -> None:
    small = ["--seeds", "2", "--steps", "10", "--n-features", "32", "--d-in", "8", "--d-sae", "64"]
    folder = tmp_path / "out"
    arguments = ["gba", "--output", str(folder), "--jobs", "1", *small]
    result = CliRunner().invoke(toy, arguments, catch_exceptions=False)
    figures = {"recovery.png", "training.png", "thresholds.png", "resonance.png"}
    written = {"cells", "config.json", "gba.json", "gba.md"} | figures
    assert {path.name for path in folder.iterdir()} == written
    assert "Group Bias Adaptation" in result.stdout and f"{folder / 'gba'}.md" in result.stdout
    assert len(json.loads((folder / "gba.json").read_text())["verdict"]) == 3
    again = CliRunner().invoke(toy, [*arguments, "--json"], catch_exceptions=False)
    assert json.loads(again.stdout) == json.loads((folder / "gba.json").read_text())
