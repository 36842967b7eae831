"""However one of several processes fails, all end, soon, and say once why."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.cases import section
from tests.distributed.processes import Processes, start, wsae
from tests.distributed.test_training import assert_same_run
from tests.training.tiny import BATCH, TinyWorld, write_config

TIMEOUT = 8
"""Seconds that a process waits for another in these runs."""
MARGIN = 12
"""More, for what they have begun and for a busy machine."""


def config(world: TinyWorld, folder: Path, n_steps: int = 100_000) -> Path:
    folder.mkdir(exist_ok=True)
    values = world.table(
        sae=section("batchtopk", kernel="cpu"),
        training_samples=n_steps * BATCH,
        n_checkpoints=min(n_steps // 20, 5000),
        distributed={"timeout": TIMEOUT},
        logger={"wandb_log_frequency": 5},
    )
    return write_config(folder / "config.yaml", values)


def train(n: int, folder: Path, *options: str, logs: str = "logs") -> Processes:
    run = ("train", folder / "config.yaml", "--output", folder / "run", "--keep-checkpoints", "2")
    return start(n, folder / logs, wsae, *run, *options)


def wait(condition: Callable[[], bool], processes: Processes, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, processes.said()
        assert any(process.is_alive() for process in processes.ranks), processes.said()
        time.sleep(0.01)


def n_lines(folder: Path) -> int:
    file = folder / "run/metrics.jsonl"
    return file.read_text().count("\n") if file.exists() else 0


def break_call(rank: int, kind: str, place: int, how: str, in_group: bool, *arguments: Any) -> None:
    """Run the command line, and in one process fail once in the place-th call of a kind.

    With `in_group` that is a call among some of the processes.
    """
    from wsae_plugin.distributed.world import World

    call: Any = World._call
    n_calls = 0

    def breaking(self: World, function: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal n_calls
        is_counted = not in_group or kwargs.get("group") is not None
        if self.rank == rank and function.__name__ == kind and is_counted:
            n_calls += 1
            if n_calls == place and how == "hang":
                time.sleep(1000)
            if n_calls == place:

                def failing(*_: Any, **__: Any) -> None:
                    raise RuntimeError("the network is gone")

                failing.__name__ = kind
                function = failing
        return call(self, function, *args, **kwargs)

    World._call = breaking  # type: ignore[method-assign]
    wsae(*arguments)


KINDS = ("all_reduce", "all_gather", "broadcast_object_list", "all_gather_object")
SENDING = ("send", "recv", "send_object_list", "recv_object_list")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["raise", "hang"])
@pytest.mark.parametrize("kind", [*KINDS, *SENDING])
def test_no_exchange_that_fails_leaves_a_process_behind(
    world: TinyWorld, tmp_path: Path, kind: str, how: str
) -> None:
    config(world, tmp_path)
    draw = random.Random(f"{kind} {how}")
    # Only the first receives all, and the others send to it, when the state is put together.
    rank = {"send": 1, "recv": 0, "send_object_list": 0, "recv_object_list": 1}.get(
        kind, draw.randrange(3)
    )
    # Objects are sent, and a start is agreed upon, only before the first step.
    is_once = kind in ("broadcast_object_list", "send_object_list", "recv_object_list")
    place = 1 if is_once else draw.randint(2, 40)
    run = ("train", tmp_path / "config.yaml", "--output", tmp_path / "run")
    processes = start(3, tmp_path, break_call, rank, kind, place, how, False, *run)
    assert_all_end(processes, rank if how == "hang" else None)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["all_reduce", "all_gather"])
def test_a_process_that_hangs_among_some_is_not_waited_for_either(
    world: TinyWorld, tmp_path: Path, kind: str
) -> None:
    saes = {name: section(name) for name in ("topk", "batchtopk")}
    layout = {"latents": 2, "saes": 2, "timeout": TIMEOUT}
    write_config(tmp_path / "config.yaml", world.multi(saes=saes, distributed=layout))
    run = ("train", tmp_path / "config.yaml", "--output", tmp_path / "run")
    processes = start(4, tmp_path, break_call, 3, kind, 9, "hang", True, *run)
    assert_all_end(processes, hanging=3)


def assert_all_end(processes: Processes, hanging: int | None) -> None:
    """All end in time, but for one that hangs, and say once why."""
    wait(lambda: not all(p.is_alive() for p in processes.ranks), processes, 60 + TIMEOUT)
    if hanging is not None:
        # Nobody but who started it can end it, as torchrun does when it sees the others end.
        time.sleep(1)
    others = [p for n, p in enumerate(processes.ranks) if n != hanging]
    deadline = time.monotonic() + TIMEOUT + MARGIN
    for process in others:
        process.join(max(0.0, deadline - time.monotonic()))
    assert not any(p.is_alive() for p in others), processes.said()
    assert {p.exitcode for p in others} == {1}
    processes.end(0)
    assert len(processes.errors()) == 1, processes.said()


@pytest.mark.slow
def test_processes_that_are_killed_ten_times_end_a_run_that_goes_on(
    world: TinyWorld, tmp_path: Path
) -> None:
    n_steps = 400
    config(world, tmp_path, n_steps)
    whole = start(1, tmp_path / "whole", wsae, "train", tmp_path / "config.yaml", "--output",
                  tmp_path / "whole/run")  # fmt: skip
    assert whole.end() == [0], whole.said()
    draw = random.Random(0)
    for attempt in range(10):
        before = n_lines(tmp_path)
        resumed = ["--resume"] if (tmp_path / "run/run.json").exists() else []
        n = draw.choice([2, 3])
        processes = train(n, tmp_path, *resumed, logs=f"logs-{attempt}")
        wait(lambda before=before: n_lines(tmp_path) > before, processes)
        time.sleep(draw.random() * 0.2)
        killed = draw.randrange(n)
        process = processes.ranks[killed]
        os.kill(process.pid or 0, signal.SIGKILL)
        began = time.monotonic()
        codes = processes.end(TIMEOUT + MARGIN)
        assert time.monotonic() - began < TIMEOUT + MARGIN
        assert codes.pop(killed) == -signal.SIGKILL
        assert set(codes) == {1}, processes.said()
        assert len(processes.errors()) == 1, processes.said()
    processes = train(2, tmp_path, "--resume", logs="logs-last")
    assert processes.end() == [0, 0], processes.said()
    assert_same_run(tmp_path / "run", tmp_path / "whole/run")


@pytest.mark.parametrize("place", [0, 1])
def test_a_signal_to_any_process_leaves_a_checkpoint_to_go_on_from(
    world: TinyWorld, tmp_path: Path, place: int
) -> None:
    config(world, tmp_path)
    processes = train(2, tmp_path)
    wait(lambda: n_lines(tmp_path) > 2, processes)
    os.kill(processes.ranks[place].pid or 0, signal.SIGTERM)
    assert processes.end(TIMEOUT + MARGIN) == [1, 1], processes.said()
    (error,) = processes.errors()
    assert "stopped by SIGTERM after" in error
    assert "go on with: torchrun --nproc-per-node 2 -m wsae_plugin train" in error
    assert error.endswith("--resume")
    assert '"status": "interrupted"' in (tmp_path / "run/run.json").read_text()


def fail_to_write(arguments: tuple[Any, ...]) -> None:
    from wsae_plugin.training import loop

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    loop.save_checkpoint = full  # type: ignore[assignment]
    wsae(*arguments)


def test_a_full_disk_ends_all_with_one_message(world: TinyWorld, tmp_path: Path) -> None:
    config(world, tmp_path)
    run = ("train", tmp_path / "config.yaml", "--output", tmp_path / "run")
    processes = start(3, tmp_path, fail_to_write, run)
    assert processes.end(TIMEOUT + MARGIN) == [1, 1, 1], processes.said()
    (error,) = processes.errors()
    assert "No space left on device" in error


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"distributed": {"latents": 3}}, "saes = 1 times latents = 3 is 3, and there are 2"),
        ({"distributed": {"latents": 1, "saes": 2}}, "distributed.saes = 2: makes 2 groups"),
        ({"distributed": {"latents": 1}}, "distributed.latents = 1: makes 2 groups of the 2"),
        ({"sae": section("topk", d_sae=1, k=1)}, "sae.d_sae = 1: is less than the 2 processes"),
        ({"sae": {"architecture": "topk", "d_in": 32, "d_sae": 64, "k": 4}}, "cannot be dealt out"),
        ({"sae": section("matryoshka_batchtopk", use_matryoshka_aux_loss=True)}, "needs all"),
    ],
)
def test_what_cannot_be_shared_is_refused_once(
    world: TinyWorld, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    values = world.table(distributed={"timeout": TIMEOUT}) | changes
    values["distributed"] = {"timeout": TIMEOUT, **values["distributed"]}
    write_config(tmp_path / "config.yaml", values)
    processes = train(2, tmp_path)
    assert processes.end(60) == [2, 2], processes.said()
    (error,) = processes.errors()
    assert said in error
    assert not (tmp_path / "run").exists()


def with_changes_on_the_second(changes: list[str], *arguments: str | Path) -> None:
    """Run the command line, in the second process with more of it."""
    wsae(*arguments, *(changes if os.environ["RANK"] == "1" else []))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["--set", "lr=0.5"], "lr = 0.5 in the config of process 1"),
        (["--set", "sae.alpha=1"], "sae.alpha = 1.0 in the config of process 1"),
        (["--set", "batch_size=64"], "batch_size = 64 in the config of process 1"),
    ],
)
def test_a_config_that_differs_is_refused(
    world: TinyWorld, tmp_path: Path, changes: list[str], said: str
) -> None:
    run = ("train", config(world, tmp_path), "--output", tmp_path / "run")
    processes = start(2, tmp_path, with_changes_on_the_second, changes, *run)
    assert processes.end(60) == [2, 2], processes.said()
    (error,) = processes.errors()
    assert said in error


def with_other_rows_in_the_second(*arguments: str | Path) -> None:
    from wsae_plugin.sources import table

    of_column = table.fingerprint_of_column
    if os.environ["RANK"] == "1":
        table.fingerprint_of_column = lambda column: of_column(column)[::-1]
    wsae(*arguments)


def test_another_table_is_refused(world: TinyWorld, tmp_path: Path) -> None:
    run = ("train", config(world, tmp_path), "--output", tmp_path / "run")
    processes = start(2, tmp_path, with_other_rows_in_the_second, *run)
    assert processes.end(60) == [2, 2], processes.said()
    (error,) = processes.errors()
    assert "in the data of process 1" in error


def fail_in_the_second(*arguments: str | Path) -> None:
    from wsae_plugin.training.loop import TrainingLoop

    def fail(_: TrainingLoop) -> None:
        raise ValueError("only here")

    if os.environ["RANK"] == "1":
        TrainingLoop._step = fail  # type: ignore[assignment, method-assign]
    wsae(*arguments)


def test_the_record_has_the_traceback_of_the_first_that_failed(
    world: TinyWorld, tmp_path: Path
) -> None:
    run = ("train", config(world, tmp_path), "--output", tmp_path / "run")
    processes = start(2, tmp_path, fail_in_the_second, *run)
    assert processes.end(TIMEOUT + MARGIN) == [1, 1], processes.said()
    (error,) = processes.errors()
    assert "ValueError: only here" in error
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert 'raise ValueError("only here")' in record["error"]


def test_what_one_process_does_is_refused_to_several(tmp_path: Path) -> None:
    processes = start(2, tmp_path, wsae, "toy", "fig3", "--output", tmp_path / "toy")
    assert processes.end(60) == [2, 2], processes.said()
    (error,) = processes.errors()
    assert error == (
        "wsae: wsae toy: runs in one process; start it without torchrun (several make train and "
        "compare)"
    )


def test_a_wrong_option_is_told_once(tmp_path: Path) -> None:
    processes = start(2, tmp_path, wsae, "train", "--nope")
    assert processes.end(60) == [2, 2]
    assert len(processes.errors()) == 1, processes.said()


def test_json_is_told_once(world: TinyWorld, tmp_path: Path) -> None:
    processes = start(
        2,
        tmp_path,
        wsae,
        "train",
        config(world, tmp_path, 20),
        "--output",
        tmp_path / "r",
        "--json",
    )
    assert processes.end() == [0, 0], processes.said()
    first, second = (log.read_text() for log in processes.logs)
    assert '"saes"' in first
    assert "{" not in second
