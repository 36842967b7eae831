"""Checkpoints that are either whole or not there.

SAELens writes a checkpoint file by file under its final name, and in the middle of a step: its
`n_training_steps` is then one behind its optimizer's. `save_checkpoint` is called between steps and
renames the folder into place at the end.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from sae_lens.constants import RUNNER_CFG_FILENAME, SAE_WEIGHTS_FILENAME, TRAINER_STATE_FILENAME
from sae_lens.synthetic.synthetic_sae_runner import RUNNER_CONFIG_FILENAME
from sae_lens.training.multi_sae_trainer import MultiSAETrainer
from sae_lens.training.sae_trainer import SAETrainer
from safetensors.torch import load_file, save_file
from torch import Tensor

RANDOM_STATE_FILENAME = "random_state.safetensors"
_PARTIAL = ".partial-"


def save_checkpoint(trainer: SAETrainer[Any, Any] | MultiSAETrainer, folder: Path) -> Path:
    """Save weights, trainer state, position in the data, random state and runner config.

    Args:
        trainer: A trainer between two steps whose `cfg.checkpoint_path` is `folder`.
        folder: Where the run's checkpoints are.

    Returns:
        The checkpoint: `folder/<n_training_samples>`.
    """
    name = str(trainer.n_training_samples)
    partial, final = folder / f"{_PARTIAL}{name}", folder / name
    if final.exists():
        return final
    shutil.rmtree(partial, ignore_errors=True)
    trainer.save_checkpoint(checkpoint_name=partial.name)
    save_file(_random_state(), partial / RANDOM_STATE_FILENAME)
    partial.rename(final)
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
