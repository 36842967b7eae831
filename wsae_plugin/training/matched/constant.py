"""The scale of a literal Γ, estimated before training, for the control Γ = cI."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor
from tqdm.auto import tqdm

from wsae_plugin.gamma import GammaScheduler
from wsae_plugin.gamma.proxies import no_decoder
from wsae_plugin.sources import activations_of
from wsae_plugin.training.config import RunConfig
from wsae_plugin.training.matched.plan import Group


def constant_proxy(batches: Iterable[Tensor], controlled: dict[str, Any]) -> Tensor:
    """The constant s with s^α = c, where c² is the mean γ² of the literal Γ.

    Γ = cI then changes the scale of the loss as the literal Γ does, and nothing else: the literal Γ
    is c times the Γ whose mean γ² is 1.

    Args:
        batches: Activations, each (batch, d_in), from which the literal Γ would be estimated.
        controlled: The `sae:` section of the arm with the literal Γ.

    Returns:
        s, shape (d_in,), float64.
    """
    d_in, alpha = controlled["d_in"], controlled["alpha"]
    scheduler = GammaScheduler(
        d_in,
        controlled["d_sae"],
        proxy=controlled["gamma_proxy"],
        normalization="none",
        clip=controlled["gamma_clip"],
        freeze_step=None,
        file=controlled["gamma_file"],
        seed=controlled["gamma_seed"],
        dtype=torch.float64,
    )
    for step, batch in enumerate(batches):
        scheduler.update(step, alpha, batch.cpu(), decoder=no_decoder)
    scale = float(scheduler.gamma.square().mean().sqrt())
    return torch.full((d_in,), scale ** (1 / alpha), dtype=torch.float64)


def write_constants(config: RunConfig, group: Group, output: Path) -> None:
    """Write the `gamma_file` of every constant control in a group that has none yet.

    The batches are the first `gamma_freeze_step` of the data: training's own first ones, unless
    SAELens takes some ahead of them to estimate norms or a whitening.

    Args:
        config: The group's.
        group: The group.
        output: The comparison folder.

    Raises:
        BadInputError: The model, a hook or the data set is not as asked.
    """
    known: dict[tuple[str, str | None], Tensor] = {}
    for run in group.runs:
        file = run.gamma_file(output)
        if run.arm.control != "constant" or file.exists():
            continue
        key = (run.hook_name, run.arm.of)
        if key not in known:
            known[key] = _estimate(config.alone(f"{run.cell}-{run.arm.of}"))
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.tmp")
        partial.write_bytes(save({"proxy": known[key]}))
        partial.replace(file)


def _estimate(config: RunConfig) -> Tensor:
    controlled = config.values["sae"]
    n_batches = min(controlled["gamma_freeze_step"], config.n_steps)
    batches = activations_of(config.runner_config())
    torch.manual_seed(config.seed)
    bar = tqdm(
        islice(batches, n_batches), f"Scale at {config.values['hook_name']}", total=n_batches
    )
    return constant_proxy(bar, controlled)
