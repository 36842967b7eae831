"""Checkpoints that are either whole or not there.

SAELens writes a checkpoint file by file under its final name, and in the middle of a step: its
`n_training_steps` is then one behind its optimizer's. `save_checkpoint` is called between steps and
renames the folder into place at the end.
"""

from __future__ import annotations

import json
import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from sae_lens.constants import RUNNER_CFG_FILENAME, SAE_WEIGHTS_FILENAME, TRAINER_STATE_FILENAME
from sae_lens.synthetic.synthetic_sae_runner import RUNNER_CONFIG_FILENAME
from sae_lens.training.multi_sae_trainer import MultiSAETrainer
from sae_lens.training.sae_trainer import SAETrainer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from wsae_plugin.errors import BadInputError
from wsae_plugin.training.messages import one_line

RANDOM_STATE_FILENAME = "random_state.safetensors"
_PARTIAL = ".partial-"


def save_checkpoint(trainer: SAETrainer[Any, Any] | MultiSAETrainer, folder: Path) -> Path:
    """Save weights, trainer state, position in the data, random state and runner config.

    Args:
        trainer: A trainer between two steps whose `cfg.checkpoint_path` is `folder`.
        folder: Where the run's checkpoints are.

    Returns:
        The checkpoint: `folder/<n_training_samples>`.

    Raises:
        Exception: It cannot be written, whatever SAELens's writers raise; nothing is left of it.
    """
    name = str(trainer.n_training_samples)
    partial, final = folder / f"{_PARTIAL}{name}", folder / name
    if final.exists():
        return final
    shutil.rmtree(partial, ignore_errors=True)
    try:
        trainer.save_checkpoint(checkpoint_name=partial.name)
        save_file(_random_state(), partial / RANDOM_STATE_FILENAME)
        partial.rename(final)
    except BaseException:
        # A full disk is the likely cause; what is left would keep it full.
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return final


def restore_random_state(checkpoint: Path) -> None:
    """Put torch's generators where they were at a checkpoint; SAELens's own do not say where."""
    file = checkpoint / RANDOM_STATE_FILENAME
    if not file.is_file():
        return
    states = load_file(file)
    torch.set_rng_state(states.pop("cpu"))
    for device, state in states.items():
        if torch.cuda.is_available() and int(device) < torch.cuda.device_count():
            torch.cuda.set_rng_state(state, int(device))


def check_readable(checkpoint: Path) -> None:
    """Refuse a checkpoint with a file that is damaged, or that is not plain data.

    Nothing that a file says is carried out: `trainer_state.pt` is unpickled as tensors and plain
    values only.

    Raises:
        BadInputError: The message names the first such file and the way out.
    """
    for file in sorted(path for path in checkpoint.rglob("*") if path.is_file()):
        trouble = _trouble_with(file, checkpoint)
        if trouble is not None:
            raise BadInputError(
                f"{file}: {trouble}; remove the folder {checkpoint} to go on from the checkpoint "
                "before it, or restore the file"
            )


def _trouble_with(file: Path, checkpoint: Path) -> str | None:
    if not file.resolve().is_relative_to(checkpoint.resolve()):
        return "is a link that leads out of the checkpoint"
    try:
        if file.suffix == ".safetensors":
            return _trouble_with_tensors(file.name, load_file(file))
        if file.name == TRAINER_STATE_FILENAME:
            with warnings.catch_warnings():
                # Of a pickle that torch did not write, it warns before it refuses.
                warnings.simplefilter("ignore", UserWarning)
                torch.load(file, map_location="cpu", weights_only=True)
        elif file.suffix == ".json":
            json.loads(file.read_text(encoding="utf-8"))
    except pickle.UnpicklingError:
        return "is damaged, or asks for code to be run, which is never done"
    except (OSError, ValueError, RuntimeError, EOFError, KeyError, SafetensorError) as error:
        return f"is damaged: {one_line(error)}"
    return None


def _trouble_with_tensors(name: str, tensors: dict[str, Tensor]) -> str | None:
    if name == SAE_WEIGHTS_FILENAME:
        for key, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                return f"{key} holds NaN or infinite values"
    if name == RANDOM_STATE_FILENAME:
        cpu = tensors.get("cpu")
        if cpu is None or (cpu.dtype, cpu.shape) != (torch.uint8, torch.get_rng_state().shape):
            return "is damaged: it does not hold the state of torch's generator"
    return None


def newest_checkpoint(folder: Path) -> Path | None:
    """The complete checkpoint in `folder` that has seen the most samples, if there is one."""
    if not folder.is_dir():
        return None
    complete = [path for path in folder.iterdir() if path.name.isdecimal() and is_complete(path)]
    return max(complete, key=lambda path: int(path.name), default=None)


def is_complete(checkpoint: Path) -> bool:
    """Whether SAELens can resume from `checkpoint`, of one SAE or of several."""
    if not checkpoint.is_dir() or checkpoint.name.startswith(_PARTIAL):
        return False
    # The runner config is what SAELens writes last.
    if not any((checkpoint / name).is_file() for name in _LAST_WRITTEN):
        return False
    saes = [checkpoint] if (checkpoint / SAE_WEIGHTS_FILENAME).is_file() else _folders(checkpoint)
    return bool(saes) and all((sae / name).is_file() for sae in saes for name in _OF_EACH_SAE)


def _random_state() -> dict[str, Tensor]:
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state()} | {str(n): state for n, state in enumerate(on_gpus)}


_LAST_WRITTEN = (RUNNER_CFG_FILENAME, RUNNER_CONFIG_FILENAME)
_OF_EACH_SAE = (SAE_WEIGHTS_FILENAME, TRAINER_STATE_FILENAME)


def _folders(path: Path) -> list[Path]:
    return [child for child in path.iterdir() if child.is_dir()]
