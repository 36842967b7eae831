"""An experiment: a grid of cells in, one JSON of scores, paired comparisons and a verdict out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm.auto import tqdm

from wsae_plugin.provenance import versions
from wsae_plugin.statistics import compare, resolution_of, rounded, rounded_cell, t_interval
from wsae_plugin.threads import torch_threads
from wsae_plugin.toy.experiments.arms import SAE, Arm
from wsae_plugin.toy.experiments.cell import Condition, Scores, run_cell
from wsae_plugin.toy.experiments.facts import facts_of
from wsae_plugin.toy.experiments.folder import ExperimentFolder
from wsae_plugin.toy.experiments.settings import ToySettings
from wsae_plugin.toy.superposition import learn_superposition
from wsae_plugin.toy.worlds import World

Result = dict[str, Any]
STATISTICS = (
    "mean over seeds; low, high: Student's 95 % interval; p: Student's paired test, its standard "
    "deviation no smaller than the smallest step of the measure; p_holm: Holm over all cells of "
    "all arms of one role (weighted, control), measure by measure; clear: p_holm < 0.05"
)
WorldMaker = Callable[[ToySettings, int, Callable[[float], Tensor]], World]
"""(settings, seed, learned W_pᵀ of that seed at a sparsity) → the world of that seed."""


@dataclass(frozen=True)
class Cell:
    """One condition of an experiment.

    Attributes:
        key: its file.
        facts: what distinguishes it, plain values for JSON.
        world: makes the world of a seed.
        condition: what its SAEs share.
    """

    key: str
    facts: dict[str, Any]
    world: WorldMaker
    condition: Condition


@dataclass(frozen=True)
class Experiment:
    """A grid with a question.

    Attributes:
        name: of the command and its files.
        title: for readers.
        arms: what every cell compares; the baseline is first.
        measures: which ones are kept and compared, see `batched.measure`.
        sparsities: the S for which W_p is learned.
        cells: settings → the grid.
        verdict: result without a verdict → sentences that hold whatever the numbers are.
    """

    name: str
    title: str
    arms: tuple[Arm, ...]
    measures: tuple[str, ...]
    sparsities: tuple[float, ...]
    cells: Callable[[ToySettings], list[Cell]]
    verdict: Callable[[Result], list[str]]


def run_experiment(
    experiment: Experiment, settings: ToySettings, output: Path, threads: int | None = None
) -> Result:
    """Run what is not finished yet, and write <name>.json.

    The same settings give the same numbers on the same machine, interrupted or not, with the same
    number of threads.

    Args:
        experiment: which.
        settings: sizes, steps, seeds.
        output: a new folder, or one in which the same experiment was begun.
        threads: of torch; None leaves torch's own.

    Raises:
        BadInputError: the folder belongs to something else.
    """
    config = {"experiment": experiment.name, **asdict(settings)}
    folder = ExperimentFolder(output, config)
    with torch_threads(threads):
        scores, worlds = _run_cells(experiment, settings, folder)
    cells = experiment.cells(settings)
    result: Result = {
        "experiment": experiment.name,
        "title": experiment.title,
        "settings": asdict(settings),
        "versions": versions(),
        "statistics": STATISTICS,
        "arms": [asdict(arm) for arm in experiment.arms],
        "cells": [
            {
                **cell.facts,
                "world_facts": worlds[cell.key],
                "scores": _summary(scores[cell.key], experiment.measures),
            }
            for cell in cells
        ],
        "comparisons": _comparisons(experiment, [scores[cell.key] for cell in cells]),
    }
    result["verdict"] = experiment.verdict(result)
    folder.write_result(experiment.name, result)
    return result


def _run_cells(
    experiment: Experiment, settings: ToySettings, folder: ExperimentFolder
) -> tuple[dict[str, Scores], dict[str, Result]]:
    cells = experiment.cells(settings)
    n_learned = len(experiment.sparsities) * settings.n_seeds
    steps = (n_learned + len(cells) * len(experiment.arms) * settings.n_seeds) * settings.n_steps
    scores: dict[str, Scores] = {}
    facts: dict[str, Result] = {}
    with tqdm(total=steps, desc=experiment.name, unit="SAE-step", unit_scale=True) as bar:
        learned = _learned(experiment.sparsities, settings, folder, bar)
        for cell in cells:
            worlds = [
                cell.world(settings, seed, lambda s, n=number: learned[f"{s:g}"][n])
                for number, seed in enumerate(settings.seeds)
            ]
            facts[cell.key] = facts_of(worlds)
            found = folder.read_cell(cell.key)
            if found is None:
                bar.set_postfix_str(cell.key)
                found = run_cell(
                    worlds, experiment.arms, cell.condition, settings, on_step=bar.update
                )
                folder.write_cell(cell.key, found)
            else:
                bar.update(len(experiment.arms) * settings.n_seeds * settings.n_steps)
            scores[cell.key] = found
    return scores, facts


def _learned(
    sparsities: Sequence[float], settings: ToySettings, folder: ExperimentFolder, bar: Any
) -> dict[str, Tensor]:
    kept = folder.read_tensors("learned")
    n_models = len(sparsities) * settings.n_seeds
    if kept is not None:
        bar.update(n_models * settings.n_steps)
        return kept
    if not sparsities:
        return {}
    bar.set_postfix_str("learning W_p")
    vectors = learn_superposition(
        [sparsity for sparsity in sparsities for _ in settings.seeds],
        list(settings.seeds) * len(sparsities),
        settings.n_features,
        settings.d_in,
        n_steps=settings.n_steps,
        batch_size=settings.batch_size,
        lr=settings.lr,
        on_step=lambda: bar.update(n_models),
    )
    grouped = vectors.view(len(sparsities), settings.n_seeds, *vectors.shape[1:])
    learned = {f"{s:g}": group.contiguous() for s, group in zip(sparsities, grouped, strict=True)}
    folder.write_tensors("learned", learned)
    return learned


def _summary(scores: Scores, measures: Sequence[str]) -> Result:
    summary: Result = {}
    for arm, found in scores.items():
        summary[arm] = {}
        for name in measures:
            values = found[name]
            interval = t_interval(values)
            summary[arm][name] = {
                "mean": rounded(interval.mean),
                "low": rounded(interval.low),
                "high": rounded(interval.high),
                "per_seed": [rounded(value) for value in values],
            }
    return summary


def _comparisons(experiment: Experiment, scores: Sequence[Scores]) -> list[Result]:
    """Every arm against the plain SAE, in every cell and measure.

    Two questions are asked of each measure, and each is one family of tests: does any weighted arm
    differ anywhere, and does any control?
    """
    rows: list[Result] = []
    for name, role in product(experiment.measures, ("weighted", "control")):
        tests = [
            (number, arm.name)
            for arm in experiment.arms
            if arm.role == role
            for number in range(len(scores))
        ]
        differences = [
            [
                a - b
                for a, b in zip(
                    scores[number][arm][name], scores[number][SAE.name][name], strict=True
                )
            ]
            for number, arm in tests
        ]
        resolution = resolution_of(
            value for cell in scores for found in cell.values() for value in found[name]
        )
        found = compare(differences, [resolution] * len(tests))
        rows += [
            {"cell": number, "arm": arm, "measure": name, "tests": len(tests), **rounded_cell(one)}
            for (number, arm), one in zip(tests, found, strict=True)
        ]
    return rows
