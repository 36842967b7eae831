"""`wsae train`: a YAML config in, a run folder out."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from wsae_plugin.cli._shared import print_json
from wsae_plugin.cli.trust import loads_models

if TYPE_CHECKING:
    from wsae_plugin.training import Estimate, RunConfig, TrainedRun


@loads_models
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The config file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="FIELD=VALUE", help="Set a field, such as sae.alpha=0.5. Repeatable."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="The run folder. By default output_path of the file, else runs/<its name>.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the run folder's newest checkpoint.")
    ] = False,
    keep_checkpoints: Annotated[
        int | None,
        typer.Option(
            "--keep-checkpoints",
            metavar="N",
            min=1,
            help="Keep the N newest checkpoints only. By default all stay.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show config, steps and memory; write nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result on stdout as JSON.")
    ] = False,
) -> None:
    """Train one SAE, or several in one pass, as a YAML file says.

    The file is a SAELens runner config: `sae:` makes it a
    LanguageModelSAERunnerConfig, `saes:` with `hook_names:` a
    MultiSAETrainingRunnerConfig, `synthetic_model:` a SyntheticSAERunnerConfig.
    It may have all of their fields and no others. A whole config:

    \b
      model_name: bundled             # or pythia-160m-deduped, or a folder
      dataset_path: bundled           # or a data set of the Hub, a folder, a file
      hook_name: blocks.2.hook_resid_post
      sae:
        architecture: weighted_topk   # or topk, jumprelu, weighted_gated, …
        d_in: 128
        d_sae: 1024
        k: 16
        alpha: 0.5
      context_size: 128
      n_batches_in_buffer: 64         # × context_size, tokens to shuffle among
      training_tokens: 500_000

    Look before you train, change a field, train, and go on after a Ctrl-C:

    \b
      wsae train topk.yaml --dry-run
      wsae train topk.yaml --set sae.k=32 --set lr=1e-3 --output runs/k32
      wsae train runs/k32/config.yaml --output runs/k32 --resume

    The run folder gets config.yaml, run.json, metrics.jsonl, checkpoints/ and the
    SAE in sae/ (saes/ for several), which plain SAELens loads. W&B is off unless
    `logger.log_to_wandb: true`. A config holds no credential: tokens and keys
    come from the environment (HF_TOKEN, WANDB_API_KEY) or a login.

    Exit codes: 0 trained, 1 failed or interrupted, 2 the request is wrong and
    nothing was written.
    """
    # Imported here: SAELens takes seconds, and `wsae --help` should not.
    from wsae_plugin.training import estimate, load_run_config
    from wsae_plugin.training import train as run

    run_config = load_run_config(config, overrides or [])
    folder = output or Path(run_config.values["output_path"] or Path("runs") / config.stem)
    if dry_run:
        _show_estimate(run_config, folder, estimate(run_config), as_json)
        return
    command = shlex.join(["wsae", *sys.argv[1:]])
    trained = run(
        run_config, folder, resume=resume, keep_checkpoints=keep_checkpoints, command=command
    )
    _show_run(trained, as_json)


_HELP = train.__doc__ or ""


def _show_estimate(config: RunConfig, folder: Path, estimate: Estimate, as_json: bool) -> None:
    from dataclasses import asdict

    from wsae_plugin.yaml_file import to_yaml

    counts = asdict(estimate)
    memory = counts.pop("memory")
    if as_json:
        total = {"total": estimate.memory.total}
        shown = {"config": config.values, "output": str(folder)}
        print_json({**shown, **counts, "memory_bytes": memory | total})
        return
    console = Console()
    console.print(to_yaml(config.values), markup=False, highlight=False, soft_wrap=True)
    rows = {
        "run folder": str(folder),
        "steps": f"{estimate.n_steps:,}",
        "samples" if config.is_synthetic else "tokens": f"{estimate.n_samples:,}",
    }
    if not config.is_synthetic:
        rows["tokens in the activation buffer"] = f"{estimate.buffer_tokens:,}"
    for name, n_bytes in memory.items():
        known = "unknown: not on this machine" if n_bytes is None else _size(n_bytes)
        rows[name.replace("_", " ")] = known
    rows["memory, at least"] = _size(estimate.memory.total)
    table = Table(title=f"A run of {config.source} (nothing is written)", title_justify="left")
    table.add_column("")
    table.add_column("", justify="right")
    for row in rows.items():
        table.add_row(*row)
    console.print(table)


def _show_run(run: TrainedRun, as_json: bool) -> None:
    if as_json:
        saes = {
            name: {"path": str(path), "metrics": run.metrics[name]}
            for name, path in run.exports.items()
        }
        print_json({"output": str(run.folder), "saes": saes})
        return
    table = Table("SAE", title=f"Trained: {run.folder}", title_justify="left")
    for column in ("loss", "unweighted MSE", "explained variance", "L0", "dead"):
        table.add_column(column, justify="right")
    for name, metrics in run.metrics.items():
        # alpha 0 and SAELens's own architectures have no weighted loss to tell apart.
        mse = metrics.get("metrics/unweighted_mse_loss", metrics.get("losses/mse_loss"))
        others = ("metrics/explained_variance", "metrics/l0", "sparsity/dead_features")
        shown = (metrics["losses/overall_loss"], mse, *map(metrics.get, others))
        table.add_row(name, *("-" if value is None else f"{value:.4g}" for value in shown))
    console = Console()
    console.print(table)
    console.print("Load with SAELens alone:", "from sae_lens import SAE", sep="\n")
    for path in run.exports.values():
        console.print(
            f'sae = SAE.load_from_disk("{path}")', markup=False, highlight=False, soft_wrap=True
        )


def _size(n_bytes: int) -> str:
    size = float(n_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"
