"""Activations of a language model, as SAELens serves them to a training run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sae_lens import ActivationsStore, LanguageModelSAERunnerConfig
from torch import Tensor

from wsae_plugin.messages import refusals_as_bad_input
from wsae_plugin.training.hooks import check_hooks, check_names_before_loading, hooks_of
from wsae_plugin.training.sources import (
    open_dataset,
    open_model,
    sources_given_on_purpose,
)


def activations_of(cfg: LanguageModelSAERunnerConfig[Any]) -> Iterator[Tensor]:
    """Activation batches at the hook of `cfg`, shuffled as a training run would see them.

    The shuffle draws from torch's global generator: seed it first for an order that repeats.

    Args:
        cfg: SAELens's config. `model_name` and `dataset_path` may be `bundled`.

    Returns:
        Endless batches of shape (train_batch_size_tokens, d_in), on `cfg.act_store_device`. The
        model is loaded and checked at once, not with the first batch.

    Raises:
        BadInputError: The model, the hook, `sae.d_in` or the data set is not what `cfg` says.

    Example:
        >>> from itertools import islice
        >>> first_hundred = islice(activations_of(cfg), 100)  # doctest: +SKIP
    """
    hooks = hooks_of(cfg)
    check_names_before_loading(cfg, hooks)
    model = open_model(cfg, [hook.name for hook in hooks])
    check_hooks(cfg, model, hooks)
    dataset = open_dataset(cfg.dataset_path, cfg.streaming)
    with (
        sources_given_on_purpose(),
        refusals_as_bad_input(f"dataset_path = {cfg.dataset_path!r}"),
    ):
        return iter(ActivationsStore.from_config(model, cfg, override_dataset=dataset))
