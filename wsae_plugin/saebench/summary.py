"""What a comparison found: the paired statistics of every metric, from scores and the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from wsae_plugin.compare.arms import Arm
from wsae_plugin.compare.manifest import Comparison
from wsae_plugin.saebench.summary_inference import add_contrasts, add_tests, sds_to_be_clear
from wsae_plugin.saebench.summary_inputs import Inputs, Score
from wsae_plugin.saebench.summary_metrics import level, metric_entry
from wsae_plugin.saebench.summary_pairs import Pair, pair_runs, sparsity_label
from wsae_plugin.saebench.summary_trade import trade
from wsae_plugin.saebench.verdict import verdict
from wsae_plugin.statistics import CONFIDENCE, rounded

L0_TOLERANCE = 0.05
"""A larger relative difference of L0 is flagged: most metrics follow sparsity."""

_OF_ARMS = ("name", "label", "role", "alpha", "proxy")
Summary = dict[str, Any]


def summarize(inputs: Inputs) -> Summary:
    """The content of report.json.

    Within a pair, the difference to the baseline; within a seed, their mean over layers and
    sparsities; over seeds, Student's interval and paired test, Holm-adjusted over the headline
    metrics and the arms of a role. Layers are described, never tested: those of one seed share its
    data.

    Args:
        inputs: As `read_inputs` gives them.
    """
    comparison = inputs.comparison
    pairs, refused = pair_runs(comparison.runs, inputs.facts)
    metrics = [metric_entry(scores, pairs) for scores in _by_metric(inputs.scores)]
    controls = {
        arm.name: controls_of(arm, comparison) for arm in comparison.arms if arm.role == "weighted"
    }
    family_sizes = add_tests(metrics, {arm.name: arm.role for arm in comparison.arms})
    n_contrasts = add_contrasts(metrics, inputs.scores, pairs, controls)
    for metric in metrics:
        metric["resolution"] = rounded(metric["resolution"])
    n_seeds = len({pair.run.seed for pair in pairs})
    summary: Summary = {
        "report": 1,
        "compared": _compared(inputs, pairs),
        "statistics": {
            "n_seeds": n_seeds,
            "n_pairs": len(pairs),
            "confidence": CONFIDENCE,
            "sds_to_be_clear": sds_to_be_clear(n_seeds, family_sizes.get("weighted", 0)),
            "n_tests": family_sizes | {"against controls": n_contrasts},
            "l0_tolerance": L0_TOLERANCE,
        },
        "arms": [
            {
                **{name: getattr(arm, name) for name in _OF_ARMS},
                "control": control_kind(written),
                "controls": controls.get(arm.name, []),
                "l0": _l0(arm.name, inputs.scores, pairs),
            }
            for arm, written in zip(comparison.arms, comparison.manifest["arms"], strict=True)
        ],
        "metrics": metrics,
        "trade": trade(inputs.per_dimension, pairs),
        "refused_pairs": [asdict(each) for each in refused],
        "missing": _missing(inputs),
        "bench": None if inputs.bench is None else _bench(inputs.bench),
        "versions": comparison.manifest.get("versions", {}),
        "git_revision": comparison.manifest.get("git_revision"),
        "command": comparison.manifest.get("command"),
        "wall_clock_seconds": comparison.manifest.get("wall_clock_seconds"),
        "config": inputs.config,
    }
    return summary | {"verdict": verdict(summary)}


def controls_of(arm: Arm, comparison: Comparison) -> list[str]:
    """The controls that an effect of `arm` should exceed: Γ shuffled, and Γ = cI.

    A manifest says what kind a control is and `of` which arm; in one that does not, the name says
    the kind and the arm is that of the same α.
    """
    return [
        other["name"]
        for other in comparison.manifest["arms"]
        if control_kind(other) is not None
        and (other["of"] == arm.name if other.get("of") else other["alpha"] == arm.alpha)
    ]


def control_kind(arm: Mapping[str, Any]) -> str | None:
    """`shuffled` or `constant`; None for any other arm."""
    if arm["role"] != "control":
        return None
    written = str(arm.get("control") or f"{arm['name']} {arm['label']}").lower()
    return next((kind for kind in ("shuffled", "constant") if kind in written), None)


def _by_metric(scores: Sequence[Score]) -> list[list[Score]]:
    groups: dict[tuple[str, str], list[Score]] = {}
    for score in scores:
        groups.setdefault((score.eval, score.metric), []).append(score)
    return list(groups.values())


def _l0(arm: str, scores: Sequence[Score], pairs: Sequence[Pair]) -> Summary | None:
    """The arm's L0 and the mean of |ΔL0| / L0 over its pairs, from the first eval that has one."""
    for name in dict.fromkeys(score.eval for score in scores if score.metric == "l0"):
        values = {s.run: s.value for s in scores if (s.eval, s.metric) == (name, "l0") and s.value}
        mine = [
            pair
            for pair in pairs
            if pair.run.run in values
            and pair.baseline.run in values
            and arm in (pair.run.arm, pair.baseline.arm)
        ]
        if not mine:
            continue
        if arm == mine[0].baseline.arm:
            return level((p.baseline.seed, values[p.baseline.run]) for p in mine)
        relative = [abs(values[p.run.run] / values[p.baseline.run] - 1) for p in mine]
        mean = float(np.mean(relative))
        return level((p.run.seed, values[p.run.run]) for p in mine) | {
            "relative_difference": rounded(mean),
            "mismatch": mean > L0_TOLERANCE,
        }
    return None


def _compared(inputs: Inputs, pairs: Sequence[Pair]) -> Summary:
    comparison = inputs.comparison
    runs = comparison.runs
    return {
        "model_name": comparison.model_name,
        "dataset_path": comparison.dataset_path,
        "context_size": comparison.context_size,
        "status": comparison.status,
        "baseline": comparison.baseline,
        "seeds": sorted({run.seed for run in runs}),
        "layers": sorted({run.layer for run in runs if run.layer is not None}),
        "hook_names": list(dict.fromkeys(run.hook_name for run in runs)),
        "sparsities": list(
            dict.fromkeys(sparsity_label(run) for run in runs if sparsity_label(run))
        ),
        "n_runs": len(runs),
        "n_pairs": len(pairs),
        **inputs.settings,
    }


def _missing(inputs: Inputs) -> list[Summary]:
    """Every seed, arm, run and score that should be there and is not."""
    comparison = inputs.comparison
    seeds = {run.seed for run in comparison.runs}
    missing: list[Summary] = [
        {"what": f"seed {seed}", "reason": "not trained"}
        for seed in comparison.seeds
        if seed not in seeds
    ]
    for name in dict.fromkeys(score.eval for score in inputs.scores):
        scored = {score.run for score in inputs.scores if score.eval == name}
        arms = {run.arm for run in comparison.runs if run.run in scored}
        without = [
            run.run if run.arm in arms else f"arm {run.arm}"
            for run in comparison.runs
            if run.run not in scored
        ]
        missing += [
            {"what": what, "reason": f"no score of {name}"} for what in dict.fromkeys(without)
        ]
    if not inputs.evaluated:
        missing.append({"what": "all runs", "reason": "no eval.json: `wsae eval` has not been run"})
    for name, entry in ((inputs.bench or {}).get("evals") or {}).items():
        if entry.get("status") != "done":
            reason = f"{entry.get('status')}: {entry.get('error', 'no reason given')}"
            missing.append({"what": f"saebench/{name}", "reason": reason})
    if inputs.bench is None:
        missing.append(
            {"what": "all runs", "reason": "no saebench/scores.json: `wsae bench` has not been run"}
        )
    return missing


def _bench(bench: Any) -> Summary:
    return {name: bench.get(name, {}) for name in ("evals", "refused", "versions")}
