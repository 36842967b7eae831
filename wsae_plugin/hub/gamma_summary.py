"""How the weights of published SAEs look, as the JSON that `plots.gamma` draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma.spectrum import gamma_spectrum, weighted_variance_share
from wsae_plugin.hub.records import SAERecord


def gamma_summaries(records: Sequence[SAERecord]) -> dict[str, dict[str, Any]]:
    """Hook → a document like gamma.json of `wsae gamma`, for hooks that have a weighted SAE.

    Each entry of `gammas` also has `sae_id`. Of SAEs that differ in their seed or width alone the
    first stands for all in the figure; every one is in the document.

    Raises:
        BadInputError: A weighted SAE has no usable gamma.safetensors beside it.
    """
    summaries: dict[str, dict[str, Any]] = {}
    for record in records:
        if record.proxy is None:
            continue
        tensors = _read(record)
        gamma, variance = tensors["gamma"].double(), tensors["variance"].double()
        hook = record.run.hook_name
        summary = summaries.setdefault(
            hook,
            {
                "model": record.model_name,
                "hook_name": hook,
                "tokens": int(tensors["n_samples"]),
                "gammas": [_entry("", "uniform", 0.0, torch.ones_like(gamma), variance)],
            },
        )
        summary["gammas"].append(
            _entry(record.sae_id, record.proxy, record.alpha, gamma, variance)
            | {"tokens": int(tensors["n_samples"])}
        )
    return summaries


def for_figure(summary: dict[str, Any]) -> dict[str, Any]:
    """The same with one entry for each proxy and α."""
    first = {(entry["proxy"], entry["alpha"]): entry for entry in reversed(summary["gammas"])}
    entries = sorted(first.values(), key=lambda entry: (entry["alpha"] != 0, entry["alpha"]))
    return {**summary, "gammas": entries}


def _entry(
    sae_id: str, proxy: str, alpha: float, gamma: torch.Tensor, variance: torch.Tensor
) -> dict[str, Any]:
    return {
        "sae_id": sae_id,
        "proxy": proxy,
        "alpha": alpha,
        "gamma": gamma.tolist(),
        "weighted_variance_share": weighted_variance_share(gamma, variance).tolist(),
        "spectrum": gamma_spectrum(gamma, variance),
    }


def _read(record: SAERecord) -> dict[str, torch.Tensor]:
    file = record.gamma_file
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise BadInputError(f"{file}: the weights of the loss cannot be read: {error}") from None
    for name in ("gamma", "variance"):
        if name not in tensors or tensors[name].shape != (record.cfg["d_in"],):
            raise BadInputError(f"{file}: {name}: missing, or not of shape (d_in,)")
    if "n_samples" not in tensors:
        raise BadInputError(f"{file}: n_samples: missing")
    return tensors
