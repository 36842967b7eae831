"""`wsae card`: its flags and its errors. What a card says is tested in tests/hub."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from wsae_plugin.cli.card import card
from wsae_plugin.errors import BadInputError
from wsae_plugin.hub.remeasure import not_measured

app = typer.Typer(context_settings={"terminal_width": 100, "max_content_width": 100})
app.command()(card)


def refused(*arguments: object) -> str:
    with pytest.raises(BadInputError) as error:
        CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    return str(error.value)


def test_help_teaches() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    page = " ".join(result.stdout.split())
    for word in (
        *("--output", "--repo", "--author", "--license", "--language", "--baseline", "--json"),
        *("wsae eval runs/topk", "wsae card comparison", "Exit codes", "one by one"),
    ):
        assert word in page


def test_a_run_is_needed() -> None:
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 2
    assert "RUN" in result.output


@pytest.mark.parametrize("content", ["# My own card\n", ""])
def test_a_card_written_by_hand_stays(tmp_path: Path, content: str) -> None:
    file = tmp_path / "README.md"
    file.write_text(content)
    assert "by hand" in refused(tmp_path / "run", "--output", file)
    assert file.read_text() == content


def test_the_request_is_checked_before_anything_is_written(tmp_path: Path) -> None:
    output = tmp_path / "card" / "README.md"
    assert "is a folder" in refused(tmp_path / "run", "--output", tmp_path)
    assert "must be user/name" in refused(tmp_path, "--repo", "name", "--output", output)
    assert "--repo a b/c" in refused(tmp_path, "--repo", "a b/c", "--output", output)
    assert "no such folder" in refused(tmp_path / "nowhere", "--output", output)
    assert "neither a comparison folder" in refused(tmp_path, "--output", output)
    assert not output.parent.exists()


def test_reasons_are_said_once() -> None:
    assert not_measured({}) == []
    assert not_measured({"a": "no model", "b": "no text", "c": "no model"}) == [
        "a, c: scores not measured again: no model",
        "b: scores not measured again: no text",
    ]
    (line,) = not_measured(dict.fromkeys("abcde", "no model"))
    assert line.startswith("a, b, c and 2 more:")
