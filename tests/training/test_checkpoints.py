"""Which folders count as checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsae_plugin.training.checkpoints import (
    discard_half_written,
    is_complete,
    keep_newest,
    newest_checkpoint,
)

OF_AN_SAE = ("sae_weights.safetensors", "trainer_state.pt")


def make(checkpoint: Path, saes: tuple[str, ...] = ("",), last: str = "runner_cfg.json") -> Path:
    for sae in saes:
        (checkpoint / sae).mkdir(parents=True, exist_ok=True)
        for name in OF_AN_SAE:
            (checkpoint / sae / name).touch()
    (checkpoint / last).touch()
    return checkpoint


def test_checkpoints_of_every_kind_of_run(tmp_path: Path) -> None:
    assert is_complete(make(tmp_path / "one"))
    assert is_complete(make(tmp_path / "several", ("a", "b")))
    assert is_complete(make(tmp_path / "synthetic", last="runner_config.json"))


@pytest.mark.parametrize("missing", [*OF_AN_SAE, "runner_cfg.json"])
@pytest.mark.parametrize("saes", [("",), ("a", "b")], ids=["one", "several"])
def test_half_a_checkpoint_is_none(tmp_path: Path, saes: tuple[str, ...], missing: str) -> None:
    checkpoint = make(tmp_path / "1", saes)
    in_sae = checkpoint / saes[-1] / missing
    (in_sae if in_sae.exists() else checkpoint / missing).unlink()
    assert not is_complete(checkpoint)


def test_the_newest_complete_one_by_number(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "none") is None
    assert newest_checkpoint(tmp_path) is None
    for name in ("900", "1000", ".3000.partial", "final_4000"):
        make(tmp_path / name)
    (tmp_path / "2000").mkdir()
    assert newest_checkpoint(tmp_path) == tmp_path / "1000"
    assert not is_complete(tmp_path / ".3000.partial")


def test_the_newest_are_kept(tmp_path: Path) -> None:
    """By number, and nothing but whole checkpoints is counted or removed."""
    keep_newest(tmp_path / "none", 1)
    for name in ("900", "1000", "20", "final_4000"):
        make(tmp_path / name)
    (tmp_path / "2000").mkdir()
    for n, kept in ((5, {"20", "900", "1000"}), (2, {"900", "1000"}), (1, {"1000"})):
        keep_newest(tmp_path, n)
        assert {path.name for path in tmp_path.iterdir()} == kept | {"2000", "final_4000"}


def test_half_of_one_is_removed(tmp_path: Path) -> None:
    discard_half_written(tmp_path / "none")
    for name in ("900", ".1000.partial"):
        make(tmp_path / name)
    discard_half_written(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["900"]
