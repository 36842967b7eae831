"""Processes that find each other as those of torchrun do, forked from one that is warm."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore


@dataclass(frozen=True)
class Processes:
    """Those of one launch, by rank.

    Args:
        ranks: The processes.
        logs: What each writes to stdout and stderr.
        store: Through which they find each other.
    """

    ranks: list[BaseProcess]
    logs: list[Path]
    store: TCPStore

    def end(self, within: float = 120) -> list[int | None]:
        """Exit codes; None for one that is not gone in time, which is then killed."""
        deadline = time.monotonic() + within
        for process in self.ranks:
            process.join(max(0.0, deadline - time.monotonic()))
        codes = [process.exitcode for process in self.ranks]
        for process in self.ranks:
            process.kill()
        return codes

    def said(self) -> str:
        """What all of them wrote, without progress bars."""
        text = "\n".join(log.read_text() for log in self.logs).replace("\r", "\n")
        return "\n".join(line for line in text.splitlines() if "%|" not in line)

    def errors(self) -> list[str]:
        """The errors that all of them told a user."""
        return [line for line in self.said().splitlines() if line.startswith("wsae: ")]


def start(n: int, folder: Path, target: Callable[..., object], *arguments: Any) -> Processes:
    """Call `target` in n processes, each with torchrun's variables and a log in `folder`."""
    # As torchrun's agent has it, which outlives the processes.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    folder.mkdir(parents=True, exist_ok=True)
    logs = [folder / f"rank-{rank}.log" for rank in range(n)]
    processes = [
        _context().Process(target=_run, args=(rank, n, store.port, logs[rank], target, arguments))
        for rank in range(n)
    ]
    for process in processes:
        process.start()
    return Processes(processes, logs, store)


def wsae(*arguments: str | Path) -> None:
    """The command line, with these arguments."""
    from wsae_plugin.cli import main

    sys.argv = ["wsae", *map(str, arguments)]
    main()


@cache
def _context() -> Any:
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["wsae_plugin.training.train", "wsae_plugin.compare.run"])
    return context


def _run(
    rank: int, size: int, port: int, log: Path, target: Callable[..., object], arguments: Any
) -> None:
    import torch

    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    try:
        target(*arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
