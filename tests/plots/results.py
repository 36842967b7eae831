"""A gamma.json with made-up numbers, as `wsae gamma` writes it."""

from __future__ import annotations

from typing import Any

N_DIMENSIONS = 12


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
                "gamma": [1.0 + q for q in range(N_DIMENSIONS)],
                "weighted_variance_share": shares,
            },
            {"proxy": "kurtosis", "alpha": 1.0, "dead_dimensions": 12, "unusable": "all 0"},
        ],
    }
