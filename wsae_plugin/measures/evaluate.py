"""Run folders and comparison folders → scores/held_out.json for every SAE in them.

Runs that read the same model in the same contexts see the same tokens, in one pass of the model
for as many SAEs as `SAE_BYTES` allows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from wsae_plugin.compare.gathered import read_gathered
from wsae_plugin.compare.runs import refuse_repeated_runs, runs_of
from wsae_plugin.files import write_json_atomic
from wsae_plugin.fingerprint import fingerprint_of
from wsae_plugin.gamma.spectrum import gamma_spectrum
from wsae_plugin.measures import MEASURES
from wsae_plugin.measures.evaluated_run import EvaluatedRun
from wsae_plugin.measures.explained_variance import (
    explained_variance_per_dimension,
    is_constant,
    variance_per_dimension,
)
from wsae_plugin.measures.held_out import EvalSettings, open_held_out
from wsae_plugin.measures.identifiability import Seeds
from wsae_plugin.measures.measure import EVAL, Evidence
from wsae_plugin.provenance import versions
from wsae_plugin.scores import GALLERY, ScoreFile, read_same

logger = logging.getLogger(__name__)

SAE_BYTES = 4 * 2**30
"""SAEs that are held at once; more are measured in several passes, hook by hook."""


def evaluate_runs(
    paths: Sequence[Path],
    settings: EvalSettings | None = None,
    force: bool = False,
    baseline: Path | None = None,
) -> list[dict[str, Any]]:
    """Measure the SAEs of all runs and write scores/held_out.json into the folder of each.

    Special tokens count in no score and their activations are left alone, whatever a run was
    trained on; all other positions of a context count.

    Args:
        paths: folders of SAEs, see `runs_of`.
        settings: None for the default.
        force: measure again what was measured with the same settings.
        baseline: the ordinary SAE that those in no comparison are measured beside, see `gathered`.

    Returns:
        What scores/held_out.json holds of each SAE, in their order.

    Raises:
        BadInputError: a folder holds no SAE, an SAE cannot be loaded, or there is no held-out
            text.
    """
    settings = settings or EvalSettings()
    if baseline is None:
        comparisons = [runs_of([path]) for path in paths]
        refuse_repeated_runs([run for found in comparisons for run in found])
    else:
        comparisons = [read_gathered(paths, baseline)[0]]
    loaded = [[EvaluatedRun.load(run, settings.dataset) for run in found] for found in comparisons]
    runs = [run for comparison in loaded for run in comparison]
    beside = {run.name: comparison for comparison in loaded for run in comparison}
    asked = {run.name: _asked(run, beside[run.name], settings) for run in runs}
    documents = {
        run.name: found
        for run in runs
        if not force and (found := read_same(run.compared.path, run.name, EVAL, asked[run.name]))
    }
    left = [run for run in runs if run.name not in documents]
    if documents:
        logger.info("%d of %d runs are measured already", len(documents), len(runs))
    seeds: dict[str, Seeds] = {}
    for _, group in groupby(sorted(left, key=lambda run: run.text), key=lambda run: run.text):
        for run, about, evidence in _evidence(list(group), settings):
            others = run.other_seeds(beside[run.name])
            weighted = run.weighted_in_pair(beside[run.name])
            evidence = replace(
                evidence,
                gamma=run.gamma,
                weighted={arm: o.gamma for arm, o in weighted.items()},
                # One for all of them, so that their agreement is computed once.
                seeds=seeds.setdefault(others[0].name, _seeds(others)),
            )
            scores = _scores(run, evidence, about, asked[run.name])
            documents[run.name] = scores.write(run.compared.path, EVAL)
            if evidence.gallery:
                write_json_atomic(run.compared.path / GALLERY, {"entries": [*evidence.gallery]})
    return [documents[run.name] for run in runs]


def passes(runs: Sequence[EvaluatedRun], most_bytes: int) -> Iterator[list[EvaluatedRun]]:
    """Split runs into passes of the model, hook by hook, each of one SAE or up to `most_bytes`."""
    chosen: list[EvaluatedRun] = []
    for run in sorted(runs, key=lambda run: (run.compared.hook_name, run.compared.pair)):
        if chosen and sum(other.n_bytes for other in (*chosen, run)) > most_bytes:
            yield chosen
            chosen = []
        chosen.append(run)
    yield chosen


def _asked(
    run: EvaluatedRun, beside: Sequence[EvaluatedRun], settings: EvalSettings
) -> dict[str, Any]:
    """What the scores depend on: equal means nothing is left to measure."""
    return asdict(settings) | {
        "dataset": str(run.source),
        **run.fingerprints,
        "read": fingerprint_of([run.text, run.compared.hook_name, run.head]),
        "weighted_runs": _named(run.weighted_in_pair(beside).values()),
        "seed_runs": _named(run.other_seeds(beside)),
    }


def _named(runs: Iterable[EvaluatedRun]) -> list[list[str]]:
    return [[run.name, *run.fingerprints.values()] for run in runs]


def _seeds(runs: Sequence[EvaluatedRun]) -> Seeds:
    numbers = [run.compared.seed for run in runs]
    return Seeds(numbers, lambda: [run.load_sae().W_dec.detach() for run in runs])


def _evidence(
    group: Sequence[EvaluatedRun], settings: EvalSettings
) -> Iterator[tuple[EvaluatedRun, dict[str, Any], Evidence]]:
    """Runs that share their text, with what is known of the text and what it says of them."""
    held_out = open_held_out([run.config for run in group], group[0].source, settings)
    about = held_out.about | {"dataset": str(group[0].source)}
    for chosen in passes(group, SAE_BYTES):
        found = held_out.evidence({run.name: run.load_sae() for run in chosen})
        yield from ((run, about, found[run.name]) for run in chosen)


def _scores(
    run: EvaluatedRun, evidence: Evidence, about: dict[str, Any], asked: dict[str, Any]
) -> ScoreFile:
    scores = [score for measure in MEASURES for score in measure(evidence)]
    variance = variance_per_dimension(evidence.sums)
    uneven = not is_constant(run.gamma) and bool(torch.isfinite(variance).all() and variance.any())
    return ScoreFile(
        run=run.name,
        scores=[*scores],
        held_out=about,
        per_batch={score.metric: list(score.per_batch) for score in scores if score.per_batch},
        per_dimension={
            "variance": variance.tolist(),
            "explained_variance": explained_variance_per_dimension(evidence.sums).tolist(),
            "gamma": run.gamma.tolist(),
        },
        spectrum=gamma_spectrum(run.gamma, variance) if uneven else {},
        versions={**versions()},
        settings=asked,  # pyright: ignore[reportCallIssue] - a field of its own
    )
