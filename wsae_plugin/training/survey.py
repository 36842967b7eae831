"""What Γ would be for a config's model, hook and data, before anything is trained."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from functools import cache, partial
from itertools import islice
from typing import Any

import torch
from jinja2 import TemplateError
from tqdm.auto import tqdm

from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma.proxies import needs_of, needs_sae
from wsae_plugin.gamma.spectrum import check_needs_no_sae, halves_of, survey
from wsae_plugin.sources import open_source
from wsae_plugin.training.config import RunConfig

logger = logging.getLogger(__name__)

_FREEZE_STEP = 100
"""Batches that Γ is estimated over where a config does not say."""


def survey_config(
    config: RunConfig,
    alphas: Sequence[float] | None = None,
    proxies: Sequence[str] | None = None,
    tokens: int | None = None,
) -> dict[str, Any]:
    """Γ for several proxies and exponents, on the activations that training would see first.

    Args:
        config: A run of one SAE.
        alphas: The exponents; None for 0.5, 1 and the config's.
        proxies: Of the table of proxies; None for variance, kurtosis and the config's.
        tokens: How many to read, in whole batches; None for as many as Γ is estimated over.

    Returns:
        What `survey` returns, and where the activations are from, as plain values for JSON.

    Raises:
        BadInputError: A proxy is unknown or needs an SAE, an exponent is not finite, or the source
            is not as the config says.
        RunFailedError: The activations do not vary, or are not finite.
    """
    for proxy in proxies or []:
        check_needs_no_sae(proxy)
    for alpha in alphas or []:
        if not math.isfinite(alpha):
            raise BadInputError(f"--alpha {alpha}: must be a finite number")
    sae, runner_config = config.values["sae"], config.runner_config()
    own_proxy, own_alpha = sae.get("gamma_proxy", "variance"), sae.get("alpha")
    n_batches = sae.get("gamma_freeze_step") or _FREEZE_STEP
    if tokens is not None:
        n_batches = -(-tokens // config.batch_size)
    # Two at least: the spread is the difference between halves.
    n_batches = max(2, n_batches)
    source = open_source(runner_config)
    hook = next(iter(source.d_in))
    evidence = cache(partial(source.label_evidence, hook))
    torch.manual_seed(config.seed)
    batches = (batch[hook] for batch in source)
    bar = tqdm(islice(batches, n_batches), "Activations", total=n_batches, unit="batch")
    try:
        halves = halves_of(bar, sae["d_in"])
    except TemplateError as error:
        raise BadInputError(
            f"model_name = {runner_config.model_name!r}: its tokenizer's chat template: {error}"
        ) from error
    finally:
        source.close()
    needs = needs_of(own_proxy)
    if not proxies and needs is None:
        logger.warning(
            "gamma_proxy %r: was registered where the SAE was trained, and is not here: its Γ is "
            "not shown; the SAE's gamma.safetensors has it",
            own_proxy,
        )
    own = [own_proxy] if needs is not None and not needs_sae(own_proxy) else []
    result = survey(
        halves,
        alphas or [0.5, 1.0, *([] if own_alpha is None else [own_alpha])],
        proxies or ["variance", "kurtosis", *own],
        normalization=sae.get("gamma_normalization", "total_variance"),
        clip=sae.get("gamma_clip"),
        file=sae.get("gamma_file"),
        seed=sae.get("gamma_seed", 0),
        labels=evidence,
        shuffled_labels=partial(evidence, shuffled=True),
    )
    about = {"alpha": own_alpha, "gamma_proxy": own_proxy, "gamma_clip": sae.get("gamma_clip")}
    return {
        "model": getattr(runner_config, "model_name", None) or source.name,
        "hook_name": hook,
        "dataset": getattr(runner_config, "dataset_path", None),
        "config": about,
        **result,
    }
