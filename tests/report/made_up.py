"""Comparison folders with made-up scores, as the commands before `wsae report` leave them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsae_plugin.scores import OptimalityFile, Score, ScoreFile

BASELINE = {"name": "sae", "label": "SAE, α = 0", "role": "baseline", "alpha": 0.0, "proxy": None}
WEIGHTED = {
    "name": "alpha-1",
    "label": "WSAE, α = 1",
    "role": "weighted",
    "alpha": 1.0,
    "proxy": "variance",
}
SHUFFLED = {
    "name": "shuffled",
    "label": "shuffled Γ, α = 1",
    "role": "control",
    "alpha": 1.0,
    "proxy": "shuffled_variance",
    "control": "shuffled",
    "of": "alpha-1",
}

# (eval, metric, label, direction, headline, level, noise)
METRICS = (
    ("held_out", "explained_variance", "explained variance", "up", True, 0.8, None),
    ("held_out", "l0", "L0", "none", True, 32.0, None),
    ("held_out", "cosine_similarity", "cosine of x and x̂", "up", False, 0.9, None),
    ("saebench/absorption", "absorption", "absorption <fraction>", "down", True, 0.2, 0.004),
    ("saebench/core", "ce_loss_score", "CE loss score", "up", True, 0.95, 0.0005),
)


@dataclass(frozen=True)
class Plan:
    """What to make up.

    Args:
        effects: arm → metric → difference to the baseline.
        scatter: standard deviation of the differences.
        seeds: of the trainings.
        layers: of the hooks.
        arms: baseline first.
        k: sparsities.
    """

    effects: Mapping[str, Mapping[str, float]]
    scatter: float = 0.001
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    layers: tuple[int, ...] = (1, 3)
    arms: tuple[Mapping[str, Any], ...] = (BASELINE, WEIGHTED, SHUFFLED)
    k: tuple[int, ...] = (32,)


def write_comparison(folder: Path, plan: Plan, *, bench: bool = True, evals: bool = True) -> Path:
    """A finished comparison folder with the scores of every run."""
    draw = np.random.default_rng(0)
    runs: list[dict[str, Any]] = []
    for seed in plan.seeds:
        for layer in plan.layers:
            for k in plan.k:
                # Levels differ by much more than arms do, as those of real layers and seeds.
                levels = {m[1]: m[5] + (0.01 * layer + 0.02 * draw.normal()) for m in METRICS}
                levels["l0"] = float(k)
                for arm in plan.arms:
                    run = f"layer-{layer}-k-{k}-{arm['name']}-seed-{seed}"
                    runs.append(_run(run, arm, layer, k, seed))
                    scores = [
                        _score(metric, _value(plan, arm, metric[1], levels, draw))
                        for metric in METRICS
                    ]
                    _write_run(folder / "runs" / run)
                    if evals:
                        _write_held_out(folder / "runs" / run, arm, scores)
                    if bench:
                        _write_bench(folder / "runs" / run, scores)
    manifest = {
        "comparison": 1,
        "status": "finished",
        "model_name": "a model with <angles>",
        "model_class_name": "HookedTransformer",
        "dataset_path": "bundled",
        "context_size": 128,
        "seeds": list(plan.seeds),
        "baseline": "sae",
        "arms": [dict(arm) for arm in plan.arms],
        "runs": runs,
        "versions": {"wsae-plugin": "0.1.0"},
        "git_revision": "abc",
        "command": "wsae compare some.yaml",
        "config": {"seeds": [0]},
    }
    write_json(folder / "manifest.json", manifest)
    return folder


def change_json(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Read, change in place, write."""
    document = json.loads(file.read_text(encoding="utf-8"))
    change(document)
    write_json(file, document)


def write_json(file: Path, document: Any) -> None:
    file.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")


def _value(plan: Plan, arm: Mapping[str, Any], metric: str, levels: Any, draw: Any) -> float:
    level = levels[metric]
    if arm["role"] == "baseline" or metric == "l0":
        return level + plan.effects.get(arm["name"], {}).get(metric, 0.0)
    return level + plan.effects.get(arm["name"], {}).get(metric, 0.0) + plan.scatter * draw.normal()


def _run(run: str, arm: Mapping[str, Any], layer: int, k: int, seed: int) -> dict[str, Any]:
    return {
        "run": run,
        "path": f"runs/{run}",
        "arm": arm["name"],
        "role": arm["role"],
        "hook_name": f"blocks.{layer}.hook_resid_post",
        "layer": layer,
        "sparsity": {"k": k},
        "seed": seed,
        "pair": f"layer-{layer}-k-{k}-seed-{seed}",
    }


def _score(metric: tuple[Any, ...], value: float) -> dict[str, Any]:
    name, key, label, direction, headline, _, noise = metric
    return {
        "eval": name,
        "metric": key,
        "label": label,
        "value": value,
        "direction": direction,
        "headline": headline,
        "chance": 0.5 if key == "ce_loss_score" else None,
        "control": None,
        "noise": noise,
        "spread": None,
        "note": "",
        "definition": f"What {label} means.",
    }


def _write_run(folder: Path) -> None:
    (folder / "sae").mkdir(parents=True)
    metadata = {"model_name": "a-model", "training_architecture": "topk"}
    write_json(folder / "sae" / "cfg.json", {"d_in": 12, "d_sae": 64, "metadata": metadata})
    (folder / "config.yaml").write_text("hook_name: blocks.1.hook_resid_post\nseed: 0\n")
    write_json(folder / "run.json", {"config": {"training_tokens": 1000}})
    steps = [
        {"details/n_training_samples": 100 * n, "metrics/explained_variance": 1 - 0.5**n}
        for n in range(1, 4)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))


def _write_held_out(folder: Path, arm: Mapping[str, Any], scores: list[dict[str, Any]]) -> None:
    gamma = [(0.2 * (q + 1)) ** arm["alpha"] for q in range(12)]
    spectrum = {
        "d_in": 12,
        "gamma": {"min": 0.2, "median": 1.3, "max": 2.4},
        "max_over_median": 1.85,
        "effective_dimensions": 7.25,
        "weighted_variance_share": {"top_1": 0.2, "top_5": 0.6, "top_10": 0.9},
        "concentrated": True,
        "top_dimensions": [],
    }
    mine = [score for score in scores if score["eval"] == "held_out"]
    ScoreFile(
        run=folder.name,
        scores=[Score(**score) for score in mine],
        held_out={
            **{"tokens": 4096, "batches": 4, "batch_size_prompts": 8, "context_size": 128},
            **{"seed": 0, "dataset": "a text"},
        },
        per_batch={
            s["metric"]: [s["value"] + change for change in (-0.1, 0.1, 0.05, -0.05)]
            for s in mine
            if s["metric"] == "explained_variance"
        },
        per_dimension={
            "variance": [1.0] * 12,
            "explained_variance": [0.5 + 0.01 * g for g in gamma[:-1]] + [None],
            "gamma": gamma,
        },
        spectrum=spectrum if arm["alpha"] else {},
    ).write(folder, "held_out")


def _write_bench(folder: Path, scores: list[dict[str, Any]]) -> None:
    ScoreFile(
        run=folder.name,
        scores=[Score(**score) for score in scores if score["eval"] != "held_out"],
        evals={"core": {"status": "done", "seconds": 1.5, "noise_seed": 1}},
        refused={"ravel": "needs Gemma"},
        versions={"sae-bench": "0.6.0"},
    ).write(folder, "saebench")


def write_optimality(run: Path, codes: float, **changes: Any) -> None:
    """scores/optimality.json of one run, as `wsae optimality` writes it: two lines.

    Args:
        run: Its folder.
        codes: What better codes recover, which is too much above 0.1.
        changes: Of the fields of the file.
    """
    own = {"eval": "optimality", "direction": "down", "spread": 0.008, "control": 0.02}
    scores = [
        Score(
            metric="codes", label="error that <codes> recover", value=codes, headline=True, **own
        ),
        Score(metric="prune", label="latents | that cost nothing", value=0.0, **own),
    ]
    action = "refine the <encoder> | or k" if codes > 0.1 else None
    lines = [
        {
            **{"name": score.metric, "value": score.value, "interval": score.spread},
            **{"control": score.control, "action": each},
        }
        for score, each in zip(scores, (action, None), strict=True)
    ]
    fields: dict[str, Any] = {
        **{"run": run.name, "scores": scores, "lines": lines, "samples": 20_000},
        **{"penalty": 0.5, "duality_gap": 3e-7},
        "settings": {"dataset": "a text", "penalty": None, "seed": 0},
    }
    OptimalityFile.model_validate(fields | changes).write(run, "optimality")
