"""What it costs to train on a table that is larger than the memory: time, and memory.

    python eval/perf/table_stream.py --output eval/perf/table_stream.json
    python eval/perf/table_stream.py --gigabytes 2 --steps 10    # a look

Writes a table of 768 dimensions, by default of 20 GB, all of it random numbers (the holes of a
sparse file would read as zeros, on which an SAE's step takes another time), and trains an SAE on it
with `wsae train`'s own loop, source and buffer. Beside it the same SAE takes the same number of
steps on one batch that lies in memory. The two take turns, a round each; each is a process of its
own, so that their peaks of resident memory can be told apart.

Floor: a step of batch × 768 float32 reads 12.6 MB at 4,096 rows, and the buffer copies each row
about five times (read, side by side, kept with new, shuffled, served): 63 MB of the memory's
bandwidth, a hundredth of a second, where the SAE's step is 12 · 4,096 · 768 · d_sae operations.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import sae_lens
import torch
import typer
from tqdm.auto import tqdm

import wsae_plugin
from wsae_plugin.training import load_run_config, train
from wsae_plugin.training.saes import build_saes
from wsae_plugin.training.trainer import WeightedSAETrainer
from wsae_plugin.yaml_file import to_yaml

D_IN, BATCH = 768, 4096
_BLOCK = 4096


def write_table(file: Path, n_rows: int) -> None:
    """Write a .npy of (n_rows, 768) float32."""
    table = np.lib.format.open_memmap(file, "w+", np.float32, (n_rows, D_IN))
    block = np.random.default_rng(0).standard_normal((_BLOCK, D_IN), dtype=np.float32)
    for start in tqdm(range(0, n_rows, _BLOCK), "Writing the table", unit="block"):
        table[start : start + _BLOCK] = block[: n_rows - start]


def config(table: Path, d_sae: int, steps: int) -> dict[str, Any]:
    sae = {"architecture": "weighted_topk", "alpha": 0.5, "d_in": D_IN, "d_sae": d_sae, "k": 32}
    return {
        "activations": str(table),
        "sae": sae,
        "training_samples": steps * BATCH,
        "batch_size": BATCH,
        "lr": 1e-3,
    }


def streamed(folder: Path) -> list[float]:
    """Seconds of each step of a training on the table."""
    run_config = load_run_config(folder / "config.yaml")
    times = [time.perf_counter()]
    step = WeightedSAETrainer.step

    def timed(self: Any, batch: torch.Tensor) -> Any:
        output = step(self, batch)
        times.append(time.perf_counter())
        return output

    WeightedSAETrainer.step = timed  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory(dir=folder) as output:
        train(run_config, Path(output) / "run")
    return np.diff(times).tolist()


def in_memory(folder: Path) -> list[float]:
    """Seconds of each step on one batch in memory."""
    run_config = load_run_config(folder / "config.yaml")
    (sae,) = build_saes(run_config).values()
    cfg = run_config.runner_config().to_sae_trainer_config()
    trainer = WeightedSAETrainer(cfg, sae, data_provider=iter(()))
    x, times = torch.randn(BATCH, D_IN), [time.perf_counter()]
    for _ in range(run_config.n_steps):
        trainer.step(x)
        trainer.n_training_steps += 1
        times.append(time.perf_counter())
    return np.diff(times).tolist()


def peak_bytes() -> int:
    """The most that was resident of this process since it started (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main(
    gigabytes: Annotated[float, typer.Option(help="Size of the table.")] = 20,
    d_sae: Annotated[int, typer.Option(help="Latents of the SAE.")] = 6144,
    steps: Annotated[int, typer.Option(help="Of each round.")] = 60,
    rounds: Annotated[int, typer.Option(help="Of each of the two.")] = 3,
    output: Annotated[Path | None, typer.Option(help="Write the figures there.")] = None,
    child: Annotated[str, typer.Option(hidden=True)] = "",
    folder: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure streaming beside training in memory."""
    if folder is not None:
        times = (streamed if child == "streamed" else in_memory)(folder)
        peak = peak_bytes()
        typer.echo(json.dumps({"times": times, "peak_bytes": peak}))
        return
    kinds = ("streamed", "in_memory")
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as scratch:
        table = Path(scratch) / "table.npy"
        write_table(table, int(gigabytes * 1e9 / (4 * D_IN)))
        (Path(scratch) / "config.yaml").write_text(to_yaml(config(table, d_sae, steps)))
        for _ in range(rounds):
            for kind in kinds:
                command = [sys.executable, __file__, "--child", kind, "--folder", scratch]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                found[kind].append(json.loads(done.stdout.splitlines()[-1]))
    # The first steps fill the buffer, check the table and estimate Γ.
    seconds = {k: [sum(r["times"][steps // 3 :]) for r in of] for k, of in found.items()}
    peaks = {kind: max(r["peak_bytes"] for r in of) for kind, of in found.items()}
    ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
    result = {
        "gigabytes": gigabytes,
        "d_in": D_IN,
        "d_sae": d_sae,
        "batch": BATCH,
        "steps": steps - steps // 3,
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "seconds_a_step": {k: median(of) / (steps - steps // 3) for k, of in seconds.items()},
        "streamed_throughput_over_in_memory": median(ratios),
        "streamed_throughput_over_in_memory_all": ratios,
        "peak_bytes": peaks,
        "peak_bytes_beyond_in_memory": peaks["streamed"] - peaks["in_memory"],
        "torch": torch.__version__,
        "sae_lens": sae_lens.__version__,
        "wsae_plugin": wsae_plugin.__version__,
        "machine": platform.machine(),
    }
    if output is not None:
        output.write_text(json.dumps(result, indent=2) + "\n")
    typer.echo(json.dumps(result, indent=2))


if __name__ == "__main__":
    typer.run(main)
