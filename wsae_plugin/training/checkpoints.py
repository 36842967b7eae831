"""Checkpoints that are either whole or not there.

SAELens writes a checkpoint file by file under its final name, and in the middle of a step: its
`n_training_steps` is then one behind its optimizer's. `save_checkpoint` is called between steps and
renames the folder into place at the end.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from sae_lens.constants import RUNNER_CFG_FILENAME, SAE_WEIGHTS_FILENAME, TRAINER_STATE_FILENAME
from sae_lens.synthetic.synthetic_sae_runner import RUNNER_CONFIG_FILENAME
from sae_lens.training.multi_sae_trainer import MultiSAETrainer
from sae_lens.training.sae_trainer import SAETrainer

_PARTIAL = ".partial-"


def save_checkpoint(trainer: SAETrainer[Any, Any] | MultiSAETrainer, folder: Path) -> Path:
    """Save weights, trainer state, position in the data and runner config.

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
    partial.rename(final)
    return final


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


_LAST_WRITTEN = (RUNNER_CFG_FILENAME, RUNNER_CONFIG_FILENAME)
_OF_EACH_SAE = (SAE_WEIGHTS_FILENAME, TRAINER_STATE_FILENAME)


def _folders(path: Path) -> list[Path]:
    return [child for child in path.iterdir() if child.is_dir()]
