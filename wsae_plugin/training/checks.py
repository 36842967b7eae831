"""What makes a config impossible that SAELens would notice late, or not at all."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from sae_lens.constants import SAE_WEIGHTS_FILENAME

from wsae_plugin.errors import BadInputError
from wsae_plugin.files import refuse_links
from wsae_plugin.remote_code import check_own
from wsae_plugin.training.checkpoints import is_complete
from wsae_plugin.training.config import RunConfig
from wsae_plugin.training.ranges import check_range

logger = logging.getLogger(__name__)

_SCHEDULERS = ("constant", "cosineannealing", "cosineannealingwarmrestarts")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def check(config: RunConfig) -> None:
    """Refuse what cannot be trained, before anything is loaded or written.

    Raises:
        BadInputError: The first thing found; the message names the field.
    """
    for section_path, section in _sections(config):
        for name, value in section.items():
            check_range(f"{section_path}{name}", name, value)
    for path, section in config.sae_sections.items():
        _check_sae(path, section, config)
    _check_steps(config)
    if not config.is_synthetic:
        check_own(config.values["model_from_pretrained_kwargs"])
        _check_activations(config.values)
    _check_paths(config)


def warn(config: RunConfig) -> None:
    """Log what is allowed but hardly meant."""
    for path, section in config.sae_sections.items():
        freeze_step = section.get("gamma_freeze_step")
        if section.get("alpha") and freeze_step is not None and freeze_step >= config.n_steps:
            logger.warning(
                "%s.gamma_freeze_step = %d: the run has %d steps, so Γ is never frozen",
                path,
                freeze_step,
                config.n_steps,
            )
    checkpoints = config.values["checkpoint_path"]
    if checkpoints != "checkpoints":
        logger.warning(
            "checkpoint_path = %r: has no effect; checkpoints are kept in the run folder",
            checkpoints,
        )


def _sections(config: RunConfig) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "", config.values
    yield "logger.", config.values["logger"]
    for path, section in config.sae_sections.items():
        yield f"{path}.", section


def _check_sae(path: str, section: Mapping[str, Any], config: RunConfig) -> None:
    name = path.removeprefix("saes.")
    if not _NAME.fullmatch(name):
        raise BadInputError(
            f"{path}: the name becomes a folder and a part of --set; use letters, digits, - and _"
        )
    k, d_sae = section.get("k"), section["d_sae"]
    if k is not None and k > d_sae:
        raise BadInputError(f"{path}.k = {k}: must not exceed {path}.d_sae = {d_sae}")
    if (
        section.get("use_sparse_activations")
        and section.get("rescale_acts_by_decoder_norm")
        and torch.device(config.values["device"]).type == "cpu"
    ):
        raise BadInputError(
            f"{path}.use_sparse_activations = True: SAELens's backward pass fails on cpu together "
            f"with {path}.rescale_acts_by_decoder_norm = True; set one of the two to false"
        )


def _check_steps(config: RunConfig) -> None:
    values = config.values
    total, batch = (
        ("training_samples", "batch_size")
        if config.is_synthetic
        else ("training_tokens", "train_batch_size_tokens")
    )
    if values[total] < values[batch]:
        raise BadInputError(
            f"{total} = {values[total]}: is less than one {batch} = {values[batch]}"
        )
    scheduler = values["lr_scheduler_name"]
    if scheduler.lower() not in _SCHEDULERS:
        raise BadInputError(
            f"lr_scheduler_name = {scheduler!r}: must be one of {', '.join(_SCHEDULERS)}"
        )
    if values["lr_decay_steps"] > 0 and values["lr_end"] == 0:
        raise BadInputError("lr_end = 0: nothing is left for lr_decay_steps to bring to 0")
    # SAELens plans its schedule for whole batches only.
    n_steps = values[total] // values[batch]
    ramps = values["lr_warm_up_steps"] + values["lr_decay_steps"]
    if ramps > n_steps or (ramps == n_steps and scheduler.lower() != "constant"):
        raise BadInputError(
            f"lr_warm_up_steps + lr_decay_steps = {ramps}: the run has {n_steps} steps; "
            "shorten them or lengthen the run"
        )
    if scheduler.lower() == "cosineannealingwarmrestarts" and (
        values["n_restart_cycles"] > n_steps - ramps
    ):
        raise BadInputError(
            f"n_restart_cycles = {values['n_restart_cycles']}: more than the {n_steps - ramps} "
            "steps between warm-up and decay"
        )


def positions_per_context(values: Mapping[str, Any]) -> int:
    """Token positions of a context that `seqpos_slice` leaves."""
    return len(range(values["context_size"])[slice(*values["seqpos_slice"])])


def _check_activations(values: Mapping[str, Any]) -> None:
    try:
        positions = positions_per_context(values)
    except (TypeError, ValueError):
        positions = 0
    if positions == 0:
        raise BadInputError(
            f"seqpos_slice = {values['seqpos_slice']}: must be [start, end] or [start, end, step] "
            f"and leave some of the context_size = {values['context_size']} positions"
        )
    batch, n_batches = values["train_batch_size_tokens"], values["n_batches_in_buffer"]
    if n_batches * positions < batch:
        raise BadInputError(
            f"n_batches_in_buffer = {n_batches}: the buffer of n_batches_in_buffer × context_size "
            f"= {n_batches * positions} tokens must hold train_batch_size_tokens = {batch}; "
            f"use {-(-batch // positions)} or more"
        )
    cached = values.get("cached_activations_path") if values.get("use_cached_activations") else None
    if cached is not None and not Path(cached).is_dir():
        raise BadInputError(f"cached_activations_path = {cached!r}: no such folder")
    if not values["dataset_path"] and cached is None:
        raise BadInputError(
            "dataset_path: missing; 'bundled', a local folder or file, or a name on the Hub"
        )


def _check_paths(config: RunConfig) -> None:
    pretrained = config.values.get("from_pretrained_path")
    if pretrained is not None and not (Path(pretrained) / SAE_WEIGHTS_FILENAME).is_file():
        raise BadInputError(
            f"from_pretrained_path = {pretrained!r}: no folder with {SAE_WEIGHTS_FILENAME} in it"
        )
    if pretrained is not None:
        refuse_links(Path(pretrained))
    checkpoint = config.values.get("resume_from_checkpoint")
    if checkpoint is not None and not is_complete(Path(checkpoint)):
        raise BadInputError(
            f"resume_from_checkpoint = {checkpoint!r}: no complete checkpoint there; to continue "
            "the run in a run folder use --output RUN --resume instead"
        )
