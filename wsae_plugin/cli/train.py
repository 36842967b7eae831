"""`wsae train`: a YAML config in, a run folder out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from wsae_plugin.cli import _shared
from wsae_plugin.cli.trust import loads_models
from wsae_plugin.distributed.launch import is_later

if TYPE_CHECKING:
    from wsae_plugin.training import Estimate, RunConfig, TrainedRun


@loads_models
def train(
    config: _shared.CONFIG,
    overrides: _shared.SET = None,
    output: _shared.RUN_FOLDER = None,
    resume: _shared.RESUME = False,
    keep_checkpoints: _shared.KEEP_CHECKPOINTS = None,
    dry_run: _shared.DRY_RUN = False,
    verbose: _shared.VERBOSE = False,
    as_json: _shared.JSON = False,
) -> None:
    """Train one SAE, or several in one pass, as a YAML file says.

    The file is a SAELens runner config: `sae:` makes it a
    LanguageModelSAERunnerConfig, `saes:` with `hook_names:` a
    MultiSAETrainingRunnerConfig, `synthetic_model:` a SyntheticSAERunnerConfig.
    It may have all of their fields and no others. `activations:` trains on the
    rows of a table, see README. A whole config:

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

    One SAE, or several, by all the GPUs of a machine or of many, with the same
    result; docs/scaling.md has more:

    \b
      torchrun --nproc-per-node 8 -m wsae_plugin train topk.yaml --output runs/topk
      wsae train topk.yaml --dry-run --set distributed.latents=8

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
    folder = _shared.run_folder(output, run_config.values, config)
    if dry_run:
        _show_estimate(run_config, folder, estimate(run_config), as_json, verbose)
        return
    trained = run(
        run_config,
        folder,
        resume=resume,
        keep_checkpoints=keep_checkpoints,
        command=_shared.command_line(),
    )
    if not is_later():
        _show_run(trained, as_json)


def _show_estimate(
    config: RunConfig, folder: Path, estimate: Estimate, as_json: bool, verbose: bool
) -> None:
    memory = estimate.memory.as_dict()
    if as_json:
        counts = asdict(estimate) | {"memory_bytes": memory}
        del counts["memory"]
        _shared.print_json({"config": config.values, "output": str(folder), **counts})
        return
    _shared.print_config(config.values, config.cls, verbose)
    table = _shared.plain_table(f"A run of {config.file} (nothing is written)", "", "", numbers=1)
    table.add_row("run folder", str(folder))
    table.add_row("steps", f"{estimate.n_steps:,}")
    table.add_row("tokens" if config.has_language_model else "samples", f"{estimate.n_samples:,}")
    table.add_row("tokens in the activation buffer", f"{estimate.buffer_tokens:,}")
    of_process = "" if estimate.sharing is None else " of a process"
    for name, n_bytes in memory.items():
        known = "unknown: not on this machine" if n_bytes is None else _shared.size(n_bytes)
        label = f"memory{of_process}, at least" if name == "total" else name.replace("_", " ")
        table.add_row(label, known)
    _shared.print_table(table)
    if estimate.sharing is not None:
        _shared.print_plain(*_shared.lines_of_sharing(estimate.sharing))


def _show_run(run: TrainedRun, as_json: bool) -> None:
    if as_json:
        saes = {
            name: {
                "path": str(path),
                "metrics": run.metrics[name],
                "kernel": run.kernels.get(name),
            }
            for name, path in run.exports.items()
        }
        _shared.print_json({"output": str(run.folder), "saes": saes})
        return
    columns = ("loss", "unweighted MSE", "explained variance", "L0", "dead")
    table = _shared.plain_table(f"Trained: {run.folder}", "SAE", *columns, numbers=len(columns))
    for name, metrics in run.metrics.items():
        names = ("losses/overall_loss", "losses/mse_loss", "metrics/explained_variance")
        shown = map(metrics.get, (*names, "metrics/l0", "sparsity/dead_features"))
        table.add_row(name, *("-" if value is None else f"{value:.4g}" for value in shown))
    _shared.print_table(table)
    if run.kernels:
        used = "; ".join(f"{name}: {kernel}" for name, kernel in run.kernels.items())
        _shared.print_plain(f"Kernel of the training step: {used}")
    _shared.print_plain("Load with SAELens alone:", "from sae_lens import SAE")
    _shared.print_plain(*(f'sae = SAE.load_from_disk("{path}")' for path in run.exports.values()))
