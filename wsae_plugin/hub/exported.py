"""Whether a folder is an SAE that plain SAELens loads, and the one that was trained."""

from __future__ import annotations

from dataclasses import fields

import torch
from sae_lens.registry import SAE_CLASS_REGISTRY

from wsae_plugin.errors import BadInputError
from wsae_plugin.export_check import problem_of_export
from wsae_plugin.hub.records import MeasuredSAE
from wsae_plugin.measures.evaluated_run import load_sae
from wsae_plugin.saved_run import TRAINER_STATE

_TRAINING_FILES = (TRAINER_STATE, "activations_store_state.safetensors")


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
    registered = SAE_CLASS_REGISTRY.get(architecture)
    if registered is None or not registered[0].__module__.startswith("sae_lens."):
        raise BadInputError(
            f"{folder}: architecture {architecture!r} is none that plain SAELens loads for "
            f"inference: a training checkpoint; {way_out}"
        )
    known = {field.name for field in fields(registered[1])} | {"architecture"}
    if unknown := sorted(set(cfg) - known):
        raise BadInputError(
            f"{folder}: cfg.json has {', '.join(unknown)}, which no inference SAE has: a training "
            f"checkpoint; {way_out}"
        )
    for name, parameter in load_sae(folder).named_parameters():
        if not torch.isfinite(parameter).all():
            raise BadInputError(f"{folder}: {name} holds NaN or infinity")


def check_as_trained(sae: MeasuredSAE) -> None:
    """Refuse an export that does not do what the SAE did in training.

    Raises:
        BadInputError: Its metadata or its scores on held-out text say so; the message says what to
            do.
    """
    if (problem := problem_of_export(sae.metadata, sae.values)) is not None:
        raise BadInputError(f"{sae.run.path}: {problem}")
