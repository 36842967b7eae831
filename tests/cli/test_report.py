"""`wsae report`: the files, what it prints, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tests.report.made_up import Plan, change_json, write_comparison
from wsae_plugin.cli.report import report
from wsae_plugin.errors import BadInputError

app = typer.Typer()
app.command()(report)

PLAN = Plan({"alpha-1": {"ce_loss_score": 0.02}}, layers=(1,))


def run(*arguments: object) -> str:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(
        app, list(map(str, arguments)), catch_exceptions=False
    )
    assert result.exit_code == 0
    return result.stdout


def test_the_files_lie_in_the_comparison(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c", PLAN, bench=True)
    stdout = run(folder)
    for name in ("report.html", "report.md", "report.json"):
        assert (folder / name).is_file()
        assert str(folder / name) in stdout
    assert "WSAE, α = 1: of 3 metrics, clearly better in 1 (CE loss score +0.02" in stdout
    assert stdout.startswith("Weighting by the variance made reconstruction better")
    # What the verdict means by its words: the test and its correction.
    said = " ".join(stdout.split())
    assert "below 0.05 after Holm's correction (3 tests of weighted arms, 3 tests of cont" in said
    before = {file: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    run(folder)
    assert {file: file.read_bytes() for file in before} == before


def test_rows_of_one_label_are_told_apart(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c", PLAN)

    def rename(document: dict[str, Any]) -> None:
        document["scores"][1]["label"] = "explained variance"

    for file in folder.glob("runs/*/scores/saebench.json"):
        change_json(file, rename)
    stdout = run(folder)
    assert "explained variance (held-out data) ↑ " in stdout
    assert "explained variance (SAEBench core) ↑ " in stdout


def test_json_goes_elsewhere_and_is_the_file(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c", PLAN)
    output = tmp_path / "new" / "site"
    printed = json.loads(run(folder, "--output", output, "--json"))
    assert printed == json.loads((output / "report.json").read_text(encoding="utf-8"))
    assert {file.name for file in output.iterdir()} == {"report.html", "report.md", "report.json"}
    assert not (folder / "report.json").exists()


def test_no_path_of_the_machine_is_in_a_report(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c", PLAN)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["command"] = f"wsae compare {tmp_path}/mine.yaml --output {folder}"
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert json.loads(run(folder, "--json"))["command"] == "wsae compare mine.yaml --output c"
    for name in ("report.html", "report.md", "report.json"):
        assert str(tmp_path) not in (folder / name).read_text(encoding="utf-8")


def test_gaps_are_said_aloud(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c", PLAN, bench=False)
    sae = folder / "runs" / "layer-1-k-32-alpha-1-seed-0" / "sae" / "cfg.json"
    sae.write_text(json.dumps({"d_sae": 128}))
    stdout = run(folder)
    assert "not paired: layer-1-k-32-alpha-1-seed-0: d_sae: 128 against 64" in stdout
    assert "missing: all runs: no scores/saebench.json: `wsae bench` has not been run" in stdout


def test_what_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        BadInputError, match="no such folder; give a folder of SAEs, a run or a comp"
    ):
        run(tmp_path / "nothing")
    folder = write_comparison(tmp_path / "c", PLAN)
    with pytest.raises(BadInputError, match="is a file; give a folder"):
        run(folder, "--output", tmp_path / "file")
    assert not (folder / "report.json").exists()
