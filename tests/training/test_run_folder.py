"""The record of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.training.tiny import TinyWorld, write_config
from wsae_plugin.errors import BadInputError
from wsae_plugin.training.config import RunConfig, load_run_config
from wsae_plugin.training.run_folder import RunFolder


@pytest.fixture
def config(world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    file = tmp_path_factory.mktemp("config") / "config.yaml"
    return load_run_config(write_config(file, world.language_model()))


def test_a_new_or_empty_folder_may_be_used(config: RunConfig, tmp_path: Path) -> None:
    RunFolder(tmp_path).check(config, resume=False)
    RunFolder(tmp_path / "new").check(config, resume=False)
    assert not (tmp_path / "new").exists()


def test_other_folders_may_not(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInputError, match="is not empty"):
        RunFolder(tmp_path).check(config, resume=False)
    with pytest.raises(BadInputError, match="is a file"):
        RunFolder(tmp_path / "file").check(config, resume=False)
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(BadInputError, match="run.json: must be an object"):
        RunFolder(tmp_path).check(config, resume=False)


def test_start_and_end(config: RunConfig, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "a" / "run")
    folder.start(config, "wsae train", None)
    first = json.loads(folder.record_file.read_text())
    assert (first["status"], first["ended"], first["resumed_from"]) == ("running", None, [])
    with pytest.raises(BadInputError, match=r"already holds a run \(running\); continue it with"):
        folder.check(config, resume=False)
    folder.end("failed", error="why")
    folder.start(config, "wsae train --resume", Path("checkpoints/640"))
    second = json.loads(folder.record_file.read_text())
    assert second["started"] == first["started"]
    assert second["resumed_from"] == ["640"]
    assert "error" not in second
    folder.end("finished")
    with pytest.raises(BadInputError, match=r"\(finished\); choose another folder"):
        folder.check(config, resume=False)


def test_what_cannot_be_resumed(config: RunConfig, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(BadInputError, match="holds no run"):
        folder.start_of(config, resume=True)
    folder.start(config, "", None)
    assert folder.start_of(config, resume=True) is None
    folder.record_file.write_text('{"status": "running"}')
    with pytest.raises(BadInputError, match="run.json: run.config: missing"):
        folder.start_of(config, resume=True)


def test_an_edit_of_the_runs_own_config_is_not_ignored(config: RunConfig, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.start(config, "", None)
    text = folder.config_file.read_text()
    before, now = config.values["lr"], 2 * config.values["lr"]
    folder.config_file.write_text(text.replace(f"\nlr: {before}\n", f"\nlr: {now}\n"))
    with pytest.raises(BadInputError, match=f"lr was {before} and is now {now}; undo the change"):
        folder.start_of(load_run_config(folder.config_file), resume=True)


def test_metrics_beyond_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.keep_metrics_up_to(3)
    assert not folder.metrics_file.exists()
    folder.metrics_file.write_text('{"step": 2}\n{"step": 4}\n{"st')
    folder.keep_metrics_up_to(3)
    assert folder.metrics_file.read_text() == '{"step": 2}\n'
