"""The weights of published SAEs, in numbers and drawn."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma.spectrum import gamma_spectrum, weighted_variance_share
from wsae_plugin.hub.markdown import code, table
from wsae_plugin.hub.records import SAERecord
from wsae_plugin.hub.tables import label_cell
from wsae_plugin.plots import gamma as plots
from wsae_plugin.report.inputs import Frame


def gammas_of(records: Sequence[SAERecord]) -> Frame:
    """A row a weighted SAE, by its name: its Γ as gamma.json of `wsae gamma` has it, and numbers.

    Raises:
        BadInputError: One has no usable gamma.safetensors beside it.
    """
    weighted = [record for record in records if record.proxy is not None]
    return pd.DataFrame(map(_row, weighted), index=[record.sae_id for record in weighted])


def gammas_by_hook(gammas: Frame, labels: Mapping[str, str], hooks: Sequence[str]) -> str:
    """Effective dimensions and the share of the first five, means over seeds.

    Args:
        gammas: From `gammas_of`.
        labels: SAE → the label of its arm.
        hooks: In the order of the rows.
    """
    arms = gammas.index.map(labels).rename("arm")
    means = gammas.groupby(["hook", arms], sort=False)[["effective", "top_5"]].mean()
    cells = means["effective"].map("{:.1f}; ".format) + means["top_5"].map("{:.0%}".format)
    by_hook = cells.unstack(fill_value="–")[list(arms.unique())]
    rows = [(code(hook), *by_hook.loc[hook]) for hook in hooks if hook in by_hook.index]
    return table(("hook", *map(label_cell, by_hook)), rows)


def gamma_figures(model_name: str, gammas: Frame) -> dict[str, bytes]:
    """Hook → PNG: of SAEs that differ in their seed or width alone the first stands for all."""
    figures: dict[str, bytes] = {}
    for hook, here in gammas.groupby("hook", sort=False):
        kinds = here.drop_duplicates(["proxy", "alpha"]).sort_values("alpha", kind="stable")
        first = here.iloc[0]
        even = _entry("uniform", 0.0, torch.ones(len(first["gamma"])), first["variance"])
        png = io.BytesIO()
        figure = plots.gamma_spectrum(
            {
                "model": model_name,
                "hook_name": hook,
                "tokens": first["tokens"],
                "gammas": [even, *kinds.to_dict("records")],
            }
        )
        # Without matplotlib's version in it, equal figures are equal files.
        figure.savefig(png, format="png", dpi=150, facecolor="white", metadata={"Software": None})
        figures[hook] = png.getvalue()
    return figures


def _row(record: SAERecord) -> dict[str, Any]:
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
    gamma, variance = tensors["gamma"].double(), tensors["variance"].double()
    spectrum = gamma_spectrum(gamma, variance)
    return {
        "hook": record.run.hook_name,
        "tokens": int(tensors["n_samples"]),
        **spectrum["gamma"],
        "effective": spectrum["effective_dimensions"],
        "top_5": spectrum["weighted_variance_share"]["top_5"],
        "variance": variance,
        **_entry(str(record.proxy), record.alpha, gamma, variance),
    }


def _entry(proxy: str, alpha: float, gamma: torch.Tensor, variance: torch.Tensor) -> dict[str, Any]:
    share = weighted_variance_share(gamma, variance).tolist()
    return {
        "proxy": proxy,
        "alpha": alpha,
        "gamma": gamma.tolist(),
        "weighted_variance_share": share,
    }
