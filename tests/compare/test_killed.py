"""A comparison that is killed with SIGKILL, again and again, ends as if nothing had happened."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.compare.comparisons import HOOKS, small
from tests.training.tiny import BATCH, TinyWorld, write_config

N_STEPS = 60
_OF_THE_CLOCK = {"command", "started", "ended", "resumed_from", "wall_clock_seconds"}


class Blow(NamedTuple):
    """SIGKILL as Python is about to do something to a path: `event` is one of its audit events."""

    event: str
    path: str
    """A part of it."""
    nth: int = 1


BLOWS = (
    Blow("open", "seed-0/metrics.jsonl"),  # before there is a checkpoint
    Blow("os.rename", "seed-0/checkpoints/."),
    Blow("os.rename", "seed-0/checkpoints/.", nth=2),
    None,
    Blow("os.mkdir", "seed-0/.saes.partial/", nth=3),
    Blow("os.rename", "seed-0/.saes.partial"),
    Blow("shutil.copytree", "/.layer-0-k-4-constant-seed-0.partial/"),
    Blow("os.rename", "/runs/", nth=4),
    Blow("os.rename", "manifest.json"),  # every run is there, none is listed
    Blow("shutil.rmtree", "seed-0/saes"),
    Blow("os.mkdir", "groups/seed-1"),
    Blow("os.rename", "seed-1/run.json"),
    None,
    None,
    Blow("os.rename", "manifest.json", nth=2),
)
"""One after the other, each in a process that went on from the one before; None is at random."""


def _wsae(folder: Path, blow: Blow | None, *arguments: str) -> None:
    """The command line, in a process forked from one that has imported everything."""
    from wsae_plugin.cli import main

    os.chdir(folder)
    with (folder / "log").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    if blow is not None:
        _die_at(blow)
    sys.argv = ["wsae", *arguments]
    main()


def _die_at(blow: Blow) -> None:
    n_left = blow.nth

    def strike(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal n_left
        if event == blow.event and any(blow.path in str(argument) for argument in arguments):
            n_left -= 1
            if n_left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(strike)


@pytest.fixture(scope="module")
def start() -> Callable[..., BaseProcess]:
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["wsae_plugin.cli", "wsae_plugin.training"])

    def start(*arguments: Any) -> BaseProcess:
        process = context.Process(target=_wsae, args=arguments)
        process.start()
        return process

    return start


@pytest.mark.slow
def test_a_comparison_that_is_killed_again_and_again(
    world: TinyWorld, tmp_path: Path, start: Callable[..., BaseProcess]
) -> None:
    """In training, checkpoints, exports and splits, between seeds."""
    values = small(
        world,
        hooks=HOOKS,
        arms={
            "sae": {"alpha": 0},
            "literal": {"alpha": 1, "gamma_normalization": "none"},
            "constant": {"control": "constant", "of": "literal"},
            "shuffled": {"control": "shuffled", "of": "literal"},
        },
        training_tokens=N_STEPS * BATCH,
        n_checkpoints=4,
        logger={"wandb_log_frequency": 7},
    )
    config = write_config(tmp_path / "compare.yaml", values)
    command = ("-q", "compare", str(config), "--output", "out")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    process = start(whole, None, *command)
    process.join()
    assert process.exitcode == 0, (whole / "log").read_text()

    draw = random.Random(0)
    for n, blow in enumerate(BLOWS):
        process = start(killed, blow, *command, *(["--resume"] if n else []))
        if blow is None:
            time.sleep(draw.uniform(0.1, 0.6))
            # It may have ended since.
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL, (blow, (killed / "log").read_text())
    process = start(killed, None, *command, "--resume")
    process.join()
    assert process.exitcode == 0, (killed / "log").read_text()
    assert "Traceback" not in (killed / "log").read_text()
    _assert_same(whole / "out", killed / "out")


def _assert_same(whole: Path, killed: Path) -> None:
    """The same files with the same bytes, but for times, the command and what was resumed."""
    expected, found = _files(whole), _files(killed)
    assert found.keys() == expected.keys()
    assert sum(name.endswith("sae_weights.safetensors") for name in expected) == 2 * 2 * 4
    for name, path in expected.items():
        if path.name in ("run.json", "manifest.json"):
            assert _lasting(found[name]) == _lasting(path), name
        else:
            assert found[name].read_bytes() == path.read_bytes(), name


def _files(folder: Path) -> dict[str, Path]:
    return {
        str(path.relative_to(folder)): path
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".tmp"  # of a small file, killed while it was written
    }


def _lasting(file: Path) -> dict[str, Any]:
    document = json.loads(file.read_text())
    return {name: value for name, value in document.items() if name not in _OF_THE_CLOCK}
