"""Run folders and comparison folders → eval.json in each run folder, measured on held-out text.

Runs that read the same model in the same contexts see the same tokens, in one pass of the model
for as many SAEs as `SAE_BYTES` allows.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm.auto import tqdm

from wsae_plugin.compare.manifest import runs_of
from wsae_plugin.evaluation import measures
from wsae_plugin.evaluation.evaluated_run import EvaluatedRun
from wsae_plugin.evaluation.held_out import HeldOutText, open_held_out
from wsae_plugin.evaluation.held_out_scores import (
    code_records,
    model_records,
    per_batch,
    per_dimension,
    reconstruction_records,
)
from wsae_plugin.evaluation.interpretability import HeldOutTokens, TopTokens
from wsae_plugin.evaluation.latent_scores import seed_records, specificity_records
from wsae_plugin.evaluation.measures import HeldOutSums
from wsae_plugin.evaluation.random_directions import RandomDirections
from wsae_plugin.evaluation.score_record import Record
from wsae_plugin.evaluation.seed_consistency import SeedConsistency, seed_consistency
from wsae_plugin.evaluation.token_labels import TokenLabels
from wsae_plugin.files import write_json_atomic
from wsae_plugin.provenance import versions

logger = logging.getLogger(__name__)

VERSION = 1
SAE_BYTES = 4 * 2**30
"""SAEs that are held at once; more are measured in several passes, hook by hook."""


@dataclass(frozen=True)
class EvalSettings:
    """What is measured on.

    Args:
        dataset: `bundled-held-out`, a folder, a file or a name on the Hub; None for the held-out
            part of what a run was trained on.
        batches: the blocks that the bootstrap draws from.
        batch_size_prompts: contexts in one of them.
        seed: of the order of the documents and of the shuffled controls.
    """

    dataset: str | None = None
    batches: int = 32
    batch_size_prompts: int = 8
    seed: int = 0


@dataclass(frozen=True)
class _Pass:
    """What one pass of the model found out: by run its sums, and the top tokens of latents."""

    sums: dict[str, HeldOutSums]
    top_tokens: dict[str, Tensor]
    of_random_directions: dict[str, Tensor]


def evaluate_runs(
    paths: Sequence[Path], settings: EvalSettings | None = None, force: bool = False
) -> list[dict[str, Any]]:
    """Measure the SAEs of all runs and write eval.json into each run folder.

    Special tokens count in no score and their activations are left alone, whatever a run was
    trained on; all other positions of a context count.

    Args:
        paths: comparison folders of `wsae compare` and run folders of `wsae train`.
        settings: None for the default.
        force: measure again what was measured with the same settings.

    Returns:
        What the eval.json of each run holds, in the order of the runs.

    Raises:
        BadInputError: a folder is none of the two, an SAE cannot be loaded, or there is no
            held-out text.
    """
    settings = settings or EvalSettings()
    runs = [EvaluatedRun.load(compared, settings.dataset) for compared in runs_of(paths)]
    provenance = {run.name: _provenance(run, runs, settings) for run in runs}
    left = [run for run in runs if force or not _is_measured(run, provenance[run.name])]
    if len(left) < len(runs):
        logger.info("%d of %d runs are measured already", len(runs) - len(left), len(runs))
    agreements = _agreements(left, runs)
    for _, group in groupby(sorted(left, key=lambda run: run.text), key=lambda run: run.text):
        for run, document in _documents(list(group), runs, settings):
            document["settings"] = provenance[run.name]
            document["scores"] += seed_records(run.name, run.seeds(runs), agreements[run.name])
            write_json_atomic(run.file, document)
    return [json.loads(run.file.read_text(encoding="utf-8")) for run in runs]


def passes(runs: Sequence[EvaluatedRun], most_bytes: int) -> Iterator[list[EvaluatedRun]]:
    """Split runs into passes of the model, hook by hook, each of one SAE or up to `most_bytes`."""
    chosen: list[EvaluatedRun] = []
    for run in sorted(runs, key=lambda run: (run.compared.hook_name, run.compared.pair)):
        if chosen and sum(other.n_bytes for other in (*chosen, run)) > most_bytes:
            yield chosen
            chosen = []
        chosen.append(run)
    yield chosen


def _provenance(
    run: EvaluatedRun, runs: Sequence[EvaluatedRun], settings: EvalSettings
) -> dict[str, Any]:
    """What the scores depend on beside the run itself: equal means nothing is left to measure."""
    return asdict(settings) | {
        "dataset": str(run.source),
        "weighted_runs": [other.name for other in run.weighted_in_pair(runs).values()],
        "seed_runs": [other.name for other in run.other_seeds(runs)],
    }


def _is_measured(run: EvaluatedRun, provenance: dict[str, Any]) -> bool:
    try:
        document = json.loads(run.file.read_text(encoding="utf-8"))
        return document["eval"] == VERSION and document["settings"] == provenance
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _agreements(
    left: Sequence[EvaluatedRun], runs: Sequence[EvaluatedRun]
) -> dict[str, SeedConsistency | None]:
    """Run → how far its seeds agree; runs that differ in their seed alone share one."""
    found: dict[str, SeedConsistency | None] = {}
    for run in tqdm(left, "Comparing seeds", unit="run"):
        if run.name not in found:
            seeds = run.other_seeds(runs)
            measured = None
            if len(seeds) > 1:
                measured = seed_consistency([other.load_sae().W_dec.detach() for other in seeds])
            found |= dict.fromkeys((other.name for other in seeds), measured)
    return found


def _documents(
    group: list[EvaluatedRun], runs: Sequence[EvaluatedRun], settings: EvalSettings
) -> Iterator[tuple[EvaluatedRun, dict[str, Any]]]:
    """Runs that share their text with their eval.json, but for what other seeds say."""
    held_out = open_held_out(
        group[0].config,
        group[0].source,
        sorted({run.compared.hook_name for run in group}),
        settings.batches,
        settings.batch_size_prompts,
        settings.seed,
    )
    tokens = HeldOutTokens.of(held_out.batches, held_out.excluded)
    labels = TokenLabels.of(tokens, held_out.tokenizer, settings.seed)
    about = {
        "tokens": len(tokens.ids),
        "batches": settings.batches,
        "batch_size_prompts": settings.batch_size_prompts,
        "context_size": held_out.batches[0].shape[1],
        "seed": settings.seed,
        "dataset": str(group[0].source),
        "excluded_token_ids": held_out.excluded,
    }
    for chosen in passes(group, SAE_BYTES):
        found = _run_model(chosen, held_out, settings.seed)
        for run in chosen:
            sums = found.sums[run.name]
            yield (
                run,
                {
                    "eval": VERSION,
                    "run": run.name,
                    "held_out": about,
                    "scores": [
                        *reconstruction_records(run.name, sums, run.weights(runs)),
                        *model_records(run.name, sums),
                        *code_records(run.name, sums),
                        *_specificity_records(run, found, labels),
                    ],
                    "per_dimension": per_dimension(sums, run.gamma),
                    "per_batch": per_batch(sums),
                    "versions": versions(),
                },
            )


def _run_model(runs: Sequence[EvaluatedRun], held_out: HeldOutText, seed: int) -> _Pass:
    saes = {run.name: run.load_sae() for run in runs}
    latents = {name: TopTokens(sae.cfg.d_sae) for name, sae in saes.items()}
    # One run of each hook shows its activations to the random directions.
    first_of = {run.compared.hook_name: run.name for run in reversed(runs)}
    directions = {name: RandomDirections(seed) for name in first_of.values()}

    def watch(name: str, x: Tensor, feature_acts: Tensor) -> None:
        latents[name].add(feature_acts)
        if name in directions:
            directions[name].add(x)

    sums = measures.measure(saes, held_out.model, held_out.batches, held_out.excluded, watch)
    return _Pass(
        sums,
        {name: top.positions for name, top in latents.items()},
        {run.name: directions[first_of[run.compared.hook_name]].positions for run in runs},
    )


def _specificity_records(run: EvaluatedRun, found: _Pass, labels: TokenLabels) -> list[Record]:
    return [
        record
        for what in labels.kinds
        for record in specificity_records(
            run.name,
            what,
            labels.specificity(what, found.top_tokens[run.name]),
            labels.specificity(what, found.of_random_directions[run.name]),
        )
    ]
