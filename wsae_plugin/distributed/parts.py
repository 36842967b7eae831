"""A trainer's state, dealt out to processes and put together again: checkpoints are whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from sae_lens import TrainingSAE, TrainingSAEConfig
from sae_lens.saes.sae import SAEMetadata
from sae_lens.training.sae_trainer import SAETrainer
from torch import Tensor

from wsae_plugin.distributed.sae import SharedTrainingSAE
from wsae_plugin.distributed.shards import Shards
from wsae_plugin.distributed.world import World

_MOMENTS = ("exp_avg", "exp_avg_sq")
_OF_LATENTS = ("act_freq_scores", "n_forward_passes_since_fired")
_NUMBERS = (
    *("n_training_steps", "n_training_samples", "n_frac_active_samples"),
    "started_fine_tuning",
)


def config_of_part(
    cfg: TrainingSAEConfig, shards: Shards, place: int | None = None
) -> TrainingSAEConfig:
    """The config of an SAE of as many latents as a process has, by default this one."""
    d_sae = len(shards.latents(cfg.d_sae, place))
    # Which of them belong to a level, the whole SAE's widths say.
    levels = {"matryoshka_widths": [d_sae]} if hasattr(cfg, "matryoshka_widths") else {}
    return replace(cfg, d_sae=d_sae, **levels)


@dataclass(frozen=True)
class _Leaf:
    """A tensor of a whole state: its name, shape and dtype, and its dimension of latents."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    dim: int | None

    def of_part(self, latents: Tensor) -> tuple[int, ...]:
        """Its shape in the state of a process that has these latents."""
        if self.dim is None:
            return self.shape
        return (*self.shape[: self.dim], len(latents), *self.shape[self.dim + 1 :])


_State = tuple[dict[str, Tensor], dict[str, Any]]


@dataclass(frozen=True)
class Parts:
    """How one SAE's trainer is spread over processes.

    Args:
        world: All processes; the first has the whole while it is read or written.
        shards: Those that share the SAE.
        cfg: The whole SAE's config.
    """

    world: World
    shards: Shards
    cfg: TrainingSAEConfig

    @property
    def is_mine(self) -> bool:
        """Whether this process has a part of the SAE."""
        return self.world.rank in self.shards.ranks

    def part(self) -> TrainingSAE[Any]:
        """A new SAE for this process's latents."""
        sae: TrainingSAE[Any] = TrainingSAE.from_dict(
            config_of_part(self.cfg, self.shards).to_dict()
        )
        if isinstance(sae, SharedTrainingSAE):
            sae.share(self.shards, self.cfg)
        return sae

    def gather(self, part: SAETrainer[Any, Any] | None, whole: SAETrainer[Any, Any] | None) -> None:
        """Put the state of this SAE's processes together.

        Args:
            part: This process's trainer; None if it has none of the SAE.
            whole: On the first process the trainer that becomes whole, else None.
        """
        tensors, values = ({}, {}) if part is None else _state_of(part)
        teller = self.shards.ranks[0]
        is_teller = self.world.rank == teller
        leaves = [self._leaf(name, tensor) for name, tensor in tensors.items()]
        if whole is None:
            if is_teller:
                self.world.send_object((leaves, values), 0)
            for leaf in leaves:
                if leaf.dim is not None or is_teller:
                    self.world.send(tensors[leaf.name], 0)
            return
        if not is_teller:
            leaves, values = self.world.receive_object(teller)
        found = {leaf.name: self._put_together(leaf, tensors.get(leaf.name)) for leaf in leaves}
        _set_state(whole, found, values)

    def deal(self, part: SAETrainer[Any, Any] | None, whole: SAETrainer[Any, Any] | None) -> None:
        """Deal the first process's whole state out; the arguments are those of `gather`."""
        if whole is None:
            assert part is not None
            leaves, values = self.world.receive_object(0)
            mine = self.shards.latents(self.cfg.d_sae)
            found = {
                leaf.name: self.world.receive(leaf.of_part(mine), leaf.dtype, 0) for leaf in leaves
            }
            _set_state(part, found, values)
            return
        tensors, values = _state_of(whole)
        leaves = [self._leaf(name, tensor) for name, tensor in tensors.items()]
        for place, rank in enumerate(self.shards.ranks):
            latents = self.shards.latents(self.cfg.d_sae, place)
            pieces = (
                tensors[leaf.name]
                if leaf.dim is None
                else tensors[leaf.name].index_select(leaf.dim, latents)
                for leaf in leaves
            )
            if rank == 0:
                assert part is not None
                names = (leaf.name for leaf in leaves)
                _set_state(part, dict(zip(names, pieces, strict=True)), values)
                continue
            self.world.send_object((leaves, values), rank)
            for piece in pieces:
                self.world.send(piece, rank)

    def _leaf(self, name: str, tensor: Tensor) -> _Leaf:
        dim, shape = self._dims.get(name), list(tensor.shape)
        if dim is not None:
            shape[dim] = self.cfg.d_sae
        return _Leaf(name, tuple(shape), tensor.dtype, dim)

    @cached_property
    def _dims(self) -> dict[str, int]:
        """Of every tensor that has a dimension of latents, which it is."""
        # Some draw their weights on the CPU all the same, and not every process asks.
        with torch.random.fork_rng(devices=[]):
            whole, part = (
                TrainingSAE.from_dict(cfg.to_dict() | {"device": "meta"})
                for cfg in (self.cfg, config_of_part(self.cfg, self.shards, place=0))
            )
        shapes = {name: tensor.shape for name, tensor in part.state_dict().items()}
        dims = {
            name: [n != m for n, m in zip(tensor.shape, shapes[name], strict=True)].index(True)
            for name, tensor in whole.state_dict().items()
            if tensor.shape != shapes[name]
        }
        parameters = [name for name, _ in whole.named_parameters()]
        moments = {
            f"optimizer.{n}.{moment}": dims[name]
            for n, name in enumerate(parameters)
            for moment in _MOMENTS
            if name in dims
        }
        packed = {
            f"packed.{name}:{n}": 0
            for name, sizes in _packed(whole).items()
            for n in range(1, 1 + len(sizes))
        }
        of_sae = {f"sae.{name}": dim for name, dim in dims.items()}
        return of_sae | moments | packed | dict.fromkeys(_OF_LATENTS, 0)

    def _put_together(self, leaf: _Leaf, own: Tensor | None) -> Tensor:
        if leaf.dim is None:
            teller = self.shards.ranks[0]
            return self.world.receive(leaf.shape, leaf.dtype, teller) if own is None else own.cpu()
        whole = torch.empty(leaf.shape, dtype=leaf.dtype)
        for place, rank in enumerate(self.shards.ranks):
            latents = self.shards.latents(self.cfg.d_sae, place)
            if rank == self.world.rank:
                assert own is not None
                piece = own.cpu()
            else:
                piece = self.world.receive(leaf.of_part(latents), leaf.dtype, rank)
            whole.index_copy_(leaf.dim, latents, piece)
        return whole


def _state_of(trainer: SAETrainer[Any, Any]) -> _State:
    """All tensors of a trainer, packed ones in pieces, and what else SAELens saves of it."""
    sae: TrainingSAE[Any] = trainer.sae
    tensors = {f"sae.{name}": tensor for name, tensor in sae.state_dict().items()}
    for name, sizes in _packed(sae).items():
        head, *blocks = _unpacked(tensors.pop(f"sae.{name}"), sizes, sae.cfg.d_sae)
        tensors |= {f"packed.{name}:{n}": piece for n, piece in enumerate((head, *blocks))}
    optimizer = trainer.optimizer.state_dict()
    for index, state in optimizer["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    tensors |= {name: getattr(trainer, name) for name in _OF_LATENTS}
    scaler = trainer.activation_scaler
    values = {
        "numbers": {name: getattr(trainer, name) for name in _NUMBERS},
        "groups": optimizer["param_groups"],
        "lr_scheduler": trainer.lr_scheduler.state_dict(),
        "coefficients": {n: s.state_dict() for n, s in trainer.coefficient_schedulers.items()},
        # Another machine need not have the device that it is on.
        "scaler": (
            scaler.scaling_factor,
            scaler.whitening and scaler.whitening.to(torch.device("cpu")),
        ),
        "metadata": sae.cfg.metadata.to_dict(),
    }
    return {name: tensor.detach() for name, tensor in tensors.items()}, values


def _set_state(
    trainer: SAETrainer[Any, Any], tensors: Mapping[str, Tensor], values: Mapping[str, Any]
) -> None:
    sae: TrainingSAE[Any] = trainer.sae
    of_sae = _below("sae.", tensors)
    for name in _packed(sae):
        pieces = [piece for key, piece in tensors.items() if key.startswith(f"packed.{name}:")]
        of_sae[name] = torch.cat([piece.flatten() for piece in pieces])
    sae.load_state_dict(of_sae)
    sae.cfg.metadata = SAEMetadata.from_dict(values["metadata"])
    states: dict[int, dict[str, Tensor]] = {}
    for key, tensor in _below("optimizer.", tensors).items():
        index, _, name = key.partition(".")
        states.setdefault(int(index), {})[name] = tensor
    trainer.optimizer.load_state_dict({"state": states, "param_groups": values["groups"]})
    trainer.lr_scheduler.load_state_dict(values["lr_scheduler"])
    for name, state in values["coefficients"].items():
        trainer.coefficient_schedulers[name].load_state_dict(state)
    for name in _OF_LATENTS:
        setattr(trainer, name, tensors[name].to(trainer.cfg.device))
    for name, number in values["numbers"].items():
        setattr(trainer, name, number)
    scaler = trainer.activation_scaler
    scaler.scaling_factor, scaler.whitening = values["scaler"]


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}


def _packed(sae: TrainingSAE[Any]) -> dict[str, tuple[int, ...]]:
    """Buffers of bytes → bytes a latent of each of the blocks that they end with."""
    return {
        f"{name}.{buffer}": sizes
        for name, module in sae.named_modules()
        for buffer, sizes in getattr(module, "packed_latents", {}).items()
    }


def _unpacked(packed: Tensor, sizes: Sequence[int], n_latents: int) -> tuple[Tensor, ...]:
    """What comes before the blocks, and the blocks (n_latents, bytes)."""
    head, *blocks = packed.split(
        [len(packed) - n_latents * sum(sizes), *(n_latents * size for size in sizes)]
    )
    return head, *(block.view(n_latents, size) for block, size in zip(blocks, sizes, strict=True))
