"""Files that are whole or absent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wsae_plugin.files import write_json_atomic, write_text_atomic


def test_what_is_written_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    write_text_atomic(path, "one")
    write_text_atomic(path, "two\nγ")
    assert path.read_text(encoding="utf-8") == "two\nγ"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    write_json_atomic(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json_atomic(path, {"a": float("nan")})
    with pytest.raises(UnicodeEncodeError):
        write_text_atomic(path, "half \ud800")
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_the_result_is_as_readable_as_any_other_file(tmp_path: Path) -> None:
    write_text_atomic(tmp_path / "ours", "x")
    (tmp_path / "plain").write_text("x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode
