"""Sparsity coefficients under which every arm is as sparse as its baseline, by short trainings."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from wsae_plugin.compare.config import ComparisonConfig
from wsae_plugin.compare.folder import ComparisonFolder
from wsae_plugin.compare.manifest import MatchedL0
from wsae_plugin.compare.plan import Group, group_config, plan
from wsae_plugin.training.config import RunConfig
from wsae_plugin.training.train import TrainedRun

logger = logging.getLogger(__name__)

_COEFFICIENTS = ("l1_coefficient", "l0_coefficient")
_CLOSE = math.log(1.05)
_TRIALS = 6
# A step from one coefficient to the next: where L0 hardly answers, a secant leads anywhere.
_LONGEST_STEP = math.log(4)
# And where nothing is active any more, how far off it is says little.
_LARGEST_MISS = math.log(2)
_LEAST_L0 = 0.01
_SCHEDULED = (
    *("lr_warm_up_steps", "lr_decay_steps", "alpha_warm_up_steps"),
    *("l1_warm_up_steps", "l0_warm_up_steps"),
)

_Train = Callable[[RunConfig, Path], TrainedRun]


def match_l0(config: ComparisonConfig, folder: ComparisonFolder, train: _Train) -> list[MatchedL0]:
    """Search, for every arm whose sparsity a coefficient sets, the one with its baseline's L0.

    Up to six trainings with the first seed and `match_l0` of the tokens, each of all arms that are
    not within 5 % yet, on the same batches as the baseline's. What is found holds for all seeds.

    Args:
        config: Of the comparison.
        folder: Where the trainings are, while they last.
        train: Trains a config into a folder.
    """
    found: list[MatchedL0] = []
    for group in plan(config):
        if group.seed == config.seeds[0]:
            found += _match_group(config, group, folder.path / "groups" / "match-l0", train)
    for match in found:
        close = abs(_miss(match.l0, match.baseline_l0)) <= _CLOSE
        (logger.info if close else logger.warning)(
            "%s: %s %.4g in place of %.4g: L0 %.1f, and %.1f of its baseline, in the best of %d "
            "short trainings",
            *(match.sae, match.field, match.found, match.written),
            *(match.l0, match.baseline_l0, match.trainings),
        )
    return found


def coefficient_of(section: Mapping[str, Any]) -> str | None:
    """The field that sets how sparse an SAE becomes by a penalty; None in Top-k, say."""
    return next((name for name in _COEFFICIENTS if section.get(name, 0) > 0), None)


def next_coefficient(trials: list[tuple[float, float]]) -> float:
    """Where to look next: log-linear between or beyond the two trials that are nearest.

    Args:
        trials: Coefficient, and log of L0 over the L0 that is wanted; from the second one on.
    """
    nearest = sorted(trials, key=lambda trial: abs(trial[1]))
    x, miss = math.log(nearest[0][0]), nearest[0][1]
    others = [(math.log(coefficient), other) for coefficient, other in nearest[1:]]
    # One on the other side, if there is any, so that the next lies between.
    across = [
        (at, max(-_LARGEST_MISS, min(_LARGEST_MISS, other)))
        for at, other in others
        if other * miss < 0
    ]
    slope = -1.0
    for at, other in (across or others)[:1]:
        slope = (other - miss) / (at - x)
    if slope < 0:
        step = -miss / slope
    else:  # L0 that does not fall with the coefficient: on, from the outermost trial
        x, step = (max if miss > 0 else min)([x, *(at for at, _ in others)]), miss
    return math.exp(x + max(-_LONGEST_STEP, min(_LONGEST_STEP, step)))


def _match_group(
    config: ComparisonConfig, group: Group, path: Path, train: _Train
) -> Iterator[MatchedL0]:
    runs, sections = group.runs, group.sections
    baselines = {run.pair: sae for sae, run in runs.items() if run.role == "baseline"}
    fields = {
        sae: field
        for sae, run in runs.items()
        if run.role != "baseline" and (field := coefficient_of(sections[sae])) is not None
    }
    trials: dict[str, list[tuple[float, float]]] = {sae: [] for sae in fields}
    wanted: dict[str, float] = {}
    left = [*baselines.values(), *fields] if fields else []
    while left:
        tried = {
            sae: next_coefficient(trials[sae]) if trials[sae] else sections[sae][fields[sae]]
            for sae in left
            if sae in fields
        }
        changed = {sae: {fields[sae]: coefficient} for sae, coefficient in tried.items()}
        trial = replace(
            group,
            runs={sae: runs[sae] for sae in left},
            sections={sae: sections[sae] | changed.get(sae, {}) for sae in left},
        )
        l0 = _l0_of(config, trial, path, train)
        wanted |= {pair: l0[sae] for pair, sae in baselines.items() if sae in l0}
        for sae, coefficient in tried.items():
            trials[sae].append((coefficient, _miss(l0[sae], wanted[runs[sae].pair])))
        left = [
            sae
            for sae in tried
            if len(trials[sae]) < _TRIALS and all(abs(miss) > _CLOSE for _, miss in trials[sae])
        ]
    for sae, field in fields.items():
        coefficient, miss = min(trials[sae], key=lambda trial: abs(trial[1]))
        baseline = max(wanted[runs[sae].pair], _LEAST_L0)
        yield MatchedL0(
            *(sae, runs[sae].arm, field, sections[sae][field], coefficient),
            *(baseline * math.exp(miss), baseline, len(trials[sae])),
        )


def _miss(l0: float, wanted: float) -> float:
    return math.log(max(l0, _LEAST_L0) / max(wanted, _LEAST_L0))


def _l0_of(config: ComparisonConfig, trial: Group, path: Path, train: _Train) -> dict[str, float]:
    """L0 at the end of a short training of the SAEs of a group."""
    share: float = config.values["match_l0"]

    def shortened(values: Mapping[str, Any]) -> dict[str, Any]:
        steps = {name: int(share * values[name]) for name in _SCHEDULED if name in values}
        return {**values, **steps}

    sections = {sae: shortened(section) for sae, section in trial.sections.items()}
    whole = group_config(config, replace(trial, sections=sections))
    values = shortened(whole.values) | {
        whole.source.n_samples_field: max(int(share * whole.n_samples), whole.batch_size),
        "n_checkpoints": 0,
        "save_final_checkpoint": False,
        "logger": whole.values["logger"] | {"log_to_wandb": False},
    }
    shutil.rmtree(path, ignore_errors=True)
    trained = train(RunConfig(values, config.file), path)
    shutil.rmtree(path)
    return {sae: metrics["metrics/l0"] or 0.0 for sae, metrics in trained.metrics.items()}
