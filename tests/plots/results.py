"""A demo.json with made-up numbers, as `wsae demo` writes it."""

from __future__ import annotations

from typing import Any

N_DIMENSIONS = 12


def score(value: float, spread: float = 0.01) -> dict[str, Any]:
    return {
        "value": value,
        "spread": spread,
        "interval": [value - spread, value + spread],
        "per_seed": [value - spread / 2, value + spread / 2],
        "per_batch": [value, value],
    }


def scores(shift: float, spread: float, own: str | None = None, own_shift: float = 0.0) -> Any:
    base = 0.0 if own is None else 0.8
    names = ("sae", "wsae-half", "wsae-one", "shuffled", "opposite")
    return {
        "explained_variance": score(base + shift, spread),
        "weighted_explained_variance": {
            name: score(base + (own_shift if name == own else shift), spread) for name in names
        },
        "explained_variance_by_weight": {
            "largest_quarter": score(base + own_shift, spread),
            "smallest_quarter": score(base + 2 * shift, spread),
        },
        "ce_loss_recovered": score(base + 0.001, spread),
        "ce_loss_with_sae": score(3.0, 0.05),
        "l0": score(16.0, 0.0),
    }


def arm(name: str, label: str, role: str, alpha: float, shift: float, own: float) -> Any:
    difference = scores(shift, 0.01)
    difference["weighted_explained_variance"][name] = score(own)
    return {
        "name": name,
        "label": label,
        "role": role,
        "alpha": alpha,
        "proxy": "variance",
        "scores": scores(shift, 0.01, own=name, own_shift=own),
        "difference": difference,
        "dead_latents": [3, 4],
        "explained_variance_per_dimension": [0.5 + q / 30 for q in range(N_DIMENSIONS - 1)]
        + [None],
        "gamma": [1.0 + alpha * q for q in range(N_DIMENSIONS)],
        "weighted_variance_share": [1 / N_DIMENSIONS] * N_DIMENSIONS,
        "spectrum": {
            "d_in": N_DIMENSIONS,
            "gamma": {"min": 0.5, "median": 1.0, "max": 2.0},
            "max_over_median": 2.0,
            "effective_dimensions": 7.25,
            "weighted_variance_share": {"top_1": 0.2, "top_5": 0.6, "top_10": 0.9},
            "concentrated": alpha == 1.0,
            "top_dimensions": [],
        },
        "learning_curve": {"training_tokens": [100, 200], "explained_variance": [0.2, 0.7]},
    }


def demo_result() -> dict[str, Any]:
    """α = 0.5 changes nothing beyond the spread; α = 1 gains 0.03 at home and loses 0.05."""
    return {
        "demo": 1,
        "seed": 0,
        "seeds": [0, 1],
        "versions": {"wsae-plugin": "0.1.0", "torch": "2.6"},
        "model": "a model with <angles>",
        "settings": {
            "hook_name": "layer.1",
            "d_in": N_DIMENSIONS,
            "d_sae": 64,
            "k": 16,
            "training_tokens": 1000,
            "batch_size": 10,
            "lr": 1e-3,
            "gamma_freeze_step": 5,
        },
        "held_out": {
            "tokens": 400,
            "batches": 2,
            "variance_per_dimension": [0.1 + q for q in range(N_DIMENSIONS)],
            "ce_loss": 2.5,
            "ce_loss_with_ablation": 7.0,
        },
        "arms": [
            arm("sae", "SAE, α = 0", "baseline", 0.0, 0.0, 0.0),
            arm("wsae-half", "WSAE, α = 0.5", "weighted", 0.5, -0.002, 0.004),
            arm("wsae-one", "WSAE, α = 1", "weighted", 1.0, -0.05, 0.03),
            arm("shuffled", "shuffled Γ, α = 1", "control", 1.0, -0.04, 0.02),
            arm("opposite", "opposite, α = −0.5", "control", -0.5, -0.001, 0.0),
        ],
        "wall_clock_seconds": {"training": 1.0, "evaluation": 2.0, "total": 3.0},
    }


def gamma_result() -> dict[str, Any]:
    """A gamma.json with one usable and one unusable Γ."""
    shares = [1 / N_DIMENSIONS] * N_DIMENSIONS
    return {
        "model": "a-model",
        "hook_name": "layer.1",
        "tokens": 4096,
        "gammas": [
            {
                "proxy": "variance",
                "alpha": 0.5,
                "gamma": [1.0] * N_DIMENSIONS,
                "weighted_variance_share": shares,
            },
            {"proxy": "kurtosis", "alpha": 1.0, "dead_dimensions": 12, "unusable": "all 0"},
        ],
    }
