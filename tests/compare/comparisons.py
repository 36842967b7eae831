"""Comparisons so small that one takes seconds, shared by the tests of `wsae compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.training.tiny import BATCH, TinyWorld, sae, write_config
from wsae_plugin.compare.manifest import Comparison
from wsae_plugin.compare.plan import load_comparison_config
from wsae_plugin.compare.run import run_comparison

HOOKS = ["blocks.0.hook_resid_post", "blocks.1.hook_resid_post"]


def small(world: TinyWorld, **changes: Any) -> dict[str, Any]:
    """Two arms at one hook, two seeds, ten steps; a field changed to None is left out."""
    values: dict[str, Any] = {
        "model_name": str(world.model),
        "dataset_path": str(world.texts),
        "context_size": 32,
        "store_batch_size_prompts": 4,
        "n_batches_in_buffer": 8,
        "training_tokens": 10 * BATCH,
        "train_batch_size_tokens": BATCH,
        "lr": 1e-3,
        "hooks": HOOKS[1:],
        "sae": sae(alpha=None, k=None, gamma_freeze_step=5),
        "sparsity": {"k": [4]},
        "seeds": [0, 1],
        "baseline": "sae",
        "arms": {"sae": {"alpha": 0}, "alpha-1": {"alpha": 1}},
    }
    return {name: value for name, value in (values | changes).items() if value is not None}


def run(
    folder: Path,
    values: dict[str, Any],
    overrides: tuple[str, ...] = (),
    output: str = "comparison",
    **kwargs: Any,
) -> Comparison:
    path = write_config(folder / "compare.yaml", values)
    return run_comparison(load_comparison_config(path, overrides), folder / output, **kwargs)
