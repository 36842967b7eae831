"""Checkpoints that are either whole or not there.

SAELens writes a checkpoint file by file under its final name, and in the middle of a step: its
`n_training_steps` is then one behind its optimizer's. `save_checkpoint` is called between steps and
renames the folder into place at the end. The last file in it, checksums.json, says what was saved.
"""

from __future__ import annotations

import json
import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from sae_lens.constants import RUNNER_CFG_FILENAME, SAE_WEIGHTS_FILENAME, TRAINER_STATE_FILENAME
from sae_lens.synthetic.synthetic_sae_runner import RUNNER_CONFIG_FILENAME
from safetensors.torch import load_file, save_file

from wsae_plugin.errors import BadInputError
from wsae_plugin.files import folder_written_whole, link_out_of, partial_of
from wsae_plugin.messages import one_line
from wsae_plugin.sources.mixing_buffer import DATA_POSITION_FILENAME, read_position
from wsae_plugin.training.checksums import not_as_saved, write_checksums

RANDOM_STATE_FILENAME = "random_state.safetensors"
_LAST_WRITTEN = (RUNNER_CFG_FILENAME, RUNNER_CONFIG_FILENAME)
_OF_EACH_SAE = (SAE_WEIGHTS_FILENAME, TRAINER_STATE_FILENAME)


def save_checkpoint(checkpoint: Path, write: Callable[[Path], None]) -> None:
    """Make a folder of what `write` writes, the state of torch's generators, and checksums.

    Args:
        checkpoint: The folder to make. One that is complete stays as it is.
        write: Writes SAEs, trainers, the position in the data and the config into a folder.

    Raises:
        Exception: It cannot be written, whatever SAELens's writers raise; nothing is left of it.
    """
    if is_complete(checkpoint):
        return
    with folder_written_whole(checkpoint) as partial:
        write(partial)
        gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        states = {"cpu": torch.get_rng_state()} | {str(n): gpu for n, gpu in enumerate(gpus)}
        save_file(states, partial / RANDOM_STATE_FILENAME)
        write_checksums(partial)


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

    What `save_checkpoint` wrote must be the same to the last bit. Checkpoints without a
    checksums.json, which SAELens's own runners write, are only read through. Nothing that a file
    says is carried out: `trainer_state.pt` is unpickled as tensors and plain values only.

    Raises:
        BadInputError: The message names the first such file and the way out.
    """
    link = link_out_of(checkpoint)
    if link is not None:
        raise _refusal(link, "is a link that leads out of the checkpoint", checkpoint)
    file = not_as_saved(checkpoint)
    if file is not None:
        trouble = "is damaged: it is not what was saved" if file.exists() else "is missing"
        raise _refusal(file, trouble, checkpoint)
    for file in sorted(path for path in checkpoint.rglob("*") if path.is_file()):
        trouble = _trouble_with(file)
        if trouble is not None:
            raise _refusal(file, trouble, checkpoint)


def _refusal(file: Path, trouble: str, checkpoint: Path) -> BadInputError:
    return BadInputError(
        f"{file}: {trouble}; remove the folder {checkpoint} to go on from the checkpoint before "
        "it, or restore the file"
    )


def _trouble_with(file: Path) -> str | None:
    try:
        if file.suffix == ".safetensors":
            _read_tensors(file)
        elif file.name == TRAINER_STATE_FILENAME:
            with warnings.catch_warnings():
                # Of a pickle that torch did not write, it warns before it refuses.
                warnings.simplefilter("ignore", UserWarning)
                torch.load(file, map_location="cpu", weights_only=True)
        elif file.suffix == ".json":
            json.loads(file.read_text(encoding="utf-8"))
    except pickle.UnpicklingError:
        return "is damaged, or asks for code to be run, which is never done"
    except Exception as error:
        # The readers' own errors, and on damaged pickles whatever torch's unpickler stumbles over.
        return f"is damaged: {one_line(error) or type(error).__name__}"
    return None


def _read_tensors(file: Path) -> None:
    """Read a safetensors file, and raise ValueError where its content cannot be."""
    if file.name == DATA_POSITION_FILENAME:
        read_position(file)
        return
    tensors = load_file(file)
    if file.name == SAE_WEIGHTS_FILENAME:
        for key, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise ValueError(f"{key} holds NaN or infinite values")
    if file.name == RANDOM_STATE_FILENAME:
        cpu = tensors.get("cpu")
        if cpu is None or (cpu.dtype, cpu.shape) != (torch.uint8, torch.get_rng_state().shape):
            raise ValueError("it does not hold the state of torch's generator")


def newest_checkpoint(folder: Path) -> Path | None:
    """The complete checkpoint in `folder` that has seen the most samples, if there is one."""
    complete = _complete_checkpoints(folder)
    return complete[-1] if complete else None


def keep_newest(folder: Path, n: int) -> None:
    """Remove the complete checkpoints in `folder` but for the `n` newest; `n` is 1 or more."""
    for checkpoint in _complete_checkpoints(folder)[:-n]:
        # What is left of it if we are killed now must not pass for a checkpoint.
        going = partial_of(checkpoint)
        checkpoint.rename(going)
        shutil.rmtree(going)


def discard_half_written(folder: Path) -> None:
    """Remove what a killed run left in `folder` of a checkpoint that it was writing."""
    for path in folder.glob(partial_of(Path("*")).name):
        shutil.rmtree(path, ignore_errors=True)


def is_complete(checkpoint: Path) -> bool:
    """Whether SAELens can resume from `checkpoint`, of one SAE or of several."""
    if not checkpoint.is_dir() or checkpoint.name.endswith(".partial"):
        return False
    # The runner config is what SAELens writes last.
    if not any((checkpoint / name).is_file() for name in _LAST_WRITTEN):
        return False
    saes = [checkpoint]
    if not (checkpoint / SAE_WEIGHTS_FILENAME).is_file():
        saes = [path for path in checkpoint.iterdir() if path.is_dir()]
    return bool(saes) and all((sae / name).is_file() for sae in saes for name in _OF_EACH_SAE)


def _complete_checkpoints(folder: Path) -> list[Path]:
    """In the order of the samples they have seen."""
    if not folder.is_dir():
        return []
    complete = [path for path in folder.iterdir() if path.name.isdecimal() and is_complete(path)]
    return sorted(complete, key=lambda path: int(path.name))
