"""`wsae verify`: its flags, its output and its exit codes. The comparison is in tests/hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from wsae_plugin.cli.verify import verify
from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.hub.remeasure import Difference
from wsae_plugin.hub.verify import Verification

app = typer.Typer(context_settings={"terminal_width": 100, "max_content_width": 100})
app.command()(verify)

GOOD = Verification("me/mine", "abc", 7, ["a"], {"b": "no model", "c": "no model"}, [])
BAD = Verification("me/mine", "abc", 7, ["a"], {}, [Difference("a", "l0", "8", "9")])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the command asks of `wsae_plugin.hub.verify`; `bad` differs from its record."""
    calls: list[tuple[Any, ...]] = []

    def answer(*arguments: Any) -> Verification:
        calls.append(arguments)
        return BAD if arguments[0] == "bad" else GOOD

    monkeypatch.setattr("wsae_plugin.hub.verify.verify", answer)
    return calls


def test_help_teaches() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    page = " ".join(result.stdout.split())
    for word in ("--revision", "--dataset", "--json", "sha256", "plain SAELens", "Exit codes"):
        assert word in page


def test_all_options_are_passed_on(asked: list[tuple[Any, ...]]) -> None:
    CliRunner().invoke(app, ["me/mine", "--revision", "v1", "--dataset", "x.jsonl"])
    assert asked == [("me/mine", "v1", "x.jsonl")]


@pytest.mark.usefixtures("asked")
def test_what_was_measured_and_what_not() -> None:
    result = CliRunner().invoke(app, ["me/mine"])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "b, c: scores not measured again: no model",
        "me/mine: 7 files and 1 SAEs are as recorded",
    ]


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_difference_is_shown_and_is_a_failure(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RunFailedError, match="1 things are not as recorded"):
        app(["bad", *flags], standalone_mode=False)
    shown = capsys.readouterr().out
    assert "recorded" in shown
    if flags:
        assert json.loads(shown)["differences"] == [
            {"sae_id": "a", "what": "l0", "recorded": "8", "found": "9"}
        ]


@pytest.mark.usefixtures("asked")
def test_json_is_all_of_stdout() -> None:
    document = json.loads(CliRunner().invoke(app, ["me/mine", "--json"]).stdout)
    assert document["not_measured"] == {"b": "no model", "c": "no model"}
    assert document["revision"] == "abc"


def test_what_cannot_be_verified(tmp_path: Path) -> None:
    for arguments, message in (
        ([str(tmp_path), "--revision", "v1"], "is a folder and has none"),
        ([str(tmp_path)], "`wsae push` makes it"),
        ([str(tmp_path / "no" / "such")], "REPO_OR_FOLDER"),
        (["mine"], "must be user/name"),
        (["hf://me/mine/sae"], "is compared as a whole; leave out /sae"),
        (["hf://me/mine@v1", "--revision", "v2"], "names one too; leave one out"),
        (["hf://spaces/me/mine"], "is a space"),
    ):
        with pytest.raises(BadInputError, match=message):
            CliRunner().invoke(app, arguments, catch_exceptions=False)
