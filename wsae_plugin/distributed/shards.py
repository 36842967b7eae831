"""The latents of one SAE, dealt out to several processes, and what takes all of them.

Every process has the whole batch and its own latents' weights. Sums over latents are added up over
the processes in the forward pass, and then every process knows the whole loss; the derivative by
its own latents needs no other's. What all have, b_dec, is counted once: the sum of its gradients
over the processes is the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from wsae_plugin.distributed.world import ALONE, World
from wsae_plugin.kernels.pattern import Pattern

_KEYS_AT_A_TIME = 2**23
_SPARE = 16
_PRODUCTS = (torch.Tensor.matmul, torch.Tensor.__matmul__, torch.matmul)
_NONE = torch.iinfo(torch.int64).min


class _Sum(torch.autograd.Function):
    @override
    @staticmethod
    def forward(ctx: Any, part: Tensor, shards: Shards) -> Tensor:  # noqa: ARG004  # pyright: ignore[reportIncompatibleMethodOverride]
        return shards.world.sum(part.clone(), shards.group, kind="reconstructions")

    @override
    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad, None


class _Decoding(TorchFunctionMode):
    """Adds a decoder's products up where SAELens offers no hook point for them."""

    def __init__(self, shards: Shards, W_dec: nn.Parameter, b_dec: nn.Parameter) -> None:
        super().__init__()
        self._shards, self._decoder, self._bias = shards, W_dec, b_dec

    @override
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _PRODUCTS and args[1] is self._decoder:
            # What SAELens adds next then has its derivative on the first process alone.
            shift = self._shards.once(self._bias) - self._bias
            return self._shards.sum(result) + shift
        return result


@dataclass(frozen=True)
class Shards:
    """Which latents of an SAE this process has: every size-th, from `place` on.

    Dealt out in turn, so that latents that fire much, the first of a Matryoshka SAE and of the
    groups of GBA, are everywhere. By default one process has all.

    Args:
        world: All processes.
        ranks: Of those that share the SAE, in order.
        group: The same for torch.distributed.
    """

    world: World = ALONE
    ranks: tuple[int, ...] = (0,)
    group: Any = None

    @property
    def size(self) -> int:
        """How many processes share the SAE."""
        return len(self.ranks)

    @property
    def place(self) -> int:
        """Which of those that share the SAE this process is, from 0."""
        return self.ranks.index(self.world.rank)

    def latents(self, d_sae: int, place: int | None = None) -> Tensor:
        """The latents of a process, by default of this one, of so many in all."""
        return torch.arange(self.place if place is None else place, d_sae, self.size)

    def sum(self, part: Tensor) -> Tensor:
        """Σ over the processes, whose derivative by this one's part is 1."""
        return part if self.size == 1 else _Sum.apply(part, self)  # type: ignore[return-value]

    def sum_of_counts(self, counts: Tensor) -> Tensor:
        """Σ over the processes of what has no derivative."""
        return counts if self.size == 1 else self.world.sum(counts.clone(), self.group)

    def smallest(self, value: Tensor) -> Tensor:
        """The smallest over the processes, element by element."""
        return value if self.size == 1 else self.world.smallest(value.clone(), self.group)

    def once(self, shared: Tensor) -> Tensor:
        """What all processes have, with a derivative on the first of them alone."""
        return shared if self.place == 0 else shared.detach()

    def whole(self, part: Tensor) -> Tensor:
        """What every process has of its own latents (n, …), of all of them in order."""
        if self.size == 1:
            return part
        n = int(self.sum_of_counts(torch.tensor(len(part), device=part.device)))
        padded = part.new_zeros(-(-n // self.size), *part.shape[1:])
        padded[: len(part)] = part
        everyones = self.world.gather(padded, self.group, kind="decoder")
        return everyones.transpose(0, 1).flatten(0, 1)[:n]

    def decoding(self, W_dec: nn.Parameter, b_dec: nn.Parameter) -> AbstractContextManager[Any]:
        """While entered, a product with W_dec is added up; b_dec is what SAELens adds to it."""
        return nullcontext() if self.size == 1 else _Decoding(self, W_dec, b_dec)

    def top_k(self, scores: Tensor, latents: Tensor, k: int, n_latents: int) -> Pattern:
        """Of candidates of every row, those that are among the top k of all processes.

        Args:
            scores: (batch, m), with all that could be among them.
            latents: Which of this process's they are, (batch, m).
            k: How many of each row; ties go to the latent that comes first.
            n_latents: How many this process has.
        """
        keys = _keys(scores, latents * self.size + self.place)
        is_chosen = keys >= self._lowest_of(keys, k)
        rows, places = is_chosen.nonzero(as_tuple=True)
        return Pattern.of_entries(rows, latents[rows, places], len(scores), n_latents)

    def top_k_values(self, values: Tensor, scores: Tensor, k: int) -> Tensor:
        """`values` (batch, n) where `scores` are among the k highest of their row, 0 elsewhere."""
        columns = torch.arange(scores.shape[1], device=scores.device) * self.size + self.place
        keys = _keys(scores, columns.expand_as(scores))
        m = min(k, scores.shape[1])
        candidates = keys.topk(m, dim=-1, sorted=False).values
        return torch.where(keys >= self._lowest_of(candidates, k), values, 0)

    def batch_top_k(
        self, scores: Tensor, rows: Tensor, latents: Tensor, total: int, d_sae: int
    ) -> Tensor:
        """Which of the candidates (n,) of a batch are among the `total` highest of all processes.

        Args:
            scores: (n,), positive, with all that could be among them.
            rows: Theirs.
            latents: Which of this process's they are.
            total: How many; ties go to the first row, and in it to the latent that comes first.
            d_sae: Latents of all processes.
        """
        keys = _keys(scores, rows * d_sae + latents * self.size + self.place)
        return keys >= self._lowest_of(keys[None], total)[0]

    def _lowest_of(self, keys: Tensor, k: int) -> Tensor:
        """The k-th highest key of every row over the processes, (batch, 1); none if too few."""
        lowest: list[Tensor] = []
        for rows in keys.split(max(1, _KEYS_AT_A_TIME // (k * self.size))):
            first, is_sure = self._lowest_of_first(rows, k, n_candidates(k, self.size))
            if not is_sure.all():
                first[~is_sure], _ = self._lowest_of_first(rows[~is_sure], k, k)
            lowest.append(first)
        # Where there are fewer, all are chosen, and the padding is none of them.
        return torch.cat(lowest).clamp(min=_NONE + 1)

    def _lowest_of_first(self, keys: Tensor, k: int, m: int) -> tuple[Tensor, Tensor]:
        """The same from the m highest of each process, and where no other key can change it.

        All processes know the same, so that they agree on what is left to do.
        """
        padded = keys.new_full((len(keys), m), _NONE)
        best = keys.topk(min(m, keys.shape[1]), dim=-1, sorted=False).values
        padded[:, : best.shape[1]] = best
        everyones = self.world.gather(padded, self.group, kind="candidates")
        lowest = everyones.transpose(0, 1).flatten(1).topk(k, dim=-1, sorted=False).values
        lowest = lowest.amin(-1, keepdim=True)
        # A process whose last one is still among the highest may have more of them.
        has_more = (everyones.amin(-1) >= lowest.T.clamp(min=_NONE + 1)).any(0)
        return lowest, ~has_more if m < k else torch.ones_like(has_more)

    def clip(self, parameters: Iterable[nn.Parameter], shared: nn.Parameter, limit: float) -> None:
        """Complete the gradients after a backward pass, and clip them by the norm of all.

        SAELens clips by the norm of what it sees, which is then below the limit already.

        Args:
            parameters: Of this process, `shared` among them.
            shared: What all processes have, of whose gradient this is one part.
            limit: The largest norm allowed.
        """
        trained = [p for p in parameters if p.grad is not None]
        assert shared.grad is not None
        self.world.sum(shared.grad, self.group)
        own = [p.grad for p in trained if p is not shared and p.grad is not None]
        square = get_total_norm(own).square().float()
        square = self.world.sum(square, self.group) + get_total_norm([shared.grad]).square()
        clip_grads_with_norm_(trained, limit, square.sqrt())


def n_candidates(k: int, n: int) -> int:
    """How many of the k highest each of n processes shows the others at first.

    Latents are dealt out in turn, so that all have about as many of them.
    """
    return min(k, -(-2 * k // n) + _SPARE)


def after_backward(loss: Tensor, act: Callable[[], None]) -> None:
    """Do something when the backward pass of a loss is over, before anyone reads gradients."""

    def when_over(_: Tensor) -> None:
        # As torch's own FSDP does it; there is no public way.
        engine: Any = torch.autograd.Variable._execution_engine  # pyright: ignore
        engine.queue_callback(act)

    loss.register_hook(when_over)


def _keys(scores: Tensor, order: Tensor) -> Tensor:
    """Integers in the order of the scores, to float32, and where these are alike of `order`.

    So all processes draw the same line between them. Numbers in `order` may be alike from 2³² on.
    """
    bits = scores.float().view(torch.int32).long()
    # The magnitude of negative numbers rises with their bits.
    ordered = torch.where(bits >= 0, bits, -(bits & 0x7FFFFFFF))
    return (ordered << 32) - (order & 0xFFFFFFFF)
