"""Whether the two records of an SAE agree: SAELens's cfg.json and the config of its training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from wsae_plugin.measures.evaluated_run import config_for_here
from wsae_plugin.remote_code import harmless

# What decides which numbers are measured; cfg.json must not leave them to the other.
_NEEDED = (
    "model_name",
    "model_class_name",
    "model_from_pretrained_kwargs",
    "hook_name",
    "dataset_path",
)
# A publication has another name for it.
_RENAMED = "gamma_file"


def disagreements(
    cfg: Mapping[str, Any], training: Mapping[str, Any]
) -> dict[str, tuple[str, str]]:
    """What both say, and say otherwise; of model, hook and data set both must say something.

    Args:
        cfg: cfg.json, with its metadata.
        training: The config of the training, as far as it is known.

    Returns:
        Field → what cfg.json says and what the training's config says, as JSON.

    Raises:
        BadInputError: The training's config is broken, is none of one SAE on a language model, or
            asks for code.
    """
    config = config_for_here(training, "the config of the training")
    harmless(training.get("model_from_pretrained_kwargs"), config.values["model_class_name"])
    runner, section, metadata = config.runner_config(), config.values["sae"], cfg["metadata"]
    details = metadata.get("training_architecture_details") or {}
    recorded = [name for name in config.values if name in metadata or name in _NEEDED]
    both = (
        {name: (metadata.get(name), getattr(runner, name)) for name in recorded}
        | {name: (cfg.get(name), section[name]) for name in ("d_in", "d_sae")}
        | {name: (details[name], section[name]) for name in details if name in section}
        | {"architecture": (metadata.get("training_architecture"), section["architecture"])}
    )
    both.pop(_RENAMED, None)
    texts = {
        name: (json.dumps(ours, default=str), json.dumps(theirs, default=str))
        for name, (ours, theirs) in both.items()
    }
    return {name: said for name, said in texts.items() if said[0] != said[1]}
