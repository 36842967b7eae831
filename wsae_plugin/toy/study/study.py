"""A study: a grid of cells in, one JSON of scores, paired comparisons and a verdict out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm.auto import tqdm

from wsae_plugin.files import write_text_atomic
from wsae_plugin.provenance import versions
from wsae_plugin.statistics import compare, resolution_of, rounded, rounded_cell, t_interval
from wsae_plugin.threads import torch_threads
from wsae_plugin.toy.page import render
from wsae_plugin.toy.study.folder import StudyFolder
from wsae_plugin.toy.study.words import rows_of, tally

Result = dict[str, Any]
Records = dict[str, list[dict[str, Any]]]
"""Arm → one record for each seed: measure → value, and whatever else a study keeps."""
OnStep = Callable[[int], object]
"""Called after every step with the number of SAEs that took it."""

STATISTICS = (
    "mean over seeds; low, high: Student's 95 % interval; p: Student's paired test, its standard "
    "deviation no smaller than the smallest step of the measure; p_holm: Holm over all cells of "
    "all arms of one role (weighted, control), measure by measure; clear: p_holm < 0.05"
)


@dataclass(frozen=True)
class Arm:
    """One way to train an SAE; arms of a seed share their world and their samples.

    Attributes:
        name: in files.
        label: for readers.
        role: what the comparison needs it for: each role but the baseline is one question.
        against: the arm that it is compared with; None is the study's first, the baseline.
    """

    name: str
    label: str
    role: Literal["baseline", "weighted", "control"]
    against: str | None = None


@dataclass(frozen=True)
class Piece:
    """What is trained at a time, and kept in one file.

    Attributes:
        cell: of the grid.
        arms: which of its arms.
        seeds: which of its seeds.
    """

    cell: Any
    arms: tuple[Any, ...]
    seeds: tuple[int, ...]

    @property
    def n_saes(self) -> int:
        """How many SAEs are trained for it."""
        return len(self.arms) * len(self.seeds)

    @property
    def key(self) -> str:
        """The name of its file."""
        names = [str(value) for value in plain(self.cell).values()]
        if self.n_saes == 1:
            names += [self.arms[0].name, str(self.seeds[0])]
        return "-".join(names).lower().replace(" ", "-")


@dataclass(frozen=True)
class Study:
    """A grid with a question.

    Attributes:
        name: of the command and its files.
        title: for readers.
        arms: what is compared; the baseline is first.
        measures: which ones are compared.
        worlds: world → what it is, for readers.
        cells: settings, with n_seeds and n_steps → the grid, each cell a frozen dataclass with the
            name of its `world`, whose fields are plain values or have a `label`.
        train: trains a piece and measures it; every arm's records, seed by seed.
        facts: what else a cell is told beside its scores, from its records.
        figures: what is drawn of it, by file name without `.png`.
        verdict: result without a verdict → three sentences that hold whatever the numbers are.
        evidence: the same → the sentences that they rest on.
        shown: measures that are summarised and not compared.
        prepare: what all pieces need is made, and kept in the folder, before they are trained.
        pieces: cell, settings → what is trained at a time, where it is not all of a cell.
        recipe: what decides the numbers beside the settings.
        page: the template of the page in Markdown that is written beside the JSON.
    """

    name: str
    title: str
    arms: tuple[Any, ...]
    measures: tuple[str, ...]
    worlds: Mapping[str, str]
    cells: Callable[[Any], Sequence[Any]]
    train: Callable[[Piece, Any, StudyFolder, OnStep], Records]
    facts: Callable[[Any, Records, Any, StudyFolder], Result]
    figures: tuple[str, ...]
    verdict: Callable[[Result], list[str]]
    evidence: Callable[[Result], list[str]]
    shown: tuple[str, ...] = ()
    prepare: Callable[[Sequence[Any], Any, StudyFolder], object] | None = None
    pieces: Callable[[Any, Any], list[Piece]] | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict[str, Any])
    page: Path = Path(__file__).with_name("page.md.j2")

    def pieces_of(self, cell: Any, settings: Any) -> list[Piece]:
        """All that has to be trained for a cell, seed by seed within an arm."""
        if self.pieces:
            return self.pieces(cell, settings)
        return [Piece(cell, self.arms, tuple(range(settings.n_seeds)))]


def run_study(
    study: Study, settings: Any, output: Path, threads: int | None = None, jobs: int = 1
) -> Result:
    """Train what is not trained yet, and write <name>.json.

    The same settings give the same numbers on the same machine, interrupted or not, with the same
    number of threads.

    Args:
        study: which.
        settings: sizes, steps, seeds.
        output: a new folder, or one in which the same study was begun.
        threads: of torch; None leaves torch's own.
        jobs: pieces at a time, more than one in processes of one thread each.

    Raises:
        BadInputError: the folder belongs to something else.
    """
    config = {"experiment": study.name, **study.recipe, **asdict(settings)}
    folder = StudyFolder(output, config)
    cells = study.cells(settings)
    pieces = [piece for cell in cells for piece in study.pieces_of(cell, settings)]
    with torch_threads(threads):
        if study.prepare:
            study.prepare(cells, settings, folder)
        _train_all(study, pieces, settings, folder, jobs)
        records: dict[Any, Records] = {cell: {} for cell in cells}
        for piece in pieces:
            for arm, found in (folder.read_cell(piece.key) or {}).items():
                records[piece.cell].setdefault(arm, []).extend(found)
        facts = [study.facts(cell, records[cell], settings, folder) for cell in cells]
    result: Result = {
        "experiment": study.name,
        "title": study.title,
        "settings": asdict(settings),
        "versions": versions(),
        "statistics": STATISTICS,
        "worlds": {cell.world: study.worlds[cell.world] for cell in cells},
        "arms": [plain(arm) for arm in study.arms],
        "cells": [
            {**plain(cell), **told, "scores": _summary(study, records[cell])}
            for cell, told in zip(cells, facts, strict=True)
        ],
        "comparisons": comparisons(study, list(records.values())),
    }
    told = {"verdict": study.verdict(result), "evidence": study.evidence(result)}
    result |= told
    folder.write_result(study.name, result)
    write_text_atomic(output / f"{study.name}.md", page_of(study, result))
    return result


def page_of(study: Study, result: Result) -> str:
    """The page of a study in Markdown: the verdict, the figures, what they rest on."""
    everywhere = range(len(result["cells"]))
    tallies = {
        (arm["label"], measure): tally(rows_of(result, arm["name"], measure, everywhere))
        for arm in result["arms"][1:]
        for measure in study.measures
    }
    further = {"figures": study.figures, "measures": study.measures, "tallies": tallies}
    return render(study.page, result | further)


def plain(thing: Any) -> Result:
    """The fields of a cell or an arm for JSON: its values, or their labels, without functions."""
    fields = {name: getattr(value, "label", value) for name, value in vars(thing).items()}
    return {name: value for name, value in fields.items() if not callable(value)}


def spread(values: Sequence[float]) -> Result:
    """The mean over seeds with its interval, and the values."""
    interval = {name: rounded(value) for name, value in asdict(t_interval(values)).items()}
    return {**interval, "per_seed": [rounded(value) for value in values]}


def _train_all(
    study: Study, pieces: Sequence[Piece], settings: Any, folder: StudyFolder, jobs: int
) -> None:
    todo = [piece for piece in pieces if folder.read_cell(piece.key) is None]
    # One seed of everything first: that is a look at the whole.
    todo.sort(key=lambda piece: piece.seeds)
    n_saes = sum(piece.n_saes for piece in pieces)
    total, done = (n * settings.n_steps for n in (n_saes, n_saes - sum(p.n_saes for p in todo)))
    with tqdm(total=total, initial=done, desc=study.name, unit="SAE-step", unit_scale=True) as bar:
        if jobs == 1:
            for piece in todo:
                bar.set_postfix_str(piece.key)
                _train(study.train, piece, settings, folder, bar.update)
            return
        # "spawn", since a fork of a process that has used torch's threads may hang.
        context = get_context("spawn")
        with ProcessPoolExecutor(
            jobs, context, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            futures = {
                pool.submit(_train, study.train, piece, settings, folder): piece for piece in todo
            }
            try:
                for future in as_completed(futures):
                    future.result()
                    bar.update(futures[future].n_saes * settings.n_steps)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _train(
    train: Callable[..., Records],
    piece: Piece,
    settings: Any,
    folder: StudyFolder,
    on_step: OnStep = lambda _: None,
) -> None:
    # Written last: a piece without this file is trained again.
    folder.write_cell(piece.key, train(piece, settings, folder, on_step))


def _summary(study: Study, records: Records) -> Result:
    names = (*study.measures, *study.shown)
    return {
        arm: {name: spread([record[name] for record in found]) for name in names}
        for arm, found in records.items()
    }


def comparisons(study: Study, cells: Sequence[Records]) -> list[Result]:
    """Compare every arm with its own, in every cell and measure.

    Two questions are asked of each measure, and each is one family of tests: does any weighted arm
    differ anywhere, and does any control?
    """
    rows: list[Result] = []
    for measure, role in product(study.measures, ("weighted", "control")):
        arms = [arm for arm in study.arms if arm.role == role]
        tests = [(n, arm) for arm in arms for n, records in enumerate(cells) if arm.name in records]
        differences: list[list[float]] = []
        for n, arm in tests:
            own, other = cells[n][arm.name], cells[n][arm.against or study.arms[0].name]
            differences.append([a[measure] - b[measure] for a, b in zip(own, other, strict=True)])
        resolution = resolution_of(
            record[measure] for cell in cells for found in cell.values() for record in found
        )
        compared = compare(differences, [resolution] * len(tests))
        for (n, arm), one in zip(tests, compared, strict=True):
            about = {"cell": n, "arm": arm.name, "measure": measure, "tests": len(tests)}
            rows.append({**about, **rounded_cell(one)})
    return rows
