"""`wsae compare`: a YAML file that says what to compare in, a folder of matched runs out."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Iterable
from dataclasses import asdict
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from wsae_plugin.cli._shared import print_json
from wsae_plugin.cli.trust import loads_models

if TYPE_CHECKING:
    from wsae_plugin.compare.config import ComparisonConfig
    from wsae_plugin.compare.manifest import Comparison
    from wsae_plugin.training import Estimate

logger = logging.getLogger(__name__)


@loads_models
def compare(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The comparison.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="FIELD=VALUE", help="Set a field, such as seeds=[0]. Repeatable."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="The folder. By default output_path of the file, else runs/<its name>.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what is finished, go on with the rest.")
    ] = False,
    keep_checkpoints: Annotated[
        int | None,
        typer.Option(
            "--keep-checkpoints",
            metavar="N",
            min=1,
            help="Keep the N newest checkpoints only. By default all stay until a seed is done.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the grid, steps and memory; write nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print manifest.json on stdout, and nothing else there.")
    ] = False,
) -> None:
    """Train an SAE, weighted SAEs and controls, matched: every hook, sparsity and seed of a grid.

    All SAEs of a seed share one pass of the language model and its batches in their order, and SAEs
    of one shape at one hook start from the same weights, so those that are compared differ in their
    arm alone. A whole config:

    \b
      model_name: bundled
      dataset_path: bundled
      hooks: [blocks.1.hook_resid_post, blocks.2.hook_resid_post]
      sae: {architecture: weighted_topk, d_in: 128, d_sae: 512}
      sparsity: {k: [16, 32]}       # any SAE fields; left out: none varies
      seeds: [0, 1, 2]
      baseline: sae
      arms:
        sae: {alpha: 0}             # SAELens's own topk, bit for bit
        alpha-1: {alpha: 1}         # and any other field of the SAE
        literal: {alpha: 1, gamma_normalization: none}
        shuffled: {control: shuffled, of: alpha-1}   # its Γ on the wrong dimensions
        opposite: {control: opposite, of: alpha-1}   # −alpha
        constant: {control: constant, of: literal}   # Γ = cI at its scale
        whitened: {control: whitening}  # SAELens's covariance_whitening
      context_size: 128
      n_batches_in_buffer: 64
      training_tokens: 200_000
      n_batches_for_norm_estimate: 100  # for the whitening

    Everything else is a field of SAELens's MultiSAETrainingRunnerConfig. `hooks_per_pass: 4`
    trains four hooks at a time where all do not fit into memory, for one more pass of the language
    model each.

    \b
      wsae compare study.yaml --dry-run
      wsae compare study.yaml --set seeds=[0] --set arms.alpha-1.gamma_clip=10
      wsae compare runs/study/comparison.yaml --output runs/study --resume

    The folder gets comparison.yaml, manifest.json (what pairs with what) and a run folder an SAE
    in runs/, each with its config for `wsae train`, its metrics and the SAE, which plain SAELens
    loads.

    Exit codes: 0 trained, 1 failed or interrupted, 2 the request is wrong.
    """
    # Imported here: SAELens takes seconds, and `wsae --help` should not.
    from wsae_plugin.compare.plan import load_comparison_config
    from wsae_plugin.compare.run import estimate_comparison, run_comparison

    comparison_config = load_comparison_config(config, overrides or [])
    folder = output or Path(comparison_config.values["output_path"] or Path("runs") / config.stem)
    estimate = estimate_comparison(comparison_config)
    if dry_run:
        _show_estimate(comparison_config, folder, estimate, as_json)
        return
    for line in _lines(comparison_config, estimate):
        logger.info("%s", line)
    command = shlex.join(["wsae", *sys.argv[1:]])
    comparison = run_comparison(
        comparison_config,
        folder,
        resume=resume,
        keep_checkpoints=keep_checkpoints,
        command=command,
    )
    if as_json:
        print_json(comparison.manifest)
    else:
        _show(comparison)


# One line a paragraph: the terminal wraps them; after a lone \b it leaves lines as they are.
_HELP = "\n\n".join(
    paragraph if paragraph.startswith("\b") else " ".join(paragraph.split())
    for paragraph in cleandoc(compare.__doc__ or "").split("\n\n")
)
compare.__doc__ = _HELP


def _lines(config: ComparisonConfig, estimate: Estimate) -> list[str]:
    from wsae_plugin.compare.plan import plan

    groups, memory = plan(config), estimate.memory
    unknown = " and the language model" if memory.language_model is None else ""
    return [
        f"{sum(len(group.runs) for group in groups)} SAEs in {len(groups)} training runs of "
        f"{estimate.n_steps:,} steps, {estimate.n_samples:,} tokens each",
        f"memory: at least {memory.total / 2**20:,.0f} MiB{unknown}",
        "time: unknown before the first steps are made; the progress bars then say",
    ]


def _show_estimate(
    config: ComparisonConfig, folder: Path, estimate: Estimate, as_json: bool
) -> None:
    from wsae_plugin.compare.plan import plan

    groups = {group.name: group.runs for group in plan(config)}
    if as_json:
        print_json(
            {
                "config": config.values,
                "output": str(folder),
                "n_runs": sum(map(len, groups.values())),
                "n_groups": len(groups),
                **asdict(estimate),
                "memory": asdict(estimate.memory) | {"total": estimate.memory.total},
                "seconds": None,
                "groups": {name: [run.run for run in runs] for name, runs in groups.items()},
            }
        )
        return
    _print([f"{config.source} → {folder} (nothing is written)"])
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("arm", "role", "α", "proxy", "normalization", "label"):
        table.add_column(column, no_wrap=column != "label")
    for arm in config.arms:
        normalization = arm.overrides.get("gamma_normalization", "-")
        proxy = arm.proxy or "-"
        table.add_row(arm.name, arm.role, f"{arm.alpha:g}", proxy, normalization, arm.label)
    Console().print(table)
    _print(
        f"{name}: {len(runs)} SAEs, every arm at {', '.join(dict.fromkeys(r.cell for r in runs))}"
        for name, runs in groups.items()
    )
    _print(_lines(config, estimate))


def _show(comparison: Comparison) -> None:
    seconds = sum(comparison.manifest["wall_clock_seconds"].values())
    _print(
        [
            f"{len(comparison.runs)} SAEs trained in {seconds:,.0f} s: {comparison.folder}",
            "What they are worth, on held-out text and in SAEBench, and the report:",
            *(f"  wsae {command} {comparison.folder}" for command in ("eval", "bench", "report")),
        ]
    )


def _print(lines: Iterable[str]) -> None:
    console = Console()
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
