"""`wsae claims`: the table, the files, and the exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from wsae_plugin.cli import main
from wsae_plugin.cli.main import app
from wsae_plugin.errors import BadInputError
from wsae_plugin.toy.claims import ledger as ledger_module
from wsae_plugin.toy.claims import ledger_markdown


def run(*arguments: object) -> str:
    command = ["-q", "claims", *map(str, arguments)]
    result = CliRunner(env={"COLUMNS": "140"}).invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_the_table_says_why() -> None:
    stdout = run("--only", "v1-theorem-3", "--only", "v1-example-1")
    assert "refuted as printed" in stdout
    assert "needed ≤ 1e-12" in stdout
    ledger = json.loads(run("--only", "v1-theorem-3", "--only", "v1-example-1", "--json"))
    told = " ".join(stdout.split())
    for claim in ledger["claims"]:
        said = f"{claim['id']}: {claim['verdict']} States: {claim['statement']} Found: "
        assert " ".join(said.split()) in told
    assert "2 claims: 1 holds, 0 holds under a stated extra condition, 1 refuted" in stdout


def test_json_is_the_file_and_the_page_is_made_from_it(tmp_path: Path) -> None:
    output, markdown = tmp_path / "claims.json", tmp_path / "claims.md"
    stdout = run("--only", "v1-example-1", "--json", "--output", output, "--markdown", markdown)
    ledger: dict[str, Any] = json.loads(stdout)
    assert json.loads(output.read_text()) == ledger
    assert markdown.read_text() == ledger_markdown(ledger)
    (claim,) = ledger["claims"]
    assert claim["id"] == "v1-example-1"
    assert claim["seconds"] >= 0


def test_an_unknown_claim_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["wsae", "-q", "claims", "--only", "theorem-9"])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 2
    assert "--only theorem-9: no such claim" in capsys.readouterr().err


def test_a_crash_is_a_failure_that_names_the_claim(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash() -> Any:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setitem(ledger_module.CLAIMS, "v1-example-1", crash)
    monkeypatch.setattr("sys.argv", ["wsae", "-q", "claims", "--only", "v1-example-1"])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("wsae: claim v1-example-1: its check crashed")


def test_paths_are_checked_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="--output .*: is a folder"):
        run("--output", tmp_path)
    with pytest.raises(BadInputError, match="--markdown .*: there is no folder"):
        run("--markdown", tmp_path / "missing" / "claims.md")
