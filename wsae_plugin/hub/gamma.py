"""The weights of published SAEs, in numbers and drawn."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma.spectrum import gamma_spectrum, weighted_variance_share
from wsae_plugin.hub.markdown import code, table
from wsae_plugin.hub.records import SAERecord
from wsae_plugin.plots import gamma as plots
from wsae_plugin.report.text import Report
from wsae_plugin.scores import Score, ScoreFile

Gammas = Mapping[str, dict[str, Any]]
"""SAE → its entry in `gammas` of gamma.json, as `wsae gamma` writes it, its hook and tokens."""

SPECTRUM: Sequence[Report] = (
    {"eval": "gamma", "metric": "effective_dimensions", "label": "effective dimensions"},
    {"eval": "gamma", "metric": "top_5", "label": "top 5 hold"},
)


def gammas_of(records: Sequence[SAERecord]) -> Gammas:
    """Γ of every weighted SAE.

    Raises:
        BadInputError: One has no usable gamma.safetensors beside it.
    """
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        if record.proxy is not None:
            tensors = _read(record)
            found[record.sae_id] = _entry(
                record.proxy, record.alpha, tensors["gamma"], tensors["variance"]
            ) | {"hook_name": record.run.hook_name, "tokens": int(tensors["n_samples"])}
    return found


def gamma_table(gammas: Gammas) -> str:
    """How uneven each Γ is, and on how few dimensions the loss rests."""
    rows = [
        (
            code(sae_id),
            f"{entry['tokens']:,}",
            *(f"{entry['spectrum']['gamma'][name]:.3g}" for name in ("min", "median", "max")),
            f"{entry['spectrum']['effective_dimensions']:.1f} of {entry['spectrum']['d_in']}",
            f"{entry['spectrum']['weighted_variance_share']['top_5']:.0%}",
        )
        for sae_id, entry in gammas.items()
    ]
    headings = ("SAE", "tokens", "min γ", "median γ", "max γ", "effective dimensions", "top 5 hold")
    return table(headings, rows)


def gamma_scores(gammas: Gammas) -> dict[str, dict[str, ScoreFile]]:
    """The same as scores, so that they are averaged as scores are."""

    found: dict[str, dict[str, ScoreFile]] = {}
    for sae_id, entry in gammas.items():
        spectrum = entry["spectrum"]
        values = spectrum["effective_dimensions"], spectrum["weighted_variance_share"]["top_5"]
        scores = [
            Score(**metric, value=value, direction="none")
            for metric, value in zip(SPECTRUM, values, strict=True)
        ]
        found[sae_id] = {"gamma": ScoreFile(run=sae_id, scores=scores)}
    return found


def gamma_figures(model_name: str, gammas: Gammas) -> dict[str, bytes]:
    """Hook → PNG: of SAEs that differ in their seed or width alone the first stands for all."""
    figures: dict[str, bytes] = {}
    for hook in dict.fromkeys(entry["hook_name"] for entry in gammas.values()):
        here = [entry for entry in gammas.values() if entry["hook_name"] == hook]
        first = {(entry["proxy"], entry["alpha"]): entry for entry in reversed(here)}
        even = _entry("uniform", 0.0, torch.ones(len(here[0]["gamma"])), here[0]["variance"])
        png = io.BytesIO()
        figure = plots.gamma_spectrum(
            {
                "model": model_name,
                "hook_name": hook,
                "tokens": here[0]["tokens"],
                "gammas": [even, *sorted(first.values(), key=lambda entry: entry["alpha"])],
            }
        )
        # Without matplotlib's version in it, equal figures are equal files.
        figure.savefig(png, format="png", dpi=150, facecolor="white", metadata={"Software": None})
        figures[hook] = png.getvalue()
    return figures


def _entry(proxy: str, alpha: float, gamma: torch.Tensor, variance: torch.Tensor) -> dict[str, Any]:
    gamma, variance = gamma.double(), variance.double()
    return {
        "proxy": proxy,
        "alpha": alpha,
        "gamma": gamma.tolist(),
        "variance": variance,
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
