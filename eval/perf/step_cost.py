"""What the weight costs: a training step of each weighted architecture against its parent's.

Both are SAELens's dense step (`kernel="eager"` for the Top-k family); train_step.py measures what
the sparse one saves.

    python eval/perf/step_cost.py --architecture all    # every architecture at 768 -> 24,576
    python eval/perf/step_cost.py --pairs 8 --output eval/perf/step_cost.json

A step is SAELens's own `SAETrainer.step`: forward, backward, clipping, Adam and statistics. The
two SAEs start alike, see the same batches and take their steps in turn, the order swapped in every
pair, so that a machine whose speed drifts slows both. Times are processor time of all threads, and
the ratio is taken pair by pair; its noise is that of whole steps, so what the weight adds is also
timed by itself ("added").

Floor: the weight adds one product of (batch, d_in) forward and one backward, 2 · batch · d_in
multiplications, to 12 · batch · d_in · d_sae floating point operations of the dense step: a share
of 1/(6 · d_sae), 7e-6 at d_sae = 24,576; and the unweighted loss, which is logged beside it, two
passes over (batch, d_in). While Γ is estimated (the first `gamma_freeze_step` steps
only) the moments are added: some 15 passes over (batch, d_in) in float64. A metric in place of Γ
adds the product of (batch, d_in) with (d_in, d_in), 2 · batch · d_in² operations: a share of
d_in/(6 · d_sae), 0.5 %; its control, `uniform`, is a product with I and costs the same.
"""

from __future__ import annotations

import json
import platform
import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import sae_lens
import torch
import typer
from rich.console import Console
from rich.table import Table
from sae_lens import TrainingSAE
from sae_lens.registry import get_sae_training_class
from sae_lens.saes.sae import mse_loss
from sae_lens.training.sae_trainer import SAETrainer
from tqdm.auto import tqdm

import wsae_plugin
from wsae_plugin.saes.sparse import SparseTrainingSAEConfig
from wsae_plugin.toy.study.gba_training import constant_rate

FIELDS: dict[str, dict[str, Any]] = {
    "standard": {},
    "gated": {},
    "jumprelu": {},
    "topk": {"k": 32},
    "batchtopk": {"k": 32.0},
    "matryoshka_batchtopk": {"k": 32.0, "matryoshka_widths": [1536, 6144, 24576]},
    "abstopk": {"k": 32},
    "matching_pursuit": {"max_iterations": 8, "decoder_init_norm": 1.0},
}


def trainer(architecture: str, batch: int, **fields: Any) -> SAETrainer[Any, Any]:
    """SAELens's trainer around a fresh SAE of 768 -> 24,576, the same for every call."""
    sae_class, config_class = get_sae_training_class(architecture)
    torch.manual_seed(0)
    sae: TrainingSAE[Any] = sae_class(config_class(d_in=768, d_sae=24576, **fields))  # type: ignore[call-arg]
    return SAETrainer(cfg=constant_rate(3e-4, batch), sae=sae, data_provider=iter(()))


def seconds(run: SAETrainer[Any, Any], x: torch.Tensor) -> float:
    """Processor time of one training step, all threads: other programs' share is not in it."""
    start = time.process_time()
    run.step(x)
    elapsed = time.process_time() - start
    run.n_training_steps += 1
    return elapsed


def added_seconds(batch: int, estimating: bool) -> float:
    """What the weight adds to a step, processor time: median over 50 repetitions."""
    x = torch.randn(batch, 768)
    preds = torch.randn(batch, 768, requires_grad=True)
    scheduler = wsae_plugin.GammaScheduler(768, 24576, freeze_step=None)
    W_dec = torch.randn(24576, 768)
    weight = torch.rand(768)

    def clock(weighted: bool) -> float:
        start = time.process_time()
        if weighted and estimating:
            scheduler.update(0, 1.0, x, lambda: W_dec)
        loss = mse_loss(preds, x)
        loss = loss * weight.square() if weighted else loss
        loss.sum(dim=-1).mean().backward()
        if weighted:  # the unweighted loss, which is logged beside it
            with torch.no_grad():
                mse_loss(preds, x).sum(dim=-1).mean()
        return time.process_time() - start

    pairs = [(clock(weighted=True), clock(weighted=False)) for _ in range(55)][5:]
    return median(weighted for weighted, _ in pairs) - median(plain for _, plain in pairs)


def product_seconds(batch: int) -> float:
    """What a metric adds to a step, processor time: median over 50 repetitions."""
    x, root = torch.randn(batch, 768), torch.randn(768, 768)
    times: list[float] = []
    for _ in range(55):
        start = time.process_time()
        x @ root
        times.append(time.process_time() - start)
    return median(times[5:])


def measure(
    architecture: str,
    batch: int,
    pairs: int,
    estimating: bool = False,
    alpha: float = 1.0,
    metric: str | None = None,
) -> dict[str, Any]:
    """Paired step times of the parent and the weighted architecture."""
    fields = FIELDS[architecture]
    parent = trainer(architecture, batch, **fields)
    freeze = None if estimating else 1
    name = f"weighted_{architecture}"
    has_kernels = issubclass(get_sae_training_class(name)[1], SparseTrainingSAEConfig)
    dense = {"kernel": "eager"} if has_kernels else {}
    own = {"alpha": alpha, "gamma_freeze_step": freeze, "metric": metric}
    weighted = trainer(name, batch, **own, **fields, **dense)
    kind = "I (α = 0, control)" if alpha == 0 else "estimating" if estimating else "frozen"
    added = added_seconds(batch, estimating) if alpha else 0.0
    if metric is not None:
        kind, added = f"metric {metric}", product_seconds(batch)
    generator = torch.Generator().manual_seed(0)
    scale = torch.logspace(-1, 1, 768)
    times: dict[str, list[float]] = {"parent": [], "weighted": []}
    for pair in tqdm(
        range(pairs + 1), desc=f"{architecture}, {'estimating' if estimating else 'frozen'}"
    ):
        x = torch.randn(batch, 768, generator=generator) * scale
        order = [("parent", parent), ("weighted", weighted)][:: 1 if pair % 2 else -1]
        for name, run in order:
            elapsed = seconds(run, x)
            if pair:  # the first pair warms up
                times[name].append(elapsed)
    ratios = sorted(w / p for w, p in zip(times["weighted"], times["parent"], strict=True))
    return {
        "architecture": architecture,
        "gamma": kind,
        "pairs": pairs,
        "parent_median_cpu_s": median(times["parent"]),
        "weighted_median_cpu_s": median(times["weighted"]),
        "added_cpu_s": added,
        "ratio_median": median(ratios),
        "ratio_quartiles": [ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]],
    }


def main(
    architecture: Annotated[
        str, typer.Option(help=f"One of {', '.join(FIELDS)}, or all.")
    ] = "topk",
    batch: Annotated[int, typer.Option(help="Activations a step.")] = 2048,
    pairs: Annotated[int, typer.Option(help="Counted pairs of steps.")] = 12,
    output: Annotated[Path | None, typer.Option(help="Where to write the figures as JSON.")] = None,
) -> None:
    """Time training steps of weighted SAEs against their parents, at 768 -> 24,576."""
    names = list(FIELDS) if architecture == "all" else [architecture]
    rows = [measure(name, batch, pairs) for name in names]
    if "topk" in names:
        rows.append(measure("topk", batch, pairs, estimating=True))
        # α = 0 runs the parent's own code: how far from 1 this ratio is, is noise.
        rows.append(measure("topk", batch, pairs, alpha=0.0))
        rows.append(measure("topk", batch, pairs, alpha=0.0, metric="uniform"))
    table = Table("architecture", "Γ", "parent", "weighted", "ratio", "quartiles", "added")
    for row in rows:
        low, high = row["ratio_quartiles"]
        added, step = row["added_cpu_s"], row["parent_median_cpu_s"]
        table.add_row(
            row["architecture"],
            row["gamma"],
            f"{row['parent_median_cpu_s']:.2f} s",
            f"{row['weighted_median_cpu_s']:.2f} s",
            f"{row['ratio_median']:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{1e3 * added:.1f} ms, {added / step:.2%}",
        )
    Console().print(table)
    if output is not None:
        about = {
            "d_in": 768,
            "d_sae": 24576,
            "batch": batch,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "sae_lens": sae_lens.__version__,
            "wsae_plugin": wsae_plugin.__version__,
            "machine": platform.machine(),
        }
        output.write_text(json.dumps({**about, "steps": rows}, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
