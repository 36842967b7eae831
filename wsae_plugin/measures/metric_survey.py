"""What a metric would be for a config's model, hook and data, and what it says of errors."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsae_plugin.compare.manifest import ComparedRun
from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma.metric import MetricName, directions_that_hold, metric_from
from wsae_plugin.gamma.sensitivity import Sensitivity
from wsae_plugin.measures.evaluated_run import EvaluatedRun
from wsae_plugin.measures.gate import gate
from wsae_plugin.measures.held_out import EvalSettings, HeldOutText, open_held_out
from wsae_plugin.sources import open_source
from wsae_plugin.sources.hooks import hooks_of
from wsae_plugin.training.config import RunConfig

logger = logging.getLogger(__name__)

_ESTIMATED = ("fisher", "rotated_fisher", "covariance")
_TOP = 5
_ROUNDING = 1e-11
"""Of float32, squared and with room, in units of the largest: less is no variance."""


def survey_metric(
    config: RunConfig,
    metric: MetricName,
    n_tokens: int | None = None,
    file: Path | None = None,
    sae: ComparedRun | None = None,
    n_contexts: int = 32,
) -> dict[str, Any]:
    """Estimate a metric as training would, and describe it.

    Args:
        config: A run of one SAE on a language model.
        metric: One that is estimated: fisher, rotated_fisher or covariance.
        n_tokens: From how many activations at least; None for the config's `metric_tokens`.
        file: Where the estimate is kept, for `metric_file`, in a folder that is made; None throws
            it away.
        sae: A trained SAE, for gate 0 on its errors.
        n_contexts: On how many held-out contexts.

    Returns:
        Plain values for JSON: `eigenvalues` in units of their mean, the largest first;
        `directions_that_hold_half` of their sum; `alignment`, the correlation over the
        covariance's eigenvectors of log variance and log metric, 1 where both have the same axes
        in the same order; `mean_in_top`, the share of the mean activation's square in the metric's
        top five directions; `diagonal_max_over_median`; and with an SAE `gate`, see `gate`.

    Raises:
        BadInputError: The config has no language model, or the metric is not estimated.
    """
    if not config.has_language_model or metric not in _ESTIMATED:
        raise BadInputError(
            f"--metric {metric}: must be {', '.join(_ESTIMATED)}, at a hook of a language model"
        )
    section, runner_config = config.values["sae"], config.runner_config()
    (hook,) = hooks_of(runner_config)
    source = open_source(runner_config)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    n_read: int = n_tokens or section.get("metric_tokens", 2000)
    with tempfile.TemporaryDirectory(prefix="wsae-") as scratch:
        found = source.sensitivity(hook.name, file or Path(scratch) / "metric", n_read)
    information = found.information(metric, section.get("gamma_seed", 0))
    described = {
        "model": runner_config.model_name,
        "hook_name": hook.name,
        "dataset": runner_config.dataset_path,
        "metric": metric,
        "tokens": int(found.n_tokens),
        "gradients": int(found.n_gradients),
        **_described(information, found),
    }
    if sae is None:
        return described
    settings = EvalSettings(batches=2, batch_size_prompts=-(-n_contexts // 2))
    try:
        run = EvaluatedRun.load(sae, None)
        text = open_held_out([run.config], run.source, settings)
    except BadInputError:  # what was estimated is worth showing without it
        text_of = runner_config.dataset_path
        logger.warning("gate 0 is left out: %s has no held-out part that can be read", text_of)
        return described
    assert isinstance(text, HeldOutText)
    ridge = section.get("metric_ridge", 1.0)
    metrics = {f"δAδᵀ, {metric}, ε = {e:g}": metric_from(information, e) for e in (0.0, ridge)}
    place = (hook.name, hook.head_index)
    trained = run.load_sae()
    trained.turn_off_forward_pass_hook_z_reshaping()  # heads are laid side by side
    return described | {"gate": gate(text, trained, place, metrics, n_contexts)}


def _described(information: Tensor, found: Sensitivity) -> dict[str, Any]:
    eigenvalues, directions = torch.linalg.eigh(information)
    variances, axes = torch.linalg.eigh(found.covariance)
    along = torch.einsum("ik,ij,jk->k", axes, information, axes)
    # In a model with centred weights both are 0 for the sum of all dimensions, but for rounding.
    seen = (variances > _ROUNDING * variances.max()) & (along > _ROUNDING * along.max())
    logs = torch.stack([variances[seen].log(), along[seen].log()])
    top = directions[:, -_TOP:].T @ found.mean
    diagonal = information.diagonal()
    return {
        "eigenvalues": (eigenvalues / eigenvalues.mean()).flip(0).tolist(),
        "directions_that_hold_half": directions_that_hold(information),
        "alignment": float(torch.corrcoef(logs)[0, 1]),
        "mean_in_top": float(top.square().sum() / found.mean.square().sum()),
        "diagonal_max_over_median": float(diagonal.max() / diagonal.median()),
    }
