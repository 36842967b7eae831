"""What makes a config impossible that SAELens would notice late, or not at all."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sae_lens.constants import SAE_WEIGHTS_FILENAME
from sae_lens.util import str_to_dtype

from wsae_plugin.errors import BadInputError
from wsae_plugin.files import refuse_links
from wsae_plugin.messages import refusals_as_bad_input
from wsae_plugin.remote_code import check_own
from wsae_plugin.training.checkpoints import is_complete

if TYPE_CHECKING:
    from wsae_plugin.training.config import RunConfig

logger = logging.getLogger(__name__)

_SCHEDULERS = ("constant", "cosineannealing", "cosineannealingwarmrestarts")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")

_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "must be above 0": (
        lambda value: value > 0,
        """training_tokens training_samples train_batch_size_tokens batch_size
        store_batch_size_prompts n_batches_in_buffer n_batches_for_norm_estimate n_restart_cycles
        dead_feature_window feature_sampling_window n_eval_batches eval_batch_size_prompts
        wandb_log_frequency eval_every_n_wandb_logs lr d_in d_sae k""",
    ),
    "must be 0 or above": (
        lambda value: value >= 0,
        "lr_end lr_warm_up_steps lr_decay_steps n_checkpoints eval_frequency eval_samples",
    ),
    "must be at least 0 and below 1": (lambda value: 0 <= value < 1, "adam_beta1 adam_beta2"),
    "must be at least 0 and below 2**63": (lambda value: 0 <= value < 2**63, "seed"),
    # SAELens makes a list of all positions of a context.
    "must be above 0 and below 2**24": (lambda value: 0 < value < 2**24, "context_size"),
    "must lie between 0 and 1": (lambda value: 0 <= value <= 1, "activations_mixing_fraction"),
}
"""What a number has to be → the test, and the fields of SAELens it holds for."""


def check(config: RunConfig) -> None:
    """Refuse what cannot be trained, before anything is loaded or written.

    Raises:
        BadInputError: The first thing found; the message names the field.
    """
    logger_section = {"logger": config.values["logger"]}
    for path, section in {"": config.values, **logger_section, **config.sae_sections}.items():
        for name, value in section.items():
            check_alone(f"{path}.{name}".lstrip("."), name, value)
    for problem in _problems(config):
        raise BadInputError(problem)


def warn(config: RunConfig) -> None:
    """Log what is allowed but hardly meant."""
    for path, section in config.sae_sections.items():
        freeze_step = section.get("gamma_freeze_step")
        if section.get("alpha") and freeze_step is not None and freeze_step >= config.n_steps:
            told = "%s.gamma_freeze_step = %d: the run has %d steps, so Γ is never frozen"
            logger.warning(told, path, freeze_step, config.n_steps)
    if (checkpoints := config.values["checkpoint_path"]) != "checkpoints":
        told = "checkpoint_path = %r: has no effect; checkpoints are kept in the run folder"
        logger.warning(told, checkpoints)


def check_alone(path: str, name: str, value: Any) -> None:
    """Refuse a value that the field `name` cannot have in any config.

    Args:
        path: Dotted path of the field, for messages.
        name: The field.
        value: Its value, of the annotated type.

    Raises:
        BadInputError: It is out of range, no dtype, or a device that this machine has not.
    """
    if isinstance(value, str) and name == "dtype":
        with refusals_as_bad_input(f"{path} = {value!r}"):
            str_to_dtype(value)
    elif isinstance(value, str) and name in ("device", "llm_device", "act_store_device"):
        _check_device(path, value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        for what, (is_allowed, names) in _RANGES.items():
            if name in names.split() and not is_allowed(value):
                raise BadInputError(f"{path} = {value}: {what}")


def _check_device(path: str, value: str) -> None:
    if path == "act_store_device" and value == "with_model":
        return
    try:
        device = torch.device(value)
    except RuntimeError:
        raise BadInputError(f"{path} = {value!r}: no device; try cpu, cuda, cuda:1, mps") from None
    available = {
        "cpu": True,
        "cuda": (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device.type, False):
        there = [name for name, is_there in available.items() if is_there and name != device.type]
        raise BadInputError(f"{path} = {value!r}: this machine has none; use {' or '.join(there)}")


def _problems(config: RunConfig) -> Iterator[str]:
    """What fields make impossible together, one after the other."""
    values = config.values
    for path, section in config.sae_sections.items():
        yield from _problems_of_sae(path, section, values["device"])
    total, batch = (
        ("training_samples", "batch_size")
        if config.is_synthetic
        else ("training_tokens", "train_batch_size_tokens")
    )
    if values[total] < values[batch]:
        yield f"{total} = {values[total]}: is less than one {batch} = {values[batch]}"
    # SAELens plans its schedule for whole batches only.
    yield from _problems_of_schedule(values, n_steps=values[total] // values[batch])
    if not config.is_synthetic:
        check_own(values["model_from_pretrained_kwargs"])
        yield from _problems_of_activations(values)
    pretrained = values.get("from_pretrained_path")
    if pretrained is not None:
        if not (Path(pretrained) / SAE_WEIGHTS_FILENAME).is_file():
            yield (
                f"from_pretrained_path = {pretrained!r}: no folder with {SAE_WEIGHTS_FILENAME} in "
                "it"
            )
        refuse_links(Path(pretrained))
    checkpoint = values.get("resume_from_checkpoint")
    if checkpoint is not None and not is_complete(Path(checkpoint)):
        yield (
            f"resume_from_checkpoint = {checkpoint!r}: no complete checkpoint there; to continue "
            "the run in a run folder use --output RUN --resume instead"
        )


def _problems_of_sae(path: str, section: Mapping[str, Any], device: str) -> Iterator[str]:
    if not _NAME.fullmatch(path.removeprefix("saes.")):
        yield f"{path}: the name becomes a folder and a part of --set; use letters, digits, - and _"
    k, d_sae = section.get("k"), section["d_sae"]
    if k is not None and k > d_sae:
        yield f"{path}.k = {k}: must not exceed {path}.d_sae = {d_sae}"
    is_sparse, is_rescaled = (
        section.get(name) for name in ("use_sparse_activations", "rescale_acts_by_decoder_norm")
    )
    if is_sparse and is_rescaled and torch.device(device).type == "cpu":
        yield (
            f"{path}.use_sparse_activations = True: SAELens's backward pass fails on cpu together "
            f"with {path}.rescale_acts_by_decoder_norm = True; set one of the two to false"
        )


def _problems_of_schedule(values: Mapping[str, Any], n_steps: int) -> Iterator[str]:
    scheduler, n_cycles = values["lr_scheduler_name"], values["n_restart_cycles"]
    if scheduler.lower() not in _SCHEDULERS:
        yield f"lr_scheduler_name = {scheduler!r}: must be one of {', '.join(_SCHEDULERS)}"
    if values["lr_decay_steps"] > 0 and values["lr_end"] == 0:
        yield "lr_end = 0: nothing is left for lr_decay_steps to bring to 0"
    between = n_steps - values["lr_warm_up_steps"] - values["lr_decay_steps"]
    if between < 0 or (between == 0 and scheduler.lower() != "constant"):
        yield (
            f"lr_warm_up_steps + lr_decay_steps = {n_steps - between}: the run has {n_steps} "
            "steps; shorten them or lengthen the run"
        )
    if scheduler.lower() == "cosineannealingwarmrestarts" and n_cycles > between:
        yield (
            f"n_restart_cycles = {n_cycles}: more than the {between} steps between warm-up and "
            "decay"
        )


def positions_per_context(values: Mapping[str, Any]) -> int:
    """Token positions of a context that `seqpos_slice` leaves."""
    return len(range(values["context_size"])[slice(*values["seqpos_slice"])])


def _problems_of_activations(values: Mapping[str, Any]) -> Iterator[str]:
    try:
        positions = positions_per_context(values)
    except (TypeError, ValueError):
        positions = 0
    if positions == 0:
        yield (
            f"seqpos_slice = {values['seqpos_slice']}: must be [start, end] or [start, end, step] "
            f"and leave some of the context_size = {values['context_size']} positions"
        )
    batch, n_batches = values["train_batch_size_tokens"], values["n_batches_in_buffer"]
    if n_batches * positions < batch:
        yield (
            f"n_batches_in_buffer = {n_batches}: the buffer of n_batches_in_buffer × context_size "
            f"= {n_batches * positions} tokens must hold train_batch_size_tokens = {batch}; "
            f"use {-(-batch // positions)} or more"
        )
    cached = values.get("cached_activations_path") if values.get("use_cached_activations") else None
    if cached is not None and not Path(cached).is_dir():
        yield f"cached_activations_path = {cached!r}: no such folder"
    if not values["dataset_path"] and cached is None:
        yield "dataset_path: missing; 'bundled', a local folder or file, or a name on the Hub"
