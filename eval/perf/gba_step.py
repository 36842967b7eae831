"""What Group Bias Adaptation costs: its training step against SAELens's JumpReLU step.

    python eval/perf/gba_step.py --output eval/perf/gba_step.json    # 768 -> 24,576
    python eval/perf/gba_step.py --d-in 128 --d-sae 1024 --batch 512 --pairs 200

A step is SAELens's own `SAETrainer.step`: forward, backward, clipping, Adam and statistics. Both
SAEs see the same batches in one process and take their steps in turn, the order swapped in every
pair, so that a machine whose speed drifts slows both; the ratio is taken pair by pair. Times are
processor time of all threads. Biases move once in `bias_update_steps` steps, so that update is
timed by itself and its share of a step added to the ratio; so is what the counters take, which is
in the step already.

Both steps make six products of 2 · batch · d_in · d_sae operations, Group Bias Adaptation two of
them for its directions in place of two that carry gradients into the encoder. It has one matrix of
weights where JumpReLU has two, which halves Adam's and the clipping's work, and no sparsity loss;
it adds the lengths of the rows, and a count and a maximum over (batch, d_sae).
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import sae_lens
import torch
import typer
from rich.console import Console
from rich.table import Table
from sae_lens import (
    JumpReLUTrainingSAE,
    JumpReLUTrainingSAEConfig,
    TrainingSAE,
)
from sae_lens.training.sae_trainer import SAETrainer
from tqdm.auto import tqdm

import wsae_plugin
from wsae_plugin.saes.gba import GBATrainingSAE, GBATrainingSAEConfig
from wsae_plugin.saes.gba_counters import FiringCounters
from wsae_plugin.toy.study.gba_training import constant_rate


def trainer(sae: TrainingSAE[Any], batch: int) -> SAETrainer[Any, Any]:
    """SAELens's trainer around an SAE, without a schedule."""
    return SAETrainer(cfg=constant_rate(3e-5, batch), sae=sae, data_provider=iter(()))


def seconds(work: Callable[[], object]) -> float:
    """Processor time, all threads: other programs' share is not in it."""
    start = time.process_time()
    work()
    return time.process_time() - start


def step_seconds(run: SAETrainer[Any, Any], x: torch.Tensor) -> float:
    """Processor time of one training step."""
    elapsed = seconds(lambda: run.step(x))
    run.n_training_steps += 1
    return elapsed


def measure(d_in: int, d_sae: int, batch: int, pairs: int, alpha: float) -> dict[str, Any]:
    """Paired step times of JumpReLU and Group Bias Adaptation, and its parts by themselves."""
    torch.manual_seed(0)
    jumprelu = JumpReLUTrainingSAE(JumpReLUTrainingSAEConfig(d_in=d_in, d_sae=d_sae))
    gba = GBATrainingSAE(
        GBATrainingSAEConfig(d_in=d_in, d_sae=d_sae, alpha=alpha, gamma_freeze_step=1)
    )
    runs = {"jumprelu": trainer(jumprelu, batch), "gba": trainer(gba, batch)}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for pair in tqdm(range(pairs + 1), desc=f"α = {alpha:g}"):
        x = torch.randn(batch, d_in)
        for name in list(runs)[:: 1 if pair % 2 else -1]:
            elapsed = step_seconds(runs[name], x)
            if pair:  # the first pair warms up
                times[name].append(elapsed)
    ratios = sorted(g / j for g, j in zip(times["gba"], times["jumprelu"], strict=True))
    step = median(times["jumprelu"])

    hidden_pre, counters = torch.randn(batch, d_sae), FiringCounters(d_sae)
    feature_acts = hidden_pre.relu()
    counting = median(seconds(lambda: counters.observe(hidden_pre, feature_acts)) for _ in range(9))
    gba.counters.observe(hidden_pre, feature_acts)
    update = median(seconds(gba.update_bias) for _ in range(9))
    return {
        "alpha": alpha,
        "pairs": pairs,
        "jumprelu_median_cpu_s": step,
        "gba_median_cpu_s": median(times["gba"]),
        "counters_cpu_s": counting,
        "bias_update_cpu_s": update,
        "ratio_median": median(ratios) + update / gba.cfg.bias_update_steps / step,
        "ratio_quartiles": [ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]],
    }


def main(
    d_in: Annotated[int, typer.Option(help="Dimensions of the input.")] = 768,
    d_sae: Annotated[int, typer.Option(help="Latents.")] = 24_576,
    batch: Annotated[int, typer.Option(help="Activations a step.")] = 2048,
    pairs: Annotated[int, typer.Option(help="Counted pairs of steps.")] = 12,
    output: Annotated[Path | None, typer.Option(help="Where to write the figures as JSON.")] = None,
) -> None:
    """Time training steps of Group Bias Adaptation against SAELens's JumpReLU."""
    rows = [measure(d_in, d_sae, batch, pairs, alpha) for alpha in (0.0, 1.0)]
    table = Table("α", "JumpReLU", "GBA", "ratio", "quartiles", "counters", "bias update")
    for row in rows:
        low, high = row["ratio_quartiles"]
        table.add_row(
            f"{row['alpha']:g}",
            f"{row['jumprelu_median_cpu_s']:.3g} s",
            f"{row['gba_median_cpu_s']:.3g} s",
            f"{row['ratio_median']:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{1e3 * row['counters_cpu_s']:.3g} ms",
            f"{1e3 * row['bias_update_cpu_s']:.3g} ms",
        )
    Console().print(table)
    if output is not None:
        about = {
            "d_in": d_in,
            "d_sae": d_sae,
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
