"""What several processes gain and cost: step time, memory of each, bytes; and a model beyond.

    python eval/perf/distributed.py --output eval/perf/distributed.json     # 20 minutes, two cores
    python eval/perf/distributed.py --only model                            # the tables, at once

Every figure is of `wsae train`'s own loop on a table, one thread a process, started with torchrun
over gloo; processes of one comparison take turns in random order. Measured:

- strong scaling: one SAE by 1, 2 and 4 processes; and weak, with as many times the latents;
- beside it one process with a shard's width, which makes all of the computing that a process of
  several makes, so that what is left is waiting for others and exchange;
- bytes a step against the formula of `wsae train --dry-run`;
- memory of a process: the most resident memory of ten steps, less what it was before the SAE.

The model beyond them adds up computing, bytes over the network and latency of one step, see
`Machine` for its assumptions.
"""

from __future__ import annotations

import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import psutil
import torch
import typer
from sae_lens import TrainingSAEConfig
from tqdm.auto import tqdm

from wsae_plugin.distributed.shards import n_candidates
from wsae_plugin.distributed.volume import volume_of
from wsae_plugin.distributed.world import together
from wsae_plugin.training import load_run_config
from wsae_plugin.training.loop import TrainingLoop
from wsae_plugin.training.train import train
from wsae_plugin.yaml_file import to_yaml

D_IN, K, WARM_UP, STEPS = 256, 32, 3, 10
KINDS = ("activations", "candidates", "reconstructions")


def config(table: Path, d_sae: int, batch: int, d_in: int) -> dict[str, Any]:
    return {
        "activations": str(table),
        "sae": {
            **{"architecture": "weighted_topk", "alpha": 0.5, "d_in": d_in},
            **{"d_sae": d_sae, "k": K, "kernel": "cpu"},
        },
        "training_samples": (WARM_UP + STEPS + 1) * batch,
        "batch_size": batch,
        "n_batches_in_buffer": 4,
        "lr": 1e-3,
        "save_final_checkpoint": False,
    }


def worker(config_file: Path, folder: Path) -> None:
    """Train as one of the processes, and write down what it cost."""
    torch.set_num_threads(1)
    process, times = psutil.Process(), [time.perf_counter()]
    loop: Any = TrainingLoop  # whose steps are its own business
    step, before = loop._step, [process.memory_info().rss]
    given: list[dict[str, int]] = []

    def timed(self: Any) -> Any:
        outputs = step(self)
        times.append(time.perf_counter())
        given.append({kind: self._world.bytes_given.get(kind, 0) for kind in KINDS})
        if len(times) == WARM_UP + 1:
            Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        if len(times) == WARM_UP + STEPS + 1:
            status = Path("/proc/self/status").read_text()
            (peak,) = (int(li.split()[1]) for li in status.splitlines() if li[:5] == "VmHWM")
            before.append(1024 * peak)
        return outputs

    loop._step = timed
    with together(600) as world:
        train(load_run_config(config_file), folder / "run")
        # Blocks are read for several steps at once, and the buffer serves as many rows of each.
        taken = {kind: given[-1][kind] - given[WARM_UP][kind] for kind in KINDS}
        found = {
            "seconds": np.diff(times)[WARM_UP:-1].tolist(),
            "memory": before[1] - before[0],
            "bytes_a_step": {kind: taken[kind] / (len(given) - 1 - WARM_UP) for kind in KINDS},
        }
        (folder / f"{world.rank}.json").write_text(json.dumps(found))


def measured(n: int, values: dict[str, Any]) -> list[dict[str, Any]]:
    """What each of n processes says."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.yaml").write_text(to_yaml(values))
        torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(n)]
        command = [sys.executable, *torchrun, __file__, "--worker", str(folder / "config.yaml")]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False,
            env=os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"},
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(done.stderr)
        return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(n)]


def table_of(folder: Path, d_in: int, n_rows: int = 16_384) -> Path:
    file = folder / f"{d_in}.npy"
    np.save(file, np.random.default_rng(0).standard_normal((n_rows, d_in), dtype=np.float32))
    return file


def scaling(folder: Path, d_sae: int, batch: int, rounds: int) -> list[dict[str, Any]]:
    table = table_of(folder, D_IN)
    runs = [
        *[(n, d_sae) for n in (1, 2, 4)],
        *[(n, n * d_sae) for n in (2, 4)],
        *[(processes, d_sae // n) for n in (2, 4) for processes in (1, n)],
    ]
    times: dict[tuple[int, int], list[float]] = {run: [] for run in runs}
    bytes_: dict[tuple[int, int], dict[str, float]] = {}
    order = [run for _ in range(rounds) for run in random.Random(0).sample(runs, len(runs))]
    for n, width in tqdm(order, "Scaling", unit="run"):
        said = measured(n, config(table, width, batch, D_IN))
        # The slowest is what all wait for.
        times[n, width].append(max(median(each["seconds"]) for each in said))
        bytes_[n, width] = said[0]["bytes_a_step"]
    cfg = TrainingSAEConfig.from_dict(config(table, d_sae, batch, D_IN)["sae"])
    return [
        {
            "processes": n, "d_sae": width, "batch": batch, "d_in": D_IN,
            "seconds": median(seconds), "all_seconds": seconds,
            "bytes_a_step": bytes_[n, width],
            "by_formula": {
                "activations": batch * D_IN * 4 / n,
                "candidates": volume_of(cfg, batch, n).candidates,
                "reconstructions": volume_of(cfg, batch, n).reconstructions,
            } if n > 1 else {},
        }
        for (n, width), seconds in times.items()
    ]  # fmt: skip


def memory(folder: Path, n: int, d_in: int, d_sae: int, batch: int) -> dict[str, Any]:
    values = config(table_of(folder, d_in, 8192), d_sae, batch, d_in)
    one, several = measured(1, values), measured(n, values)
    whole, most = one[0]["memory"], max(each["memory"] for each in several)
    return {
        **{"processes": n, "d_in": d_in, "d_sae": d_sae, "batch": batch},
        **{"one": whole, "of_several": most, "share": most / whole},
    }


@dataclass(frozen=True)
class Machine:
    """Assumptions of the model; not measured here.

    Args:
        flops: Of a product in bfloat16 that a GPU reaches.
        memory: Bytes a second of its memory.
        near: Bytes a second that a GPU sends to others in its machine.
        far: The same to other machines.
        near_latency: Seconds that an exchange takes at least within a machine.
        far_latency: The same between machines, for each doubling of their number.
        gpus: In a machine.
    """

    flops: float = 500e12
    memory: float = 2.5e12
    near: float = 300e9
    far: float = 40e9
    near_latency: float = 20e-6
    far_latency: float = 30e-6
    gpus: int = 8


_PARAMETER_BYTES = 42
"""A step of Adam reads a weight, its gradient and both moments, and writes all but the gradient;
the gradient is zeroed and written, and the screen reads a copy in half the bits that it makes."""
_PASSES = 12
"""Over (batch, d_in): input, reconstruction, error, loss, their gradients."""
_SPARSE_PASSES = 6
"""Over the vectors of active latents: encoder, decoder, the gradients of both and of the codes."""
_EXCHANGES = 6
"""Of a step: activations, candidates, reconstructions, dead ones, b_dec and norm."""


def modelled(  # noqa: PLR0913
    machine: Machine, n: int, d_in: int, d_sae: int, k: int, batch: int, how: str
) -> float:
    """Seconds of a step of one Top-k SAE, without the language model's.

    Args:
        machine: What it is made on.
        n: GPUs.
        d_in: Width of the activations.
        d_sae: Latents.
        k: Active latents of an activation.
        batch: Activations of a step.
        how: `latents` dealt out; `replicas`, each with a share of the batch; or `whole`, with all
            on one GPU.
    """
    rows = batch // n if how == "replicas" else batch
    latents = -(-d_sae // n) if how == "latents" else d_sae
    active = rows * k // (n if how == "latents" else 1)
    compute = 2 * rows * d_in * latents / machine.flops
    compute += 2 * d_in * latents * _PARAMETER_BYTES / machine.memory
    compute += 4 * rows * d_in * _PASSES / machine.memory
    compute += 4 * active * d_in * _SPARSE_PASSES / machine.memory
    if how == "whole" or n == 1:
        return compute
    if how == "replicas":
        sent, exchanges = 2 * (n - 1) / n * 2 * d_in * d_sae * 4, 1
    else:
        shown, sums = n_candidates(k, n), 2 * (n - 1) / n * 4 * batch * d_in
        keys = 8 * batch * shown * (n - 1)
        sent = 4 * batch * d_in * (n - 1) / n + keys + sums
        compute += 3 * 8 * batch * shown * n / machine.memory  # the choice among them
        exchanges = _EXCHANGES
    machines = -(-n // machine.gpus)
    if machines == 1:
        return compute + sent / machine.near + exchanges * machine.near_latency
    doublings = (machines - 1).bit_length()
    return compute + sent / machine.far + exchanges * machine.far_latency * doublings


SHAPES = ((768, 24_576, 32), (4096, 131_072, 50), (8192, 2**20, 64))


def model() -> list[dict[str, Any]]:
    machine, batch = Machine(), 4096
    rows: list[dict[str, Any]] = []
    for (d_in, d_sae, k), n in ((shape, n) for shape in SHAPES for n in (1, 8, 64, 512)):
        seconds = {
            how: modelled(machine, n, d_in, d_sae, k, batch, how)
            for how in ("latents", "replicas", "whole")
        }
        held = 2 * d_in * d_sae * 4 * 4
        rows.append(
            {
                **{"gpus": n, "d_in": d_in, "d_sae": d_sae, "k": k, "batch": batch},
                **{"seconds": seconds, "state": held, "state_of_latents": held / n},
            }
        )
    return rows


def markdown(result: dict[str, Any]) -> str:
    """The tables of docs/scaling.md."""
    lines: list[str] = []
    if points := result.get("scaling"):
        seconds = {(p["processes"], p["d_sae"]): p["seconds"] for p in points}
        lines += ["| processes | latents | step | one process, whole | one process, a shard |"]
        lines += ["| --- | --- | --- | --- | --- |"]
        for (n, width), took in sorted(seconds.items()):
            if n > 1:
                whole, shard = seconds.get((1, width)), seconds.get((1, width // n))
                cells = [f"{1000 * s:,.0f} ms" if s else "" for s in (took, whole, shard)]
                lines.append(f"| {n} | {width:,} | {' | '.join(cells)} |")
    lines += [
        "",
        "| shape | GPUs | latents dealt out | replicas (DDP) | whole SAEs | state a GPU |",
    ]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for row in result["model"]:
        cells = [
            f"{1000 * row['seconds'][how]:,.1f} ms" for how in ("latents", "replicas", "whole")
        ]
        shape = f"{row['d_in']:,} → {row['d_sae']:,}"
        state = f"{row['state_of_latents'] / 1e9:,.2f} of {row['state'] / 1e9:,.1f} GB"
        lines.append(f"| {shape} | {row['gpus']} | {' | '.join(cells)} | {state} |")
    return "\n".join(lines)


def main(  # noqa: PLR0913
    output: Annotated[Path | None, typer.Option(help="Write the figures here, as JSON.")] = None,
    only: Annotated[str, typer.Option(help="`model` measures nothing.")] = "",
    d_sae: Annotated[int, typer.Option(help="Latents, of strong scaling.")] = 16_384,
    batch: Annotated[int, typer.Option(help="Activations of a step.")] = 1024,
    rounds: Annotated[int, typer.Option(help="How often each is timed.")] = 3,
    worker_config: Annotated[Path | None, typer.Option("--worker", hidden=True)] = None,
) -> None:
    """Measure steps of several processes, and model those of more."""
    if worker_config is not None:
        worker(worker_config, worker_config.parent)
        return
    result: dict[str, Any] = {"machine": asdict(Machine()), "model": model()}
    if only != "model":
        with tempfile.TemporaryDirectory() as name:
            result["memory"] = memory(Path(name), 8, 2048, 65_536, 256)
            result["scaling"] = scaling(Path(name), d_sae, batch, rounds)
        result["versions"] = {"torch": torch.__version__, "python": platform.python_version()}
        result["cores"] = os.cpu_count()
    typer.echo(markdown(result))
    if output is not None:
        output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
