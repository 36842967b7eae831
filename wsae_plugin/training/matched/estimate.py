"""How large a comparison will be, before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wsae_plugin.training.estimate import MemoryEstimate, estimate
from wsae_plugin.training.matched.config import ComparisonConfig
from wsae_plugin.training.matched.plan import group_config, plan


@dataclass(frozen=True)
class ComparisonEstimate:
    """What a comparison will do. How long that takes is not known before it is measured.

    Args:
        n_runs: SAEs to train.
        n_groups: Training runs, each with one pass of the language model.
        n_steps: Steps of each.
        n_samples: Tokens of each, counting the last batch whole.
        buffer_tokens: Tokens in SAELens's mixing buffer.
        memory: Of the largest group; one is trained at a time.
    """

    n_runs: int
    n_groups: int
    n_steps: int
    n_samples: int
    buffer_tokens: int
    memory: MemoryEstimate


def estimate_comparison(config: ComparisonConfig) -> ComparisonEstimate:
    """Count SAEs, steps, tokens and bytes.

    Raises:
        BadInputError: SAELens or the plugin refuses to build one of the SAEs.
    """
    groups = plan(config)
    of_one_seed = [group for group in groups if group.seed == config.seeds[0]]
    estimates = [estimate(group_config(config, group, Path())) for group in of_one_seed]
    largest = max(estimates, key=lambda estimate: estimate.memory.total)
    return ComparisonEstimate(
        n_runs=sum(len(group.runs) for group in groups),
        n_groups=len(groups),
        n_steps=largest.n_steps,
        n_samples=largest.n_samples,
        buffer_tokens=largest.buffer_tokens,
        memory=largest.memory,
    )
