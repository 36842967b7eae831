"""Whether the two records of an SAE agree: SAELens's cfg.json and the config of its training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from wsae_plugin.training.config import RunConfig

# What decides which numbers are measured; cfg.json must not leave them to the other.
_NEEDED = (
    "model_name",
    "model_class_name",
    "model_from_pretrained_kwargs",
    "hook_name",
    "dataset_path",
)
# A publication has other names for them.
_RENAMED = ("gamma_file", "metric_file")
SAYS_NOTHING = json.dumps(None)
"""What `disagreements` has for a field that cfg.json lacks."""


def disagreements(cfg: Mapping[str, Any], training: RunConfig) -> dict[str, tuple[str, str]]:
    """What cfg.json says otherwise than the training, of what it says and of what it should say.

    Args:
        cfg: cfg.json, with its metadata.
        training: The config of the training.

    Returns:
        Field → what cfg.json says and what the training's config says, as JSON.
    """
    section, metadata = training.values["sae"], cfg["metadata"]
    trained = training.values | vars(training.runner_config())
    details = metadata.get("training_architecture_details") or {}
    recorded = [
        name
        for name in training.values
        if (name in metadata or name in _NEEDED)
        # A table says of itself what its config leaves out.
        and (training.has_language_model or trained[name] is not None)
    ]
    both = (
        {name: (metadata.get(name), trained[name]) for name in recorded}
        | {name: (cfg.get(name), section[name]) for name in ("d_in", "d_sae")}
        | {name: (details[name], section[name]) for name in details if name in section}
        | {"architecture": (metadata.get("training_architecture"), section["architecture"])}
    )
    texts = {
        name: (json.dumps(ours, default=str), json.dumps(theirs, default=str))
        for name, (ours, theirs) in both.items()
        if name not in _RENAMED
    }
    return {name: said for name, said in texts.items() if _value(said[0]) != _value(said[1])}


def _value(text: str) -> str:
    """The same for 8 and 8.0: a script may say `k=8` where SAELens's field is a float."""
    return json.dumps(json.loads(text, parse_int=float))
