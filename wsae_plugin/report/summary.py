"""What a comparison found: the paired statistics of every metric, from scores and the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wsae_plugin.report.curves import gammas, learning, trade
from wsae_plugin.report.inference import add_contrasts, add_tests, sds_to_be_clear
from wsae_plugin.report.inputs import Frame, Inputs, sparsity_label
from wsae_plugin.report.optimality import optimality
from wsae_plugin.report.paired import level, measured, metric_entry, pair_runs
from wsae_plugin.report.text import eval_label
from wsae_plugin.report.verdict import verdict
from wsae_plugin.scores import EXPECTED, FOLDER, MADE_BY
from wsae_plugin.statistics import CONFIDENCE, rounded

L0_TOLERANCE = 0.05
"""A larger relative difference of L0 is flagged: most metrics follow sparsity."""

Summary = dict[str, Any]


def summarize(inputs: Inputs) -> Summary:
    """The content of report.json.

    Within a pair, the difference to the baseline; within a seed, their mean over layers and
    sparsities; over seeds, Student's interval and paired test, Holm-adjusted over the headline
    metrics and the arms of a role. Layers are described, never tested: those of one seed share its
    data. Runs without pairs have their `values` in each metric.

    Args:
        inputs: As `read_inputs` gives them.
    """
    manifest, runs = inputs.manifest, inputs.runs
    pairs, refused = pair_runs(runs, {run.run: inputs.facts(run) for run in runs})
    layers = {run.hook_name: run.layer for run in runs}
    scores = [rows for _, rows in inputs.table.groupby(["eval", "metric"], sort=False)]
    metrics = [
        metric_entry(rows, pairs, layers, _per_batch(inputs, rows["metric"].iloc[0]))
        if rows["eval"].iloc[0] == "held_out"
        else metric_entry(rows, pairs, layers, {})
        for rows in scores
    ]
    controls = {
        arm["name"]: controls_of(arm, manifest)
        for arm in manifest["arms"]
        if arm["role"] == "weighted"
    }
    family_sizes = add_tests(metrics, {arm["name"]: arm["role"] for arm in manifest["arms"]})
    n_contrasts = add_contrasts(metrics, scores, pairs, controls)
    for metric in metrics:
        metric["resolution"] = rounded(metric["resolution"])
    n_seeds = pairs["seed"].nunique()
    held_out = {name: s["held_out"] for name, s in inputs.scores.items() if "held_out" in s}
    summary: Summary = {
        "report": 1,
        "compared": _compared(inputs, len(pairs)),
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
                **{name: arm[name] for name in ("name", "label", "role", "alpha", "proxy")},
                "control": control_kind(arm),
                "controls": controls.get(arm["name"], []),
                "l0": _l0(arm["name"], inputs.table, pairs),
            }
            for arm in manifest["arms"]
        ],
        "metrics": metrics,
        "trade": trade(held_out, pairs),
        "gammas": gammas(inputs),
        "learning": learning(inputs),
        "l0_matching": manifest.get("l0_matching", []),
        "refused_pairs": refused,
        "unmatched": manifest.get("unmatched") or {},
        "missing": _missing(inputs),
        "bench": _bench(inputs),
        "optimality": optimality(inputs),
        **{n: manifest.get(n) for n in ("git_revision", "command", "wall_clock_seconds")},
        "versions": manifest.get("versions") or {},
        "config": inputs.config,
    }
    return summary | {"verdict": verdict(summary)}


def controls_of(arm: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[str]:
    """The controls that an effect of `arm` should exceed: Γ shuffled, and Γ = cI."""
    return [
        other["name"]
        for other in manifest["arms"]
        if control_kind(other) is not None and other["of"] == arm["name"]
    ]


def control_kind(arm: Mapping[str, Any]) -> str | None:
    """`shuffled` or `constant`; None for any other arm."""
    return kind if (kind := arm.get("control")) in ("shuffled", "constant") else None


def _per_batch(inputs: Inputs, metric: str) -> dict[str, list[float | None]]:
    files = {name: found.get("held_out") for name, found in inputs.scores.items()}
    return {
        run: file.per_batch[metric]
        for run, file in files.items()
        if file and metric in file.per_batch
    }


def _l0(arm: str, table: Frame, pairs: Frame) -> Summary | None:
    """The arm's L0 and the mean of |ΔL0| / L0 over its pairs, from the first eval that has one."""
    l0 = table[(table["metric"] == "l0") & table["value"].astype(float).gt(0)]
    for _, rows in l0.groupby("eval", sort=False):
        both = measured(rows, pairs)
        mine = both[both["arm"] == arm]
        if len(mine):
            mean = float(np.mean((mine["after"] / mine["before"] - 1).abs()))
            return level(mine, "after") | {
                "relative_difference": rounded(mean),
                "mismatch": mean > L0_TOLERANCE,
            }
        baselines = rows[rows["run"].isin(both["baseline"]) & (rows["arm"] == arm)]
        if len(baselines):
            return level(baselines, "value")
    return None


def _compared(inputs: Inputs, n_pairs: int) -> Summary:
    manifest, runs = inputs.manifest, inputs.runs
    cfgs = [cfg for cfg in inputs.cfgs.values() if cfg]
    architectures = dict.fromkeys(
        str(metadata["training_architecture"])
        for cfg in cfgs
        if "training_architecture" in (metadata := cfg.get("metadata") or {})
    )
    widths = {cfg.get("d_sae") for cfg in cfgs}
    config = next((r["config"] for r in inputs.records.values() if r.get("config")), {})
    texts = [found["held_out"].held_out for found in inputs.scores.values() if "held_out" in found]
    names = ("model_name", "dataset_path", "context_size", "status", "baseline")
    return {
        **{name: manifest.get(name) for name in names},
        "seeds": sorted({run.seed for run in runs}),
        "layers": sorted({run.layer for run in runs if run.layer is not None}),
        "hook_names": list(dict.fromkeys(run.hook_name for run in runs)),
        "sparsities": list(dict.fromkeys(filter(None, map(sparsity_label, runs)))),
        "n_runs": len(runs),
        "n_pairs": n_pairs,
        "training_tokens": config.get("training_tokens", config.get("training_samples")),
        "architecture": " and ".join(architectures) or None,
        "d_sae": widths.pop() if len(widths) == 1 else None,
        "held_out": texts[0] if texts else None,
    }


def _missing(inputs: Inputs) -> list[Summary]:
    """Every seed, arm, run and score that should be there and is not."""
    runs = inputs.runs
    seeds = {run.seed for run in runs}
    missing: list[Summary] = [
        {"what": f"seed {seed}", "reason": "not trained"}
        for seed in inputs.manifest["seeds"]
        if seed not in seeds
    ]
    for name, rows in inputs.table.groupby("eval", sort=False):
        scored, arms = set(rows["run"]), set(rows["arm"])
        without = dict.fromkeys(
            run.run if run.arm in arms else f"arm {run.arm}"
            for run in runs
            if run.run not in scored
        )
        missing += [{"what": what, "reason": f"no score of {eval_label(name)}"} for what in without]
    for name in EXPECTED:
        if name == "saebench" and not inputs.manifest.get("context_size"):
            continue  # it asks a language model, and reads contexts
        if not any(name in found for found in inputs.scores.values()):
            reason = f"no {FOLDER}/{name}.json: `{MADE_BY[name]}` has not been run"
            missing.append({"what": "all runs", "reason": reason})
    for name, entry in ((_bench(inputs) or {}).get("evals") or {}).items():
        if entry.get("status") != "done":
            reason = f"{entry.get('status')}: {entry.get('error', 'no reason given')}"
            missing.append({"what": f"saebench/{name}", "reason": reason})
    return missing


def _bench(inputs: Inputs) -> Summary | None:
    """How SAEBench's evals were carried out, `seconds` over all runs; None if none was."""
    files = [found["saebench"] for found in inputs.scores.values() if "saebench" in found]
    evals: dict[str, dict[str, Any]] = {}
    for file in files:
        for name, entry in file.evals.items():
            before = evals.get(name, {"seconds": 0})
            kept = before if before.get("status") == "failed" else entry
            evals[name] = kept | {"seconds": before["seconds"] + entry.get("seconds", 0)}
    if not files:
        return None
    evals = {name: entry | {"seconds": round(entry["seconds"], 1)} for name, entry in evals.items()}
    return {"evals": evals, "refused": files[0].refused, "versions": files[0].versions}
