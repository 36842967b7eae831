"""What goes wrong around a run: full disks, damaged files, numbers that are none, a second run."""

from __future__ import annotations

import errno
import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import wsae_plugin.training.checkpoints as checkpoints_module
import wsae_plugin.training.output_folder as output_folder_module
from tests.training.tiny import BATCH, TinyWorld, sae, write_config
from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.training import load_run_config
from wsae_plugin.training.output_folder import lock
from wsae_plugin.training.train import TrainedRun, train
from wsae_plugin.training.trainer import WeightedSAETrainer

pytestmark = pytest.mark.filterwarnings("ignore:All samples in the training dataset")


@pytest.fixture
def run(world: TinyWorld, tmp_path: Path) -> Callable[..., TrainedRun]:
    """Train on the synthetic model, ten steps with checkpoints after the 4th and the 7th."""

    def run(resume: bool = False, name: str = "run", **changes: Any) -> TrainedRun:
        values = world.synthetic(n_checkpoints=2, logger={"wandb_log_frequency": 100}, **changes)
        config = write_config(tmp_path / "config.yaml", values)
        return train(load_run_config(config), tmp_path / name, resume=resume)

    return run


def checkpoint_names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def assert_same_weights(a: Path, b: Path) -> None:
    one, other = (load_file(path / "sae" / "sae_weights.safetensors") for path in (a, b))
    assert all(torch.equal(one[name], other[name]) for name in one)


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_is_full_while_a_checkpoint_is_saved(
    run: Callable[..., TrainedRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint before stays, half of one does not, and the run goes on to the same end."""
    run(name="whole")
    folder = tmp_path / "run"
    saved = checkpoints_module.save_file

    def save_once(*arguments: Any) -> None:
        if any(name.isdecimal() for name in checkpoint_names(folder)):
            # Not even the run's record can be written any more.
            monkeypatch.setattr(output_folder_module, "write_json_atomic", no_space)
            no_space()
        saved(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints_module, "save_file", save_once)
        with pytest.raises(RunFailedError, match="No space left on device.*--resume"):
            run()
    monkeypatch.undo()
    assert len(checkpoint_names(folder)) == 1
    run(resume=True)
    assert_same_weights(tmp_path / "whole", folder)


def test_a_folder_that_cannot_be_written(
    run: Callable[..., TrainedRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInputError, match="--output .*/file is a file; give a folder"):
        run(name="file/run")
    with monkeypatch.context() as patched:
        # As if the file had come after the first look.
        patched.setattr(output_folder_module, "refuse_output", lambda *_: None)
        with pytest.raises(BadInputError, match="cannot be written: Not a directory"):
            run(name="file/run")
    monkeypatch.setattr(output_folder_module, "write_json_atomic", no_space)
    with pytest.raises(BadInputError, match="cannot be written: No space left"):
        run()
    assert not (tmp_path / "run" / "config.yaml").exists()
    monkeypatch.undo()
    run()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_after_gamma_is_frozen(
    run: Callable[..., TrainedRun],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    value: float,
) -> None:
    """No checkpoint has the NaN that follows, and the last one goes on."""
    section = sae(gamma_freeze_step=2)
    run(name="whole", sae=section)
    step = WeightedSAETrainer.step

    def spoiled(self: WeightedSAETrainer, batch: Tensor) -> Any:
        return step(self, batch.fill_(value) if self.n_training_steps == 5 else batch)

    with monkeypatch.context() as patched:
        patched.setattr(WeightedSAETrainer, "step", spoiled)
        with pytest.raises(RunFailedError, match="not finite after step 7.*activations"):
            run(sae=section)
    assert len(checkpoint_names(tmp_path / "run")) == 1
    run(resume=True, sae=section)
    assert_same_weights(tmp_path / "whole", tmp_path / "run")


def test_dimensions_that_are_zero_or_constant(
    run: Callable[..., TrainedRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = WeightedSAETrainer.step

    def flattened(self: WeightedSAETrainer, batch: Tensor) -> Any:
        batch[:, 0], batch[:, 1] = 0, 3
        return step(self, batch)

    monkeypatch.setattr(WeightedSAETrainer, "step", flattened)
    for alpha in (1.0, -1.0):
        name = f"alpha{alpha}"
        run(name=name, sae=sae(alpha=alpha))
        tensors = load_file(tmp_path / name / "sae" / "gamma.safetensors")
        gamma, variance = tensors["gamma"].double(), tensors["variance"].double()
        assert torch.isfinite(gamma).all()
        assert (gamma.square() * variance).sum() == pytest.approx(variance.sum().item(), rel=1e-5)


def test_a_data_set_of_one_token(world: TinyWorld, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "train.jsonl").write_text('{"text": "alpha"}\n')
    values = world.language_model(dataset_path=str(tmp_path / "texts"), training_tokens=3 * BATCH)
    config = write_config(tmp_path / "config.yaml", values)
    with pytest.raises(RunFailedError, match="Dataset may be too small"):
        train(load_run_config(config), tmp_path / "run")


def test_damaged_checkpoints(run: Callable[..., TrainedRun], tmp_path: Path) -> None:
    """Without checksums, as SAELens's own runners write them: refused before anything changes."""
    folder = tmp_path / "run"
    run(name="run")
    record = json.loads((folder / "run.json").read_text()) | {"status": "failed"}
    (folder / "run.json").write_text(json.dumps(record))
    newest = folder / "checkpoints" / max(checkpoint_names(folder), key=int)
    (newest / "checksums.json").unlink()
    names = ["sae_weights.safetensors", "trainer_state.pt", "random_state.safetensors"]
    before = (folder / "run.json").read_bytes()
    for name in names:
        whole = (newest / name).read_bytes()
        for damaged in (whole[: len(whole) // 2], b"", bytes(64)):
            (newest / name).write_bytes(damaged)
            with pytest.raises(BadInputError, match=f"{name}: is damaged.*remove the folder"):
                run(resume=True)
        (newest / name).write_bytes(whole)
    weights = newest / "sae_weights.safetensors"
    spoiled = load_file(weights)
    spoiled["W_dec"][0, 0] = float("nan")
    save_file(spoiled, weights)
    with pytest.raises(BadInputError, match="W_dec holds NaN"):
        run(resume=True)
    assert (folder / "run.json").read_bytes() == before


def test_a_config_of_a_newer_version(run: Callable[..., TrainedRun], tmp_path: Path) -> None:
    run()
    record = json.loads((tmp_path / "run" / "run.json").read_text()) | {"status": "failed"}
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    with (tmp_path / "run" / "config.yaml").open("a") as file:
        file.write("field_of_tomorrow: 1\n")
    with pytest.raises(BadInputError, match=r"run/config.yaml: field_of_tomorrow: unknown field"):
        run(resume=True)


def _hold(folder: Path, ready: Any) -> None:
    with lock(folder):
        ready.set()
        multiprocessing.Event().wait()


def test_two_runs_into_one_folder(run: Callable[..., TrainedRun], tmp_path: Path) -> None:
    """The lock of a process that is killed is gone with it."""
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "run", ready))
    other.start()
    try:
        assert ready.wait(60)
        with pytest.raises(BadInputError, match="another process is writing to it"):
            run()
    finally:
        other.kill()
        other.join()
    run()
    assert not filelock.FileLock(tmp_path / "run" / ".lock").is_locked
