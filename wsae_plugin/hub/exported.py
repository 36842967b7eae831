"""Whether a folder is an SAE that plain SAELens loads."""

from __future__ import annotations

import warnings
from dataclasses import fields

import torch
from sae_lens import SAE
from sae_lens.registry import get_sae_class
from safetensors import SafetensorError

from wsae_plugin.errors import BadInputError
from wsae_plugin.hub.records import MeasuredSAE

_TRAINING_FILES = ("trainer_state.pt", "activations_store_state.safetensors")


def check_exported(exported: MeasuredSAE) -> None:
    """Load an exported inference SAE as plain SAELens does: JSON and safetensors, no pickle.

    Raises:
        BadInputError: It is a training checkpoint, its architecture is not SAELens's own, SAELens
            refuses it, or a weight is not finite.
    """
    folder, cfg = exported.run.sae, exported.cfg
    way_out = "publish the run's sae/ folder, which SAELens exports at the end"
    for name in _TRAINING_FILES:
        if (folder / name).exists():
            raise BadInputError(f"{folder}: is a training checkpoint ({name} is in it); {way_out}")
    architecture = cfg["architecture"]
    try:
        sae_class, config_class = get_sae_class(architecture)
    except KeyError:
        raise BadInputError(
            f"{folder}: architecture {architecture!r} is none that SAELens loads for inference: a "
            f"training checkpoint; {way_out}"
        ) from None
    if not sae_class.__module__.startswith("sae_lens."):
        raise BadInputError(f"{folder}: architecture {architecture!r} is not SAELens's own")
    known = {field.name for field in fields(config_class)} | {"architecture"}
    if unknown := sorted(set(cfg) - known):
        raise BadInputError(
            f"{folder}: cfg.json has {', '.join(unknown)}, which no inference SAE has: a training "
            f"checkpoint; {way_out}"
        )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"\s*This SAE has non-empty model_from")
            sae = SAE.load_from_disk(folder, device="cpu").eval()
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        cause = " ".join(str(error).split())
        raise BadInputError(f"{folder}: SAELens cannot load this SAE: {cause}") from None
    for name, parameter in sae.named_parameters():
        if not torch.isfinite(parameter).all():
            raise BadInputError(f"{folder}: {name} holds NaN or infinity")
