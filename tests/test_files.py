"""Files that are whole or absent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wsae_plugin.errors import BadInputError
from wsae_plugin.files import (
    folder_written_whole,
    link_out_of,
    refuse_links,
    refuse_output,
    sha256_of,
    write_json_atomic,
    write_text_atomic,
)


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


def test_a_folder_is_there_when_it_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    for content in ("one", "two"):
        left = folder.with_name(".b.partial")
        (left / "of a writer that was killed").mkdir(parents=True)
        before = folder.exists()
        with folder_written_whole(folder) as partial:
            assert list(partial.iterdir()) == []
            (partial / content).touch()
            assert folder.exists() == before
        assert [path.name for path in folder.iterdir()] == [content]
    with pytest.raises(OSError, match="no space"), folder_written_whole(folder) as partial:
        (partial / "three").touch()
        raise OSError("no space")
    assert list((tmp_path / "a").iterdir()) == [folder]
    assert [path.name for path in folder.iterdir()] == ["two"]


def test_links_that_lead_out(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "file").touch()
    (folder / "within").symlink_to(folder / "a")
    (folder / "a" / "up").symlink_to("../a/file")
    (folder / "ring").symlink_to("ring")
    (tmp_path / "asked").symlink_to(folder)
    assert link_out_of(folder) is None
    assert link_out_of(tmp_path / "asked") is None
    for target in ("/etc", "../../run2", "../../nowhere", str(tmp_path)):
        (folder / "a" / "out").symlink_to(target)
        assert link_out_of(folder) == folder / "a" / "out"
        (folder / "a" / "out").unlink()


def test_what_belongs_to_a_folder(tmp_path: Path) -> None:
    """The blobs beside a snapshot in the Hub's cache, and what nobody reads."""
    snapshot = tmp_path / "models--me--mine" / "snapshots" / "abc"
    blobs, elsewhere = tmp_path / "models--me--mine" / "blobs", tmp_path / "elsewhere"
    for folder in (snapshot, blobs, elsewhere):
        folder.mkdir(parents=True)
    (snapshot / "cfg.json").symlink_to("../../blobs/123")
    (snapshot / "layer" / "sae").mkdir(parents=True)
    (snapshot / "layer" / "sae" / "cfg.json").symlink_to("../../../../blobs/123")
    for folder in (snapshot, snapshot / "layer", snapshot / "layer" / "sae"):
        refuse_links(folder)
    (snapshot / "other").symlink_to(elsewhere)
    with pytest.raises(BadInputError, match=f"{snapshot / 'other'}: is a link that leads out of"):
        refuse_links(snapshot)
    cache = tmp_path / "run" / "saebench" / "cache"
    (cache / "local").mkdir(parents=True)
    (cache / "local" / "model").symlink_to(elsewhere)
    refuse_links(tmp_path / "run")
    refuse_links(cache.parent, unread="cache")
    with pytest.raises(BadInputError, match="cache/local/model"):
        refuse_links(cache)
    (tmp_path / "run" / "cache").symlink_to(elsewhere)
    with pytest.raises(BadInputError, match="run/cache"):
        refuse_links(tmp_path / "run")


def test_what_is_in_the_way_of_an_output_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file, folder = Path("file"), tmp_path / "folder"
    file.touch()
    folder.mkdir()
    for path in (Path("new"), folder / "a" / "b", folder):
        refuse_output("--output", path)
    for path in (Path("new"), folder / "a" / "b", file):
        refuse_output("--output", path, is_folder=False)
    with pytest.raises(BadInputError, match="^--plot file: is a file; give a folder$"):
        refuse_output("--plot", file)
    with pytest.raises(BadInputError, match="folder: is a folder; give a file$"):
        refuse_output("--output", folder, is_folder=False)
    for is_folder in (True, False):
        with pytest.raises(BadInputError, match=r"file/x/y: .*/file is a file; give a folder$"):
            refuse_output("--output", file / "x" / "y", is_folder)


def test_the_sha256_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    # The first example of FIPS 180-2.
    assert sha256_of(tmp_path / "file").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_a_folder_that_is_there_only_once_a_part_of_it_is_made_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError), folder_written_whole(Path("new/..")):
        pass
    assert (tmp_path / "mine.txt").read_text() == "kept"
