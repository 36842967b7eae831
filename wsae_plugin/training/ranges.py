"""What each field may be on its own: ranges, dtypes, devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from sae_lens.util import str_to_dtype

from wsae_plugin.errors import BadInputError
from wsae_plugin.training.messages import one_line


def _positive(value: float) -> bool:
    return value > 0


def _not_negative(value: float) -> bool:
    return value >= 0


def _fraction(value: float) -> bool:
    return 0 <= value <= 1


def _below_one(value: float) -> bool:
    return 0 <= value < 1


def _seed(value: float) -> bool:
    return 0 <= value < 2**63


_Rule = tuple[Callable[[float], bool], str]
_POSITIVE: _Rule = (_positive, "must be above 0")
_NOT_NEGATIVE: _Rule = (_not_negative, "must be 0 or above")

_RULES: dict[str, _Rule] = {
    **dict.fromkeys(
        (
            "training_tokens",
            "training_samples",
            "train_batch_size_tokens",
            "batch_size",
            "store_batch_size_prompts",
            "n_batches_in_buffer",
            "context_size",
            "n_batches_for_norm_estimate",
            "n_restart_cycles",
            "dead_feature_window",
            "feature_sampling_window",
            "n_eval_batches",
            "eval_batch_size_prompts",
            "wandb_log_frequency",
            "eval_every_n_wandb_logs",
            "lr",
            "d_in",
            "d_sae",
            "k",
        ),
        _POSITIVE,
    ),
    **dict.fromkeys(
        (
            "lr_end",
            "lr_warm_up_steps",
            "lr_decay_steps",
            "n_checkpoints",
            "eval_frequency",
            "eval_samples",
        ),
        _NOT_NEGATIVE,
    ),
    **dict.fromkeys(("adam_beta1", "adam_beta2"), (_below_one, "must be at least 0 and below 1")),
    "seed": (_seed, "must be at least 0 and below 2**63"),
    "activations_mixing_fraction": (_fraction, "must lie between 0 and 1"),
}


def check_range(path: str, name: str, value: Any) -> None:
    """Refuse a value that the field `name` cannot have in any config.

    Args:
        path: Dotted path of the field, for messages.
        name: The field.
        value: Its value, of the annotated type.

    Raises:
        BadInputError: It is out of range, no dtype, or a device that this machine has not.
    """
    if isinstance(value, str):
        if name == "dtype":
            _check_dtype(path, value)
        elif name in ("device", "llm_device", "act_store_device"):
            _check_device(path, value)
    elif isinstance(value, int | float) and not isinstance(value, bool) and name in _RULES:
        is_allowed, what = _RULES[name]
        if not is_allowed(value):
            raise BadInputError(f"{path} = {value}: {what}")


def _check_dtype(path: str, value: str) -> None:
    try:
        str_to_dtype(value)
    except ValueError as error:
        raise BadInputError(f"{path} = {value!r}: {one_line(error)}") from None


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
