"""The processes of one training: what they tell each other, and how they end together."""

from __future__ import annotations

import atexit
import re
import signal
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from wsae_plugin.distributed.launch import number
from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.messages import one_line

_T = TypeVar("_T")
_CAUSE, _TRACEBACK, _SPEAKERS = "wsae/cause", "wsae/traceback", "wsae/speakers"
_SECONDS_FOR_CAUSE = 5
"""A process that fails says why before its peers can notice; one that is killed says nothing."""


class PeerLostError(RunFailedError):
    """Another process did not answer: it failed, was killed, or cannot be reached."""


@dataclass(frozen=True)
class World:
    """The processes that train together, each of which has a rank; one alone by default.

    What exchanges something is collective: all processes call it, in the same order.

    Args:
        rank: Of this process, from 0.
        size: How many there are.
        store: Where processes say why they fail; None for one alone.
        timeout: Seconds that one waits for another.

    Attributes:
        bytes_given: Kind of exchange → bytes of the tensors that this process has given to it.
    """

    rank: int = 0
    size: int = 1
    store: Any = None
    timeout: float = 0.0
    bytes_given: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def group(self, ranks: Sequence[int]) -> Any:
        """A group of some of the processes; None for the whole world."""
        if len(ranks) == self.size:
            return None
        # Torch would give it half an hour, whatever the world has.
        return self._call(dist.new_group, [*ranks], timeout=timedelta(seconds=self.timeout))

    def sum(self, tensor: Tensor, group: Any = None, kind: str = "sum") -> Tensor:
        """Add up `tensor` over a group, in place, in the same order everywhere."""
        self._count(kind, tensor)
        self._call(dist.all_reduce, tensor, group=group)
        return tensor

    def smallest(self, tensor: Tensor, group: Any = None) -> Tensor:
        """Replace `tensor` by the smallest over a group, element by element."""
        self._call(dist.all_reduce, tensor, op=dist.ReduceOp.MIN, group=group)
        return tensor

    def gather(self, tensor: Tensor, group: Any = None, kind: str = "gather") -> Tensor:
        """The tensors of a group's processes, of one shape, one after the other: (size, …)."""
        self._count(kind, tensor)
        size = dist.get_world_size(group)
        everyones = tensor.new_empty(size, *tensor.shape)
        self._call(dist.all_gather, [*everyones], tensor.contiguous(), group=group)
        return everyones

    def exchange(self, rows: Tensor, counts: Sequence[int]) -> list[Tensor]:
        """The rows (n, d) of every process, of which each has as many as `counts` says."""
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        everyones = self.gather(padded, kind="activations")
        return [part[:n] for part, n in zip(everyones, counts, strict=True)]

    def tell(self, value: _T) -> _T:
        """What the first process gives, on all of them."""
        if self.size == 1:
            return value
        said: list[Any] = [value]
        self._call(dist.broadcast_object_list, said)
        return said[0]

    def hear(self) -> Any:
        """Wait, on another than the first process, for what that one tells."""
        return self.tell(None)

    def collect(self, value: _T) -> list[_T]:
        """What each process gives, in the order of the ranks, on all of them."""
        if self.size == 1:
            return [value]
        said: list[Any] = [None] * self.size
        self._call(dist.all_gather_object, said, value)
        return said

    def first_signal(self, name: str | None) -> str | None:
        """A signal that any of the processes got, by its name; None where none did."""
        if self.size == 1:
            return name
        highest = torch.tensor(signal.Signals[name].value if name else 0)
        self._call(dist.all_reduce, highest, op=dist.ReduceOp.MAX)
        return signal.Signals(int(highest)).name if highest else None

    def send(self, tensor: Tensor, to: int) -> None:
        """Hand a tensor to one process, which calls `receive`."""
        self._count("checkpoint", tensor)
        self._call(dist.send, tensor.detach().cpu().contiguous(), to)

    def receive(self, shape: Sequence[int], dtype: torch.dtype, sender: int) -> Tensor:
        """The tensor that one process sends, on the CPU."""
        tensor = torch.empty(tuple(shape), dtype=dtype)
        self._call(dist.recv, tensor, sender)
        return tensor

    def send_object(self, value: Any, to: int) -> None:
        """Hand something to one process, which calls `receive_object`."""
        self._call(dist.send_object_list, [value], to)

    def receive_object(self, sender: int) -> Any:
        """What one process sends."""
        said: list[Any] = [None]
        self._call(dist.recv_object_list, said, sender)
        return said[0]

    def _count(self, kind: str, tensor: Tensor) -> None:
        self.bytes_given[kind] = self.bytes_given.get(kind, 0) + tensor.nbytes

    def _call(self, function: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
        try:
            return function(*args, **kwargs)
        except RuntimeError as error:  # what every backend raises, of several types
            raise PeerLostError(f"{function.__name__}: {_reason(error)}") from error

    def fail(self, error: BaseException) -> BaseException:
        """Say once, of all processes, why they end.

        Returns:
            What to raise: the cause, or a silent exit where another process says it.
        """
        if self.size == 1 or isinstance(error, SystemExit):
            return error
        if not isinstance(error, PeerLostError):
            self._say(one_line(error) or type(error).__name__, error)
        elif not self._is_said():
            self._say(
                f"a process of {self.size} was lost, as when it is killed, or did not answer "
                f"within distributed.timeout = {self.timeout:g} s: {error}",
                error,
            )
        # Whoever comes first speaks; a store that is gone leaves everyone to himself.
        silent = SystemExit(2 if isinstance(error, BadInputError) else 1)
        try:
            if self.store.add(_SPEAKERS, 1) > 1:
                return silent
            if isinstance(error, PeerLostError):
                return RunFailedError(self.store.get(_CAUSE).decode())
        except RuntimeError:
            return silent if self.rank > 1 else error
        return error

    def first_traceback(self) -> str:
        """Where the first process that failed did so, on one that lost it; empty if unknown."""
        with suppress(RuntimeError):
            if self._is_said():
                return self.store.get(_TRACEBACK).decode()
        return ""

    def _say(self, cause: str, error: BaseException) -> None:
        told = "".join(traceback.format_exception(error))
        with suppress(RuntimeError):
            # Before the cause, which tells others that both are there.
            self.store.compare_set(_TRACEBACK, "", told)
            self.store.compare_set(_CAUSE, "", cause)

    def _is_said(self) -> bool:
        with suppress(RuntimeError):
            self.store.wait([_CAUSE], timedelta(seconds=_SECONDS_FOR_CAUSE))
            return True
        return False


ALONE = World()

_met: list[World] = []
_inside: list[World] = []


@contextmanager
def together(timeout: float) -> Generator[World]:
    """The processes that `torchrun` started, which end together; this one alone without it.

    Args:
        timeout: Seconds that a process waits for another before it gives up.

    Yields:
        The world, in which every rank has a GPU of its own where there are any.

    Raises:
        RunFailedError: A process failed or was lost; on one of them. The others exit.
    """
    world = _meet(timeout)
    _inside.append(world)
    try:
        yield world
    except BaseException as error:
        if len(_inside) > 1:  # whoever entered first says it
            raise
        raised = world.fail(error)
        if raised is error:
            raise
        raise raised from None
    finally:
        _inside.pop()


def _meet(timeout: float) -> World:
    size = number("WORLD_SIZE", 1)
    if size == 1:
        return ALONE
    if not _met:
        patience = timedelta(seconds=timeout)
        if (n := number("LOCAL_RANK")) < torch.cuda.device_count():
            torch.cuda.set_device(n)
        try:
            store, rank, size = next(rendezvous("env://", timeout=patience))
            dist.init_process_group(
                store=PrefixStore("wsae", store), rank=rank, world_size=size, timeout=patience
            )
        except (ValueError, TypeError, OverflowError) as error:
            raise BadInputError(
                f"WORLD_SIZE = {size}: {one_line(error)}; start processes with torchrun"
            ) from error
        except RuntimeError as error:
            raise RunFailedError(
                f"{size} processes have not met within {timeout:g} s: {one_line(error)}; is "
                "each started, and does every machine reach the one that --rdzv-endpoint names?"
            ) from error
        atexit.register(dist.destroy_process_group)
        _met.append(World(rank, size, store, timeout))
    return _met[0]


def _reason(error: BaseException) -> str:
    """The first sentence of what a backend says, without the place in its source."""
    return re.sub(r"^\[[^\]]*\] ", "", one_line(error)).split(". ")[0]
