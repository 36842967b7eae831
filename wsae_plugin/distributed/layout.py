"""Which process trains what: the section `distributed` of a config, and the grid that it makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import torch
from annotated_types import Ge, Le
from sae_lens import TrainingSAEConfig

from wsae_plugin.distributed.launch import number
from wsae_plugin.distributed.shards import Shards
from wsae_plugin.distributed.world import World
from wsae_plugin.errors import BadInputError
from wsae_plugin.validation import dotted

if TYPE_CHECKING:
    from wsae_plugin.training.config import RunConfig


@dataclass(frozen=True)
class Distributed:
    """The section `distributed` of a config.

    Args:
        latents: Over how many processes the latents of each SAE are dealt out. By default over all
            that `saes` leaves.
        saes: Over how many groups of processes the SAEs of a run are dealt out; 1 by default.
        timeout: Seconds that a process waits for another before all give up.
    """

    latents: Annotated[int, Ge(1)] | None = None
    saes: Annotated[int, Ge(1)] | None = None
    timeout: Annotated[float, Ge(1), Le(10**6)] = 600.0

    @property
    def n_processes(self) -> int:
        """How many there are, as far as the section says; those that were started may be more."""
        return max(number("WORLD_SIZE", 1), (self.latents or 1) * (self.saes or 1))

    def grid(self, size: int, n_saes: int) -> tuple[int, int]:
        """How many groups of processes there are, and how many processes a group has.

        Args:
            size: Of the world.
            n_saes: SAEs of the run.

        Raises:
            BadInputError: So many processes cannot be laid out so.
        """
        if size == 1:  # as when a run of several goes on with one
            return 1, 1
        groups = self.saes or max(1, size // (self.latents or size))
        each = self.latents or max(1, size // groups)
        if groups * each != size:
            raise BadInputError(
                f"distributed: saes = {groups} times latents = {each} is {groups * each}, and "
                f"there are {size} processes; start {groups * each} with torchrun "
                "--nproc-per-node, or --set distributed={} for all latents over all"
            )
        if groups > n_saes:
            asked = f"saes = {groups}" if self.saes else f"latents = {self.latents}"
            raise BadInputError(
                f"distributed.{asked}: makes {groups} groups of the {size} processes, and each "
                f"needs an SAE, of which the run has {n_saes}; --set distributed={{}} deals all "
                "latents out over all"
            )
        return groups, each


def ranks_of(config: RunConfig, size: int) -> dict[str, tuple[int, ...]]:
    """SAE name → which of so many processes share it.

    Raises:
        BadInputError: See `Distributed.grid`, or something cannot be shared.
    """
    saes = config.sae_configs()
    n_groups, each = config.distributed.grid(size, len(saes))
    if size > 1:
        _refuse_fields(config.values)
    for path, cfg in zip(config.sae_sections, saes.values(), strict=True):
        if each > 1:
            _refuse_sae(path, cfg, each)
    first = {name: n % n_groups * each for n, name in enumerate(saes)}
    return {name: tuple(range(rank, rank + each)) for name, rank in first.items()}


def shards_of(config: RunConfig, world: World) -> dict[str, Shards]:
    """SAE name → the processes that share it; collective.

    Raises:
        BadInputError: See `ranks_of`.
    """
    ranks = ranks_of(config, world.size)
    # Every process takes part in making every group, in one order.
    shards = {
        group: Shards(world, group, world.group(group) if world.size > 1 else None)
        for group in dict.fromkeys(ranks.values())
    }
    return {name: shards[group] for name, group in ranks.items()}


def refuse_differences(mine: Mapping[str, Any], world: World, what: str) -> None:
    """Refuse that a process has another config or other data than the first; collective.

    Raises:
        BadInputError: The message names the process and the field.
    """
    first, *others = map(dotted, world.collect(mine))
    for rank, other in enumerate(others, start=1):
        if differing := [n for n in {**first, **other} if other.get(n) != first.get(n)]:
            name = differing[0]
            raise BadInputError(
                f"{name} = {other.get(name)!r} in the {what} of process {rank}, and "
                f"{first.get(name)!r} in that of process 0; give all the same"
            )


def _refuse_fields(values: Mapping[str, Any]) -> None:
    for name, why in _NOT_SHARED.items():
        if values.get(name):
            raise BadInputError(f"{name} = {values[name]!r}: {why}")
    n_here, n_gpus = number("LOCAL_WORLD_SIZE", 1), torch.cuda.device_count()
    if str(values["device"]).startswith("cuda") and n_here > n_gpus:
        raise BadInputError(
            f"device = {values['device']!r}: this machine has {n_gpus} GPUs for {n_here} "
            f"processes; start {n_gpus} with torchrun --nproc-per-node"
        )
    for name in ("device", "act_store_device", "llm_device"):
        if str(values.get(name)).startswith("cuda:"):
            raise BadInputError(
                f"{name} = {values[name]!r}: every process has a GPU of its own; set it to 'cuda'"
            )


def _refuse_sae(path: str, cfg: TrainingSAEConfig, n: int) -> None:
    """Refuse an SAE whose step needs all latents where nothing brings them together."""
    if cfg.architecture() not in _SHARED:
        raise BadInputError(
            f"{path}.architecture = {cfg.architecture()!r}: cannot be dealt out to {n} processes; "
            f"those that can are {', '.join(_SHARED)}; others go whole to processes of their own, "
            "with distributed.latents: 1 and distributed.saes"
        )
    if cfg.d_sae < n:
        raise BadInputError(f"{path}.d_sae = {cfg.d_sae}: is less than the {n} processes")
    for name, allowed in _SHARED_WITH.items():
        value = getattr(cfg, name, allowed[0])
        if value not in allowed:
            said = " or ".join(map(repr, allowed))
            raise BadInputError(
                f"{path}.{name} = {value!r}: needs all latents in one place, and {n} processes "
                f"share them; set it to {said}, or distributed.latents to 1"
            )


_NOT_SHARED = {
    "prefetch_llm_batches": "draws batches while others wait for them; set it to 0",
    "compile_sae": "compiles nothing that several processes add up; leave it out",
}
_SHARED = (
    *("weighted_standard", "weighted_gated", "weighted_jumprelu", "weighted_topk"),
    *("weighted_batchtopk", "weighted_matryoshka_batchtopk", "gba"),
)
_SHARED_WITH: Mapping[str, tuple[Any, ...]] = {
    "kernel": ("auto", "reference", "cpu", "triton"),
    "use_matryoshka_aux_loss": (False,),
    "lp_norm": (1.0,),
    "jumprelu_sparsity_loss_mode": ("step", "tanh"),
    "normalize_activations": ("none", "expected_average_only_in", "covariance_whitening"),
}
