"""What counting classes costs: `LabelCounter` against one read of the codes.

100,000 codes of 16,384 latents, 16 of them active, and 100 classes, one thread:

    OMP_NUM_THREADS=1 python eval/perf/consistency.py --output eval/perf/consistency.json

A read is a sum over all elements where codes are dense, and `torch.bincount` of the latents with
the values as weights, beside a sum over the rows, where they are sparse. In each round the read and
the counts take turns on the same block, so that a machine whose speed drifts slows all of them.
Dense codes are 6.5 GB, so that blocks of 8,192 stand for them: each is far larger than any cache.
Times are processor time, and ratios are taken round by round.

Floors. Dense: all elements are read, and a flag for each is written to a block that stays in the
cache, which alone takes 1.3 reads; finding the flags that are set is most of the rest. Sparse: each
entry adds 1 at a random place of a table of n_latents · n_classes · 8 bytes = 13 MB, after its
place was made of two numbers, where the read adds at a random place of 0.1 MB. The top samples are
sorted by latent and activation: 64 bits of each of those that exceed their latent's smallest top
activation so far. Of 100,000 samples with 98 for each latent most entries do; of ten times as many,
few.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy
import torch
import typer
from rich.console import Console
from rich.table import Table
from tqdm.auto import tqdm

import wsae_plugin
from wsae_plugin.gamma.consistency import LabelCounter

BLOCK = 8192
"""Dense codes at a time: 0.5 GB of 16,384 latents."""


def codes(n: int, d_sae: int, k: int, generator: torch.Generator) -> torch.Tensor:
    """k random latents of each sample, with random activations; COO, coalesced."""
    drawn = [
        torch.rand(len(rows), d_sae, generator=generator).topk(k, dim=1).indices.sort(dim=1).values
        for rows in torch.arange(n).split(1024)
    ]
    rows = torch.arange(n).repeat_interleave(k)
    values = 0.1 + torch.rand(n * k, generator=generator)
    return torch.sparse_coo_tensor(
        torch.stack([rows, torch.cat(drawn).reshape(-1)]),
        values,
        (n, d_sae),
        check_invariants=False,
        is_coalesced=True,
    )


def seconds(run: Callable[[], Any]) -> float:
    """Processor time of all threads."""
    start = time.process_time()
    run()
    return time.process_time() - start


def summary(times: dict[str, list[float]]) -> dict[str, Any]:
    """Medians, and of each count the median and the quartiles of its ratio to the read beside."""
    found: dict[str, Any] = {f"{name}_cpu_s": median(each) for name, each in times.items()}
    for name in ("all_active", "both"):
        pairs = zip(times[name], times["read"], strict=True)
        ratios = sorted(count / read for count, read in pairs)
        quarter = len(ratios) // 4
        found[f"{name}_over_read"] = median(ratios)
        found[f"{name}_over_read_quartiles"] = [ratios[quarter], ratios[-1 - quarter]]
    return found


def measure_dense(
    stored: torch.Tensor, labels: torch.Tensor, n_classes: int, block: int, rounds: int
) -> dict[str, Any]:
    """Sums over the blocks of all codes in every round; the counters see the whole stream."""
    n, d_sae = stored.shape
    totals: dict[str, list[float]] = {"read": [], "all_active": [], "both": []}
    for _ in tqdm(range(rounds), desc="dense"):
        active, both = LabelCounter(d_sae, n_classes, n_top=0), LabelCounter(d_sae, n_classes)
        total = dict.fromkeys(totals, 0.0)
        for start in range(0, n, block):
            stop = min(start + block, n)
            x = stored.index_select(0, torch.arange(start, stop)).to_dense()
            of = labels[start:stop]
            total["read"] += seconds(x.sum)
            total["all_active"] += seconds(partial(active.add, x, of))
            total["both"] += seconds(partial(both.add, x, of))
        total["both"] += seconds(both.evidence)
        for name, value in total.items():
            totals[name].append(value)
    return summary(totals)


def measure_sparse(
    stored: torch.Tensor, labels: torch.Tensor, n_classes: int, rounds: int
) -> dict[str, Any]:
    """All codes at once; the first round warms up."""
    d_sae, (rows, latents), values = stored.shape[1], stored.indices(), stored.values()

    def read() -> object:
        return rows.sum(), torch.bincount(latents, weights=values, minlength=d_sae)

    times: dict[str, list[float]] = {"read": [], "all_active": [], "both": [], "both_again": []}
    for number in tqdm(range(rounds + 1), desc="sparse"):
        active, both = LabelCounter(d_sae, n_classes, n_top=0), LabelCounter(d_sae, n_classes)

        elapsed = {
            "read": seconds(read),
            "all_active": seconds(partial(active.add, stored, labels)),
            "both": seconds(partial(both.add, stored, labels)) + seconds(both.evidence),
            # With the top samples known from as many, fewer enter.
            "both_again": seconds(partial(both.add, stored, labels)) + seconds(both.evidence),
        }
        if number:
            for name, value in elapsed.items():
                times[name].append(value)
    return summary(times)


def main(
    samples: Annotated[int, typer.Option(help="Codes.")] = 100_000,
    d_sae: Annotated[int, typer.Option(help="Latents.")] = 16_384,
    k: Annotated[int, typer.Option(help="Active latents of each code.")] = 16,
    classes: Annotated[int, typer.Option(help="Classes.")] = 100,
    block: Annotated[int, typer.Option(help="Dense codes at a time.")] = BLOCK,
    rounds: Annotated[int, typer.Option(help="Of dense codes; of sparse ones ten times.")] = 5,
    output: Annotated[Path | None, typer.Option(help="Where to write the figures as JSON.")] = None,
) -> None:
    """Time the counting of classes against one read of the codes."""
    generator = torch.Generator().manual_seed(0)
    stored = codes(samples, d_sae, k, generator)
    labels = torch.randint(0, classes, (samples,), generator=generator)
    result = {
        "samples": samples,
        "d_sae": d_sae,
        "k": k,
        "classes": classes,
        "dense_block": block,
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "wsae_plugin": wsae_plugin.__version__,
        "machine": platform.machine(),
        "dense": measure_dense(stored, labels, classes, block, rounds),
        "sparse": measure_sparse(stored, labels, classes, 10 * rounds),
    }
    table = Table("codes", "one read", "all active", "× read", "both", "× read")
    for kind in ("dense", "sparse"):
        row = result[kind]
        table.add_row(
            kind,
            f"{1e3 * row['read_cpu_s']:.1f} ms",
            f"{1e3 * row['all_active_cpu_s']:.1f} ms",
            f"{row['all_active_over_read']:.2f}",
            f"{1e3 * row['both_cpu_s']:.1f} ms",
            f"{row['both_over_read']:.2f}",
        )
    Console().print(table)
    if output is not None:
        output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
