"""Runs that are killed with SIGKILL, again and again, end as if nothing had happened."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training.tiny import BATCH, TinyWorld, sae, write_config

N_KILLS = 10
N_STEPS = {"language_model": 240, "multi": 240, "synthetic": 4000, "table": 4000}
"""Some seconds each, so that a blow meets a run and not its end."""


def _train(config: Path, folder: Path, resume: bool) -> None:
    # In a process of its own, forked from one that has imported everything.
    from wsae_plugin.training import load_run_config
    from wsae_plugin.training.train import train

    torch.set_num_threads(1)
    train(load_run_config(config), folder, resume=resume)


def _toy(folder: Path) -> None:
    from wsae_plugin.toy.study import STUDIES, ToySettings, run_study

    settings = ToySettings(n_features=16, d_in=4, n_seeds=2, n_steps=40, batch_size=16)
    run_study(STUDIES["fig3"], settings, folder, threads=1)


@pytest.fixture(scope="module")
def start() -> Callable[..., BaseProcess]:
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["wsae_plugin.training.train", "wsae_plugin.toy.study"])

    def start(target: Callable[..., None], *arguments: Any) -> BaseProcess:
        process = context.Process(target=target, args=arguments)
        process.start()
        return process

    return start


def _kill(process: BaseProcess) -> bool:
    """Whether it was still alive."""
    alive = process.is_alive()
    # It may end in between.
    with contextlib.suppress(ProcessLookupError):
        if alive:
            os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    return alive


def _wait(condition: Callable[[], bool], process: BaseProcess) -> None:
    deadline = time.monotonic() + 300
    while process.is_alive() and not condition() and time.monotonic() < deadline:
        time.sleep(0.001)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["language_model", "multi", "synthetic", "table"])
def test_a_run_that_is_killed_again_and_again(
    world: TinyWorld, tmp_path: Path, start: Callable[..., BaseProcess], kind: str
) -> None:
    """While Γ is estimated, α warms up, checkpoints are written and the SAE is exported."""
    proxy = "semantic_consistency" if kind == "table" else "variance"
    section = sae(gamma_freeze_step=30, alpha_warm_up_steps=60, gamma_proxy=proxy)
    amount = "training_samples" if kind in ("synthetic", "table") else "training_tokens"
    saes: dict[str, Any] = (
        {"saes": {"one": section, "two": sae(alpha=-0.5)}} if kind == "multi" else {"sae": section}
    )
    values = getattr(world, kind)(
        **saes,
        **{amount: N_STEPS[kind] * BATCH},
        n_checkpoints=16,
        logger={"wandb_log_frequency": 7},
    )
    config = write_config(tmp_path / "config.yaml", values)
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    process = start(_train, config, whole, False)
    _wait(lambda: _status(whole) == "running", process)
    started = time.monotonic()
    process.join()
    seconds = time.monotonic() - started
    assert process.exitcode == 0

    draw = random.Random(kind)
    n_killed = 0
    name = "saes" if kind == "multi" else "sae"
    for attempt in range(N_KILLS):
        process = start(_train, config, folder, (folder / "run.json").exists())
        _wait(lambda: _status(folder) == "running", process)
        if attempt == N_KILLS - 1:
            _wait(lambda: any((folder / n).exists() for n in (f".{name}.partial", name)), process)
        else:
            n_before = _n_checkpoints(folder)
            # Every other time only after another checkpoint was begun, so that the run gets on.
            if attempt % 2:
                _wait(lambda n=n_before: _n_checkpoints(folder) > n, process)
            time.sleep(draw.uniform(0, seconds / 20))
        n_killed += _kill(process)
        if _status(folder) == "finished":
            break
    assert n_killed >= N_KILLS // 2  # a busy machine may let a run end before a late blow
    if _status(folder) != "finished":
        process = start(_train, config, folder, True)
        process.join()
        assert process.exitcode == 0
    _assert_same(whole, folder)


@pytest.mark.slow
def test_a_toy_experiment_that_is_killed_again_and_again(
    tmp_path: Path, start: Callable[..., BaseProcess]
) -> None:
    process = start(_toy, tmp_path / "whole")
    process.join()
    assert process.exitcode == 0
    draw = random.Random(0)
    for _ in range(N_KILLS):
        process = start(_toy, tmp_path / "killed")
        _wait((tmp_path / "killed" / "config.json").exists, process)
        time.sleep(draw.random())
        _kill(process)
    process = start(_toy, tmp_path / "killed")
    process.join()
    assert (tmp_path / "killed/fig3.json").read_bytes() == (
        tmp_path / "whole/fig3.json"
    ).read_bytes()


def _status(folder: Path) -> str | None:
    file = folder / "run.json"
    return json.loads(file.read_text())["status"] if file.exists() else None


def _n_checkpoints(folder: Path) -> int:
    checkpoints = folder / "checkpoints"
    return len(list(checkpoints.iterdir())) if checkpoints.exists() else 0


def _assert_same(whole: Path, killed: Path) -> None:
    files = sorted(path.relative_to(whole) for path in whole.glob("sae*/**/*.safetensors"))
    assert files
    for file in files:
        expected, found = load_file(whole / file), load_file(killed / file)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected), file
    assert (killed / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
