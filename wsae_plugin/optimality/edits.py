"""What can be done about a trained SAE without training: fewer active latents, a better decoder.

An edit is fitted on every other held-out batch and measured on those between; where it does not
gain there, nothing is written. What is written is a plain SAELens SAE.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sae_lens import SAE, JumpReLUSAE, JumpReLUSAEConfig, TopKSAE
from sae_lens.saes.sae import SAEMetadata
from torch import Tensor

from wsae_plugin.compare.manifest import ComparedRun
from wsae_plugin.compare.runs import runs_of
from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.export_check import FIELD as EXPORT_CHECK
from wsae_plugin.files import (
    folder_written_whole,
    refuse_output,
    write_json_atomic,
    write_text_atomic,
)
from wsae_plugin.measures.activity import l0
from wsae_plugin.measures.evaluated_run import EvaluatedRun
from wsae_plugin.measures.explained_variance import explained_variance, under_weights
from wsae_plugin.measures.held_out import HeldOutSamples, HeldOutText
from wsae_plugin.measures.language_model import ce_loss_recovered
from wsae_plugin.messages import naming
from wsae_plugin.optimality.coded import Coded, weighted
from wsae_plugin.optimality.pairs import FEWEST
from wsae_plugin.optimality.refit import best_prior, refitted
from wsae_plugin.optimality.run import OptimalitySettings, encoded, held_out_of, weight_of
from wsae_plugin.saes import GAMMA_FILENAME
from wsae_plugin.saes.metric import METRIC_FILENAME
from wsae_plugin.saved_run import CONFIG, read_cfg, read_training
from wsae_plugin.statistics import t_interval
from wsae_plugin.yaml_file import to_yaml

RECORD = "edit.json"
"""Beside an edited SAE: what was done, and what it is worth."""

_STANDARD_ERRORS = 2
"""By how many what pruning saves exceeds 0. Without them thresholds follow the samples that they
are fitted on, and on others they lose: on the bundled model 0.001 of the explained variance."""
_MEASURES = (explained_variance, under_weights, ce_loss_recovered, l0)
_SHOWN = ("explained_variance", "weighted_explained_variance", "ce_loss_recovered", "l0")

Change = Mapping[str, Mapping[str, Any]]
"""Metric → `label`, `before`, `after`, and `difference` with its 95 % interval, `low` to `high`."""


@dataclass(frozen=True)
class Edit:
    """One thing that can be done about an SAE.

    Args:
        apply: Changes an SAE, given what it makes of the samples to fit on, of which batch each is,
            and γ or M; returns the SAE, which may be of another class, and what was done.
        gains: Whether a change is one for the better.
        architectures: Those that it is defined for.
    """

    apply: Callable[[SAE[Any], Coded, Tensor, Tensor], tuple[SAE[Any], dict[str, Any]]]
    gains: Callable[[Change], bool]
    architectures: tuple[str, ...]


def to_be_edited(paths: Sequence[Path], edit: str, output: Path) -> ComparedRun:
    """The SAE in a folder, before any work is done.

    Raises:
        BadInputError: There are several, the edit is not defined for it, or `output` exists.
    """
    if len(runs := runs_of(paths)) != 1:
        raise BadInputError(
            f"--{edit}: {len(runs)} SAEs are given, and one is written; give the folder of one"
        )
    refuse_output("--output", output)
    if os.path.exists(os.path.realpath(output)):
        raise BadInputError(f"--output {output}: is there already; give a folder that is not")
    architecture = read_cfg(runs[0].sae, ("architecture",))["architecture"]
    if architecture not in (known := EDITS[edit].architectures):
        raise BadInputError(
            f"--{edit}: {runs[0].run} is a {architecture} SAE, and this is for {', '.join(known)} "
            "only"
        )
    return runs[0]


def write_edited(
    of: ComparedRun, edit: str, output: Path, settings: OptimalitySettings
) -> dict[str, Any]:
    """Edit an SAE, measure it before and after, and write it into a folder if that gains.

    Args:
        of: See `to_be_edited`.
        edit: A name in `EDITS`.
        output: The folder, whole or not at all.
        settings: What is fitted and measured on.

    Returns:
        What stands in edit.json.

    Raises:
        BadInputError: The SAE cannot be loaded, or there are no held-out samples.
        RunFailedError: The edit does not gain what it is for.
    """
    run = EvaluatedRun.load(of, settings.dataset)
    held_out, weight = held_out_of([run], settings), weight_of(run)
    before, after = run.load_sae(), with_decoder_folded(run.load_sae())
    with naming(str(of.path)):
        own, batch = encoded(after, weight, held_out, settings.of([run]))
    fits = batch % 2 == 0
    after, done = EDITS[edit].apply(after, own.of(fits), batch[fits], weight)
    change = measured_change(before, after, held_out, run.gamma)
    if not EDITS[edit].gains(change):
        said = "; ".join(
            f"{each['label']} {each['before']:.4g} → {each['after']:.4g} ({each['difference']:+.2g}"
            f", 95 % interval {each['low']:+.2g} to {each['high']:+.2g})"
            for each in change.values()
        )
        raise RunFailedError(f"--{edit}: does not gain, so nothing was written: {said}")
    record = {
        "edit": edit,
        "of": run.name,
        "done": done,
        "settings": asdict(settings) | {"dataset": str(run.source), **run.fingerprints},
        "fitted_on": int(fits.sum()),
        "metrics": change,
    }
    with folder_written_whole(output) as partial:
        _write(after, run, edit, partial)
        write_json_atomic(partial / RECORD, record)
    return record


def _write(sae: SAE[Any], run: EvaluatedRun, edit: str, folder: Path) -> None:
    of, section = run.compared, run.config.values["sae"]
    metadata = {**(read_cfg(of.sae).get("metadata") or {})}
    # It is of what was exported then.
    metadata.pop(EXPORT_CHECK, None)
    metadata["edits"] = [*metadata.get("edits", []), edit]
    sae.cfg.metadata = SAEMetadata.from_dict(metadata)
    sae.to("cpu").save_model(folder)
    beside = {
        of.sae / GAMMA_FILENAME: "alpha" in section,
        of.sae / METRIC_FILENAME: section.get("metric") is not None,
    }
    for file, belongs in beside.items():
        if belongs and file.is_file():
            shutil.copyfile(file, folder / file.name)
    write_text_atomic(folder / CONFIG, to_yaml(read_training(of.path, of.sae)))


@torch.no_grad()
def with_decoder_folded(sae: SAE[Any]) -> SAE[Any]:
    """The same SAE, whose latents no longer depend on the lengths of its decoder."""
    cfg: Any = sae.cfg
    if getattr(cfg, "rescale_acts_by_decoder_norm", False):
        sae.fold_W_dec_norm()
        cfg.rescale_acts_by_decoder_norm = False
    return sae


def measured_change(
    before: SAE[Any], after: SAE[Any], held_out: HeldOutText | HeldOutSamples, gamma: Tensor
) -> Change:
    """What an edit does on the batches that it was not fitted on, see `Change`."""
    found = held_out.evidence({"before": before, "after": after})
    first, second = (
        {
            score.metric: score
            for measure in _MEASURES
            for score in measure(replace(found[name], gamma=gamma))
            if score.metric in _SHOWN
        }
        for name in ("before", "after")
    )
    change: dict[str, dict[str, Any]] = {}
    for metric, score in first.items():
        pair = [np.array(each.per_batch[1::2]) for each in (score, second[metric])]
        # Of samples that do not vary both explain −∞ of the variance.
        with np.errstate(invalid="ignore"):
            interval = t_interval((pair[1] - pair[0]).tolist())
        change[metric] = {
            "label": score.label,
            "before": float(pair[0].mean()),
            "after": float(pair[1].mean()),
            "difference": interval.mean,
            "low": interval.low,
            "high": interval.high,
        }
    return change


@torch.no_grad()
def refit(
    sae: SAE[Any], own: Coded, batch: Tensor, weight: Tensor
) -> tuple[SAE[Any], dict[str, Any]]:
    """Fit the decoder once more to the SAE's own codes; its bias and what it encodes stay.

    Args:
        sae: Its W_dec is changed.
        own: What it makes of the samples.
        batch: Of which held-out batch each is, shape (n,), int64.
        weight: γ, shape (d_in,), or M, shape (d_in, d_in).

    Returns:
        The SAE, and the weight of staying where it is.
    """
    n_latents = len(sae.W_dec)
    reverse = own.latents >= n_latents
    signed = replace(
        own,
        atoms=own.atoms[:n_latents],
        latents=own.latents - n_latents * reverse,
        values=own.values.where(~reverse, -own.values),
    )
    prior = best_prior(signed, batch % 4 < 2)
    lengths = weighted(sae.W_dec.double(), weight).norm(dim=1, keepdim=True)
    moved = lengths * (refitted(signed, prior) - signed.atoms)
    inverse = weight.inverse() if weight.ndim == 2 else 1 / weight
    sae.W_dec.add_(weighted(moved, inverse))
    return sae, {"prior": prior}


@torch.no_grad()
def prune(
    sae: SAE[Any],
    own: Coded,
    batch: Tensor,  # noqa: ARG001
    weight: Tensor,
) -> tuple[SAE[Any], dict[str, Any]]:
    """Keep latents silent where that costs nothing: a smaller k, or larger thresholds.

    Args:
        sae: Its k is changed, or its thresholds.
        own: What it makes of the samples.
        batch: Of which held-out batch each is.
        weight: γ, shape (d_in,), or M, shape (d_in, d_in).

    Returns:
        The SAE, of a ReLU a JumpReLU, and its k, or of how many latents the threshold was raised.
    """
    lengths = weighted(sae.W_dec.double(), weight).norm(dim=1)
    of_each = lengths[own.latents % len(lengths)].clamp(min=torch.finfo(lengths.dtype).tiny)
    acts = own.values / of_each
    if isinstance(sae, TopKSAE):
        k = fewest_of(own, acts)
        done = {"k": k, "former_k": sae.cfg.k}
        sae.cfg.k = k
        sae.activation_fn = sae.get_activation_fn()
        return sae, done
    raised = thresholds_of(own, acts)
    if not isinstance(sae, JumpReLUSAE):
        cfg = sae.cfg.to_dict() | {"architecture": JumpReLUSAEConfig.architecture()}
        weights = sae.state_dict() | {"threshold": torch.zeros_like(raised)}
        sae = JumpReLUSAE(JumpReLUSAEConfig.from_dict(cfg))
        sae.load_state_dict(weights)
    sae.threshold.copy_(sae.threshold.maximum(raised.to(sae.threshold)))
    return sae, {"raised_thresholds": int((raised > 0).sum())}


def fewest_of(own: Coded, acts: Tensor) -> int:
    """The least k at which keeping the k largest activations leaves no more of the samples.

    Args:
        own: Samples and codes.
        acts: The activations by which latents are chosen, of the shape of `own.values`.
    """
    order = acts.argsort(dim=1, descending=True)
    latents, values = own.latents.gather(1, order), own.values.gather(1, order)
    left = own.residual
    fewest, enough = values.shape[1], float(left.square().sum())
    for k in range(values.shape[1] - 1, 0, -1):
        left = left + values[:, k : k + 1] * own.atoms[latents[:, k]]
        if float(left.square().sum()) <= enough:
            fewest = k
    return fewest


def thresholds_of(own: Coded, acts: Tensor) -> Tensor:
    """The activation of each latent that is best left out with all below it; 0 for none.

    Best is where the sum of what that costs is least, with two of its standard errors added.

    Args:
        own: Samples and codes, none of a signed SAE.
        acts: Activations, of the shape of `own.values`.

    Returns:
        Shape (n_latents,), float64: a JumpReLU lets through what is larger.
    """
    is_atom = own.latents >= 0
    latents, acts, cost = own.latents[is_atom], acts[is_atom], own.costs[is_atom]
    order = acts.argsort()
    order = order[latents[order].argsort(stable=True)]
    n_active = own.counts.tolist()
    found = torch.zeros(len(own.atoms), dtype=acts.dtype, device=acts.device)
    parts = zip(acts[order].split(n_active), cost[order].split(n_active), strict=True)
    for latent, (ascending, costs) in enumerate(parts):
        if len(costs) >= FEWEST:
            errors = costs.square().cumsum(dim=0).sqrt()
            least, last = (costs.cumsum(dim=0) + _STANDARD_ERRORS * errors).min(dim=0)
            if least < 0:
                found[latent] = ascending[last]
    return found


def _pruning_gains(change: Change) -> bool:
    is_sparser = change["l0"]["difference"] < 0
    return is_sparser and change["explained_variance"]["difference"] >= 0 and _no_loss(change)


def _refit_gains(change: Change) -> bool:
    return change["explained_variance"]["low"] > 0 and _no_loss(change)


def _no_loss(change: Change) -> bool:
    """Whether the language model does not clearly lose; true where there is none."""
    recovered = change.get("ce_loss_recovered")
    return recovered is None or recovered["high"] >= 0


_OF_TOP_K = ("topk", "abstopk")
EDITS = {
    "prune": Edit(prune, _pruning_gains, ("jumprelu", "standard", *_OF_TOP_K)),
    # A pursuit makes its codes with its decoder, so that a refit would change them.
    "refit": Edit(refit, _refit_gains, ("jumprelu", "standard", "gated", *_OF_TOP_K)),
}
"""Option of the command line → edit."""
