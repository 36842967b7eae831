"""Runs that several processes make together, of every architecture on every source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.training.tiny import BATCH, TinyWorld

D_SAE = 67
"""A width that neither two processes nor four divide."""

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "standard": {"l1_coefficient": 0.5, "l1_warm_up_steps": 5},
    "gated": {"l1_coefficient": 0.5},
    "jumprelu": {
        "l0_coefficient": 0.5,
        "jumprelu_bandwidth": 0.5,
        "pre_act_loss_coefficient": 1e-3,
    },
    "topk": {"k": 4},
    "batchtopk": {"k": 4},
    "matryoshka_batchtopk": {"k": 4, "matryoshka_widths": [10, 30, D_SAE]},
}


GBA = {"n_groups": 3, "bias_update_steps": 5, "lowest_target_frequency": 0.02}


def section(architecture: str, **changes: Any) -> dict[str, Any]:
    """The section of an SAE of uneven width, weighted where it can be."""
    common = {"d_in": 32, "d_sae": D_SAE}
    if architecture == "gba":
        return {"architecture": "gba", **GBA, **common, **changes}
    fields = {"alpha": 0.5, **ARCHITECTURES[architecture]}
    return {"architecture": f"weighted_{architecture}", **common, **fields, **changes}


def sources(world: TinyWorld, n_steps: int, **changes: Any) -> dict[str, dict[str, Any]]:
    """Kind of source → config of a run of so many steps, without its SAE."""
    common = {"lr": 1e-3, "dead_feature_window": 5, "n_checkpoints": 1}
    common |= {"logger": {"wandb_log_frequency": 1}, **changes}
    n_samples = {"training_samples": n_steps * BATCH}
    return {
        "language_model": world.language_model(
            training_tokens=n_steps * BATCH, exclude_special_tokens=True, **common
        ),
        "table": world.table(**n_samples, **common),
        "synthetic": world.synthetic(**n_samples, eval_samples=0, **common),
    }


def cases(world: TinyWorld, n_steps: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name → whole config, of every architecture on every source."""
    for kind, config in sources(world, n_steps).items():
        for architecture in (*ARCHITECTURES, "gba"):
            # A pre-activation that comes within rounding of its threshold changes sides, and with
            # it the loss; at this rate none does within 200 steps.
            rate = {"lr": 3e-4} if architecture == "jumprelu" else {}
            yield f"{kind}-{architecture}", config | rate | {"sae": section(architecture)}
