r"""An hour of `wsae train` on the bundled model: do memory and the time of a step stay flat?

    python eval/perf/soak.py --minutes 60
    python eval/perf/soak.py --minutes 60 --batchtopk --limit-mib 3072 \
        --output eval/perf/soak_batchtopk.json

The training is `wsae train` itself, in a process of its own with one thread, with Γ estimated over
all of the run, a checkpoint now and then, and an end when it takes more memory than it may; nothing
is measured from inside it. `--batchtopk` trains 24,576 latents with BatchTopK, whose sparse step
needs memory of ever new sizes: another number of rows of a batch is computed again in every step,
and other latents are dead.
Every ten seconds the training's resident memory and its processor time are read from /proc, and the
step it has reached from its metrics. When the time is up it gets a SIGINT, as from Ctrl-C, and must
save a checkpoint and say how to go on.

The first tenth warms up and is left out. Over the rest, growth in an hour is the Theil–Sen slope
with its 95% interval, as a share of the median. "flat": even the interval's upper end is at most
2%; "grows": even its lower end is more; "undecided" otherwise, as a run of a few minutes may be.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import sae_lens
import torch
import typer
from scipy.stats import theilslopes
from tqdm.auto import tqdm

import wsae_plugin
from wsae_plugin.files import write_json_atomic
from wsae_plugin.plots.style import PALETTE, new_figure, save_png, tidy

CONFIG = Path(__file__).parents[2] / "configs" / "bundled" / "weighted_topk.yaml"
OUTPUT = Path(__file__).with_suffix(".json")
OVERRIDES = {
    # More than an hour's: the run is stopped, and its schedule is in its even middle all the time.
    "training_tokens": 10**9,
    "n_checkpoints": 650,
    "lr_warm_up_steps": 20,
    "lr_decay_steps": 0,
    "sae.gamma_freeze_step": "null",
}
BATCHTOPK = {
    "sae.architecture": "weighted_batchtopk",
    "sae.d_sae": 24576,
    "sae.kernel": "cpu",
    "train_batch_size_tokens": 4096,
    "dead_feature_window": 20,
    "n_batches_in_buffer": 128,
    "n_checkpoints": 10_000,
}
HOUR = 3600.0
MIB = 2**20
FLAT = 0.02
WARM_UP = 0.1


class OverLimitError(RuntimeError):
    """The training took more memory than it was given."""


def start(folder: Path, overrides: dict[str, object]) -> subprocess.Popen[bytes]:
    """`wsae train`, with one thread."""
    settings = [part for name, value in overrides.items() for part in ("--set", f"{name}={value}")]
    program = "from wsae_plugin.cli import main; main()"
    arguments = ["-q", "train", str(CONFIG), *settings, "--output", str(folder / "run")]

    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stderr=(folder / "stderr").open("wb"),
        stdout=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )


def sample(process: int, run: Path, started: float) -> dict[str, float] | None:
    """Where the training is and what it has taken so far; None before its first step."""
    step = last_step(run / "metrics.jsonl")
    if step is None:
        return None
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    # After the command's name, which may hold spaces; utime and stime are fields 14 and 15.
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    checkpoints = list((run / "checkpoints").glob("[0-9]*"))
    return {
        "seconds": time.monotonic() - started,
        "step": step,
        "rss_mib": pages * os.sysconf("SC_PAGE_SIZE") / MIB,
        "cpu_s": (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
        "n_checkpoints": len(checkpoints),
    }


def last_step(metrics: Path) -> int | None:
    """The step of the last whole line."""
    if not metrics.exists():
        return None
    with metrics.open("rb") as file:
        file.seek(max(0, metrics.stat().st_size - 8192))
        lines = [line for line in file.read().split(b"\n")[:-1] if line.startswith(b"{")]
    return json.loads(lines[-1])["step"] if lines else None


def watch(
    process: subprocess.Popen[bytes], run: Path, minutes: float, every: float, limit_mib: int
) -> list[dict[str, float]]:
    """Sample the training until the time, which begins with its first metrics, is up."""
    samples: list[dict[str, float]] = []
    started = time.monotonic()
    with tqdm(total=round(60 * minutes), desc="soak", unit="s") as bar:
        while process.poll() is None:
            time.sleep(every if samples else 0.1)
            try:
                now = sample(process.pid, run, started)
            except (FileNotFoundError, ProcessLookupError):
                break
            if now is None:
                started = time.monotonic()
                continue
            samples.append(now)
            if now["rss_mib"] > limit_mib:
                raise OverLimitError(f"{now['rss_mib']:.0f} MiB, the limit is {limit_mib} MiB")
            bar.update(min(bar.total, round(now["seconds"])) - bar.n)
            bar.set_postfix_str(f"step {now['step']:.0f}, {now['rss_mib']:.0f} MiB")
            if now["seconds"] >= 60 * minutes:
                break
    return samples


def step_times(samples: list[dict[str, float]]) -> tuple[list[float], list[float]]:
    """Seconds into the run, and processor time of a step around then, sample by sample."""
    # Of samples that show the same step, on a machine that is busy with others, the first counts.
    moved = list({now["step"]: now for now in reversed(samples)}.values())[::-1]
    pairs = list(pairwise(moved))
    middles = [(a["seconds"] + b["seconds"]) / 2 for a, b in pairs]
    return middles, [(b["cpu_s"] - a["cpu_s"]) / (b["step"] - a["step"]) for a, b in pairs]


def trend(seconds: list[float], values: list[float]) -> dict[str, Any]:
    """How much of its median `values` grows in an hour, with a verdict."""
    x, y = np.array(seconds), np.array(values)
    warm = x >= WARM_UP * x[-1]
    x, y = x[warm], y[warm]
    middle = float(np.median(y))
    found: Any = theilslopes(y, x)
    slope, low, high = (
        float(number) * HOUR / middle for number in (found.slope, found.low_slope, found.high_slope)
    )
    verdict = "flat" if high <= FLAT else "grows" if low > FLAT else "undecided"
    return {
        "median": middle,
        "smallest": float(y.min()),
        "largest": float(y.max()),
        "growth_per_hour": slope,
        "interval": [low, high],
        "verdict": verdict,
    }


def stop(process: subprocess.Popen[bytes], folder: Path) -> None:
    """End the training as a user would; it must end in order.

    Raises:
        RuntimeError: It had ended before, or does not end as it should.
    """
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    code = process.wait(timeout=120)
    told = (folder / "stderr").read_text()
    if code != 1 or "stopped by SIGINT" not in told:
        raise RuntimeError(f"the training ended with {code}: {told[-2000:]}")


def draw(result: dict[str, Any], path: Path) -> None:
    """Resident memory and processor time of a step, over the run."""
    figure = new_figure(7, 5)
    samples = result["samples"]
    middles, times = step_times(samples)
    panels = figure.subplots(2, 1, sharex=True)
    memory = [now["rss_mib"] for now in samples]
    series = [
        ([now["seconds"] for now in samples], memory, "resident memory, MiB", result["memory"]),
        (middles, [1e3 * time for time in times], "processor time, ms a step", result["step_time"]),
    ]
    for axes, (seconds, values, label, found), colour in zip(
        panels, series, PALETTE[1:], strict=False
    ):
        axes.plot([second / 60 for second in seconds], values, ".", markersize=3, color=colour)
        low, high = found["interval"]
        axes.set_title(
            f"{found['verdict']}: {found['growth_per_hour']:+.2%} in an hour "
            f"({low:+.2%} to {high:+.2%})",
            fontsize=9,
        )
        axes.set_ylabel(label)
        axes.set_ylim(0, 1.15 * max(values))
        tidy(axes)
    panels[-1].set_xlabel("minutes")
    last = samples[-1]
    figure.suptitle(
        f"wsae train for {last['seconds'] / 60:.0f} minutes: {last['step']:,.0f} steps, one thread",
        fontsize=10,
    )
    save_png(figure, path)


def main(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long to train.")] = 60,
    limit_mib: Annotated[int, typer.Option(help="Memory that the training may take.")] = 1024,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between samples.")] = 10,
    batchtopk: Annotated[
        bool, typer.Option("--batchtopk", help="Train 24,576 latents with BatchTopK.")
    ] = False,
    output: Annotated[Path, typer.Option(help="The JSON; the PNG goes beside it.")] = OUTPUT,
) -> None:
    """Train, sample, and tell whether memory and step time are flat."""
    overrides = OVERRIDES | (BATCHTOPK if batchtopk else {})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = folder / "run"
        process = start(folder, overrides)
        try:
            samples = watch(process, run, minutes, every, limit_mib)
            stop(process, folder)
        finally:
            process.kill()
            process.wait()
        disk = sum(file.stat().st_size for file in run.rglob("*") if file.is_file())
        checkpoints = len(list((run / "checkpoints").iterdir()))
    result = {
        "config": CONFIG.name,
        "overrides": overrides,
        "limit_mib": limit_mib,
        "memory": trend([now["seconds"] for now in samples], [now["rss_mib"] for now in samples]),
        "step_time": trend(*step_times(samples)),
        "disk": {"mib": disk / MIB, "checkpoints": checkpoints},
        "torch": str(torch.__version__),
        "sae_lens": sae_lens.__version__,
        "wsae_plugin": wsae_plugin.__version__,
        "machine": platform.machine(),
        "samples": samples,
    }
    write_json_atomic(output, result)
    draw(result, output.with_suffix(".png"))
    for what in ("memory", "step_time"):
        typer.echo(f"{what}: {json.dumps(result[what])}")


if __name__ == "__main__":
    typer.run(main)
