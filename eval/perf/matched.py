"""What matching costs: three arms trained together, against their steps and one forward pass.

    python eval/perf/matched.py
    python eval/perf/matched.py --pairs 40 --output eval/perf/matched.json

`wsae compare` trains all arms from one pass of the language model. The least that can cost is the
arms' own steps and one forward pass; what it does cost has SAELens's activation store, the trainer
around the arms and our metrics on top. Both are measured here on the bundled model, at one hook of
configs/bundled/compare.yaml. A unit of work is what lies between two refills of SAELens's mixing
buffer: the tokens that the language model reads at once, and the training steps that they make.

- matched: the training loop of `wsae compare` itself;
- steps: each arm's `SAETrainer.step` on batches that are already there;
- forward: the language model up to the hook, on as many tokens.

The three take turns in an order that turns around in every pair, so that a machine whose speed
drifts slows all of them. Times are processor time of all threads. The ratio matched / (steps +
forward) is taken pair by pair; what three separate runs would cost at least, steps + 3 × forward,
stands beside it.
"""

from __future__ import annotations

import json
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Annotated

import sae_lens
import torch
import typer
from rich.console import Console
from rich.table import Table
from sae_lens import LoggingConfig
from tqdm.auto import tqdm

import wsae_plugin
from wsae_plugin.compare.plan import group_config, load_comparison_config, plan
from wsae_plugin.sources import LanguageModelSource
from wsae_plugin.training.config import RunConfig
from wsae_plugin.training.loop import TrainingLoop
from wsae_plugin.training.run_folder import RunFolder
from wsae_plugin.training.saes import build_saes
from wsae_plugin.training.trainer import WeightedSAETrainer

CONFIG = Path(__file__).parents[2] / "configs" / "bundled" / "compare.yaml"
HOOK = "blocks.2.hook_resid_post"
# Whole batches of contexts make whole training steps only if no token is left out.
OVERRIDES = [f"hooks=[{HOOK}]", "seeds=[0]", "exclude_special_tokens=false"]


def seconds(work: Callable[[], object]) -> float:
    """Processor time of `work`, all threads: other programs' share is not in it."""
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(config: RunConfig, folder: Path, pairs: int) -> dict[str, list[float]]:
    """Seconds of each kind of work, pair by pair; the first pair warms up and is left out."""
    times: dict[str, list[float]] = {"matched": [], "steps": [], "forward": []}
    unit = Unit.of(config)
    source = LanguageModelSource(config.runner_config())
    loop = TrainingLoop(config, build_saes(config), source, RunFolder(folder))
    tokens = source.store.get_batch_tokens()
    torch.manual_seed(config.seed)
    batches = cycle([batch[HOOK] for batch in islice(source, 8 * unit.n_steps)])
    unlogged = replace(loop.cfg, logger=LoggingConfig(log_to_wandb=False))
    alone = [
        WeightedSAETrainer(cfg=unlogged, sae=sae, data_provider=iter(()))
        for sae in build_saes(config).values()
    ]
    loop.cfg.total_training_samples = 0

    def matched() -> None:
        loop.cfg.total_training_samples += unit.n_steps * config.batch_size
        loop.fit()

    def steps() -> None:
        for batch in islice(batches, unit.n_steps):
            for part in alone:
                part.step(batch)
                part.n_training_steps += 1

    @torch.no_grad()
    def forward() -> None:
        for _ in range(unit.n_forward):
            source.model.run_with_cache(
                tokens, names_filter=[HOOK], stop_at_layer=3, prepend_bos=False
            )

    work = [("matched", matched), ("steps", steps), ("forward", forward)]
    for pair in tqdm(range(pairs + 1), "pairs"):
        for name, part in work[:: 1 if pair % 2 else -1]:
            elapsed = seconds(part)
            if pair:
                times[name].append(elapsed)
    return times


@dataclass(frozen=True)
class Unit:
    """Forward passes and training steps between two refills of the mixing buffer."""

    n_forward: int
    n_steps: int

    @classmethod
    def of(cls, config: RunConfig) -> Unit:
        """The unit of a config, which must be made of whole passes and whole steps."""
        values = config.values
        kept = values["activations_mixing_fraction"]
        contexts = round(values["n_batches_in_buffer"] * (1 - kept))
        n_forward, no_contexts = divmod(contexts, values["store_batch_size_prompts"])
        n_steps, no_tokens = divmod(contexts * values["context_size"], config.batch_size)
        assert no_contexts == no_tokens == 0, "a refill must make whole passes and whole steps"
        return cls(n_forward, n_steps)


def quartiles(values: list[float]) -> list[float]:
    ordered = sorted(values)
    return [ordered[len(ordered) // 4], ordered[-1 - len(ordered) // 4]]


def main(
    pairs: Annotated[int, typer.Option(help="Counted rounds of all three.")] = 24,
    output: Annotated[Path | None, typer.Option(help="Where to write the figures as JSON.")] = None,
) -> None:
    """Time the matched training of three arms against its parts."""
    comparison = load_comparison_config(CONFIG, OVERRIDES)
    config = group_config(comparison, plan(comparison)[0])
    torch.manual_seed(config.seed)
    with tempfile.TemporaryDirectory() as folder:
        times = measure(config, Path(folder), pairs)
    rows = list(zip(times["matched"], times["steps"], times["forward"], strict=True))
    ratios = [matched / (steps + forward) for matched, steps, forward in rows]
    apart = [(steps + 3 * forward) / (steps + forward) for _, steps, forward in rows]
    result = {
        "pairs": pairs,
        "arms": [arm.name for arm in comparison.arms],
        "hook_name": HOOK,
        "d_sae": comparison.values["sae"]["d_sae"],
        "batch": config.batch_size,
        "unit": asdict(Unit.of(config)),
        "median_cpu_s": {name: median(values) for name, values in times.items()},
        "ratio_median": median(ratios),
        "ratio_quartiles": quartiles(ratios),
        "three_runs_at_least": median(apart),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "sae_lens": sae_lens.__version__,
        "wsae_plugin": wsae_plugin.__version__,
        "machine": platform.machine(),
    }
    table = Table("", "CPU time of a unit")
    for name, values in times.items():
        table.add_row(name, f"{1e3 * median(values):.1f} ms")
    low, high = quartiles(ratios)
    table.add_row("matched / (steps + forward)", f"{median(ratios):.3f}, {low:.3f} to {high:.3f}")
    table.add_row("three runs / (steps + forward), at least", f"{median(apart):.3f}")
    Console().print(table)
    if output is not None:
        output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
