"""What the fields of SAELens's configs have to be beside their types; it notices late itself."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator


def _dtype(name: str) -> str:
    from sae_lens.util import str_to_dtype

    str_to_dtype(name)
    return name


def _device(name: str) -> str:
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError("no device; try cpu, cuda, cuda:1, mps") from None
    available = {
        "cpu": True,
        "cuda": (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device.type, False):
        there = [kind for kind, is_there in available.items() if is_there and kind != device.type]
        raise ValueError(f"this machine has none; use {' or '.join(there)}")
    return name


def _store_device(name: str) -> str:
    return name if name == "with_model" else _device(name)


Seed = Annotated[int, Ge(0), Lt(2**63)]

_OF_NUMBERS: dict[tuple[Any, ...], str] = {
    (Gt(0),): """training_tokens training_samples train_batch_size_tokens batch_size
        store_batch_size_prompts n_batches_in_buffer n_batches_for_norm_estimate n_restart_cycles
        dead_feature_window feature_sampling_window n_eval_batches eval_batch_size_prompts
        wandb_log_frequency eval_every_n_wandb_logs lr d_in d_sae k""",
    (Ge(0),): "lr_end lr_warm_up_steps lr_decay_steps n_checkpoints eval_frequency eval_samples",
    (Ge(0), Lt(1)): "adam_beta1 adam_beta2",
    get_args(Seed)[1:]: "seed",
    # SAELens makes a list of all positions of a context.
    (Gt(0), Lt(2**24)): "context_size",
    (Ge(0), Le(1)): "activations_mixing_fraction",
}

LIMITS: dict[str, tuple[Any, ...]] = {
    **{name: limits for limits, names in _OF_NUMBERS.items() for name in names.split()},
    "dtype": (AfterValidator(_dtype),),
    "device": (AfterValidator(_device),),
    "llm_device": (AfterValidator(_device),),
    "act_store_device": (AfterValidator(_store_device),),
}
"""Field → what its annotation is to hold as well, for pydantic."""
