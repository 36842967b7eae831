"""The one place that touches SAELens's registries and its runner; importing it does so."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from sae_lens import (
    LanguageModelSAETrainingRunner,
    TrainingSAE,
    TrainingSAEConfig,
    register_sae_class,
    register_sae_training_class,
)
from sae_lens.registry import SAE_TRAINING_CLASS_REGISTRY
from wrapt import patch_function_wrapper

from wsae_plugin.saes import WEIGHTED_ARCHITECTURES, WeightedTrainingSAEConfig
from wsae_plugin.saes.from_checkpoint import published_class


def register_all() -> None:
    """Register every architecture of this package with SAELens; again is a no-op.

    Raises:
        ValueError: one of our names already means another class.
    """
    for sae_class, config_class in WEIGHTED_ARCHITECTURES:
        _register(config_class.architecture(), sae_class, config_class)


def _register(
    name: str, sae_class: type[TrainingSAE[Any]], config_class: type[TrainingSAEConfig]
) -> None:
    registered = SAE_TRAINING_CLASS_REGISTRY.get(name)
    if registered is None:
        register_sae_training_class(name, sae_class, config_class)
        # Only checkpoints have the name: what is published is of one of SAELens's own classes.
        register_sae_class(name, published_class(sae_class), config_class)
    elif registered != (sae_class, config_class):
        raise ValueError(
            f"SAELens already has an architecture {name!r}: {_names(registered)}; "
            f"{_names((sae_class, config_class))} cannot be registered beside it. Two plugins, or "
            "two copies of this one, claim the name: import one of them only."
        )


# SAELens builds what the checkpoint names, and would leave a `topk` checkpoint unweighted, and
# another alpha as it was, without a word.
@patch_function_wrapper(LanguageModelSAETrainingRunner, "__init__")
def _fine_tune_what_the_config_says(
    build: Callable[..., None], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    given = inspect.signature(build).bind(*args, **kwargs).arguments
    cfg = given["cfg"]
    weights = cfg.from_pretrained_path
    if weights and isinstance(cfg.sae, WeightedTrainingSAEConfig) and not given.get("override_sae"):
        sae = TrainingSAE.from_dict(cfg.get_training_sae_cfg_dict())
        sae.load_weights_from_checkpoint(weights)
        given["override_sae"] = sae
    build(**given)


def _names(classes: tuple[type[Any], type[Any]]) -> str:
    return " with ".join(f"{cls.__module__}.{cls.__qualname__}" for cls in classes)


register_all()
