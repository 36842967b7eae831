"""`wsae compare`: a YAML file that says what to compare in, a folder of matched runs out."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from wsae_plugin.cli import _shared
from wsae_plugin.cli.trust import loads_models

if TYPE_CHECKING:
    from wsae_plugin.compare.config import ComparisonConfig
    from wsae_plugin.training import Estimate

logger = logging.getLogger(__name__)


@loads_models
def compare(
    config: _shared.CONFIG,
    overrides: _shared.SET = None,
    output: _shared.RUN_FOLDER = None,
    resume: _shared.RESUME = False,
    keep_checkpoints: _shared.KEEP_CHECKPOINTS = None,
    dry_run: _shared.DRY_RUN = False,
    verbose: _shared.VERBOSE = False,
    as_json: _shared.JSON = False,
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
    model each. Weights move the L0 that an l1_coefficient or l0_coefficient leads to: where it is
    over 10 % from the baseline's, the log says so. `match_l0: 0.5` first searches the coefficient
    of every arm that brings it to the baseline's, in up to six trainings of half the tokens; the
    first seed's coefficients hold for all, and with `match_l0: 1` they are exact for it.

    \b
      wsae compare study.yaml --dry-run
      wsae compare study.yaml --set seeds=[0] --set arms.alpha-1.gamma_clip=10
      wsae compare runs/study/comparison.yaml --output runs/study --resume

    `torchrun --nproc-per-node 8 -m wsae_plugin compare study.yaml` trains with eight processes,
    which share the latents of each SAE; with `distributed: {latents: 1, saes: 8}` in the file each
    has whole SAEs.

    The folder gets comparison.yaml, manifest.json (what pairs with what) and a run folder an SAE
    in runs/, each with its config for `wsae train`, its metrics and the SAE, which plain SAELens
    loads.

    Exit codes: 0 trained, 1 failed or interrupted, 2 the request is wrong.
    """
    # Imported here: SAELens takes seconds, and `wsae --help` should not.
    from wsae_plugin.compare.plan import load_comparison_config
    from wsae_plugin.compare.run import estimate_comparison, run_comparison

    comparison_config = load_comparison_config(config, overrides or [])
    folder = _shared.run_folder(output, comparison_config.values, config)
    estimate = estimate_comparison(comparison_config)
    if dry_run:
        _show_estimate(comparison_config, folder, estimate, as_json, verbose)
        return
    for line in _lines(comparison_config, estimate):
        logger.info("%s", line)
    comparison = run_comparison(
        comparison_config,
        folder,
        resume=resume,
        keep_checkpoints=keep_checkpoints,
        command=_shared.command_line(),
    )
    if as_json:
        _shared.print_json(comparison.manifest)
        return
    bench = ["bench"] if comparison.context_size else []
    seconds = sum(comparison.manifest["wall_clock_seconds"].values())
    _shared.print_plain(
        f"{len(comparison.runs)} SAEs trained in {seconds:,.0f} s: {folder}",
        f"What they are worth, on held-out data{' and in SAEBench' * bool(bench)}, and the report:",
        *(f"  wsae {command} {folder}" for command in ("eval", *bench, "report")),
    )


def _lines(config: ComparisonConfig, estimate: Estimate) -> list[str]:
    from wsae_plugin.compare.plan import plan

    groups, memory, share = plan(config), estimate.memory, config.values["match_l0"]
    unknown = " and the language model" if memory.language_model is None else ""
    unit = "tokens" if "context_size" in config.values else "samples"
    return [
        f"{sum(len(group.runs) for group in groups)} SAEs in {len(groups)} training runs of "
        f"{estimate.n_steps:,} steps, {estimate.n_samples:,} {unit} each",
        *([f"before them, to match L0, up to 6 of {share:.0%} of the tokens"] if share else []),
        f"memory: at least {memory.total / 2**20:,.0f} MiB{unknown}",
        *([] if estimate.sharing is None else _shared.lines_of_sharing(estimate.sharing)),
        "time: unknown before the first steps are made; the progress bars then say",
    ]


def _show_estimate(
    config: ComparisonConfig, folder: Path, estimate: Estimate, as_json: bool, verbose: bool
) -> None:
    from wsae_plugin.compare.plan import plan
    from wsae_plugin.sources import runner_config_of

    groups = plan(config)
    if as_json:
        _shared.print_json(
            {
                "config": config.values,
                "output": str(folder),
                "n_runs": sum(len(group.runs) for group in groups),
                "n_groups": len(groups),
                **asdict(estimate),
                "memory": estimate.memory.as_dict(),
                "seconds": None,
                "groups": {group.name: [r.run for r in group.runs.values()] for group in groups},
            }
        )
        return
    _shared.print_plain(f"{config.file} → {folder} (nothing is written)")
    _shared.print_config(config.values, runner_config_of({**config.shared, "saes": {}}), verbose)
    table = _shared.plain_table("", "arm", "role", "label")
    for arm in config.arms:
        table.add_row(arm.name, arm.role, arm.label)
    _shared.print_table(table)
    for group in groups:
        pairs = dict.fromkeys(run.pair for run in group.runs.values())
        cells = ", ".join(pair.removesuffix(f"-seed-{group.seed}") for pair in pairs)
        _shared.print_plain(f"{group.name}: {len(group.runs)} SAEs, every arm at {cells}")
    _shared.print_plain(*_lines(config, estimate))
