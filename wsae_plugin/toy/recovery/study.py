"""The recovery study: every arm in every world at every rate, over seeds; one JSON out."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from wsae_plugin.provenance import versions
from wsae_plugin.statistics import rounded
from wsae_plugin.threads import torch_threads
from wsae_plugin.toy.experiments.folder import ExperimentFolder
from wsae_plugin.toy.recovery.arms import ARMS, recipe
from wsae_plugin.toy.recovery.settings import RecoverySettings
from wsae_plugin.toy.recovery.summary import (
    comparisons,
    consistency,
    history,
    resonance,
    scores,
)
from wsae_plugin.toy.recovery.train import train
from wsae_plugin.toy.recovery.verdict import verdict
from wsae_plugin.toy.recovery.worlds import BALANCED, IMBALANCED, SPREAD, WORLDS, make

Result = dict[str, Any]

NAME = "gba"
SPREAD_ARMS = ("gba", "ba", "gba-printed", "tied-top-k-30", "top-k-20", "l1")
"""What the spread world, which is there for the resonance plot, compares."""


@dataclass(frozen=True)
class Group:
    """The trainings that differ in their seed alone."""

    world: str
    lr: float
    arm: str

    def key(self, seed: int) -> str:
        """The files of one training."""
        return f"{self.world}-{self.arm}-lr{self.lr:g}-seed{seed}"


def run_study(settings: RecoverySettings, output: Path, jobs: int | None = None) -> Result:
    """Train what is not trained yet, and write gba.json.

    Trainings run side by side, one thread each, and not in one batched stack: at these sizes half
    of a step is products at the processor's peak already.

    Args:
        settings: sizes, steps, rates, seeds.
        output: a new folder, or one in which the same study was begun.
        jobs: trainings at a time; None for one a core.

    Raises:
        BadInputError: the folder belongs to something else.
    """
    folder = ExperimentFolder(output, {"experiment": NAME, "recipe": recipe(), **asdict(settings)})
    _train_all(settings, folder, jobs or os.cpu_count() or 1)
    groups = groups_of(settings)
    records: dict[Group, list[Any]] = {
        group: [folder.read_cell(group.key(seed)) for seed in range(settings.n_seeds)]
        for group in groups
    }
    result: Result = {
        "experiment": NAME,
        "title": "Feature recovery on X = HV: Group Bias Adaptation beside its controls",
        "settings": asdict(settings),
        "versions": versions(),
        "statistics": "mean over seeds; low, high: Student's 95 % interval; p: Student's paired "
        "test, its standard deviation no smaller than the smallest step of the measure; p_holm: "
        "Holm over all worlds and rates, measure by measure, once for all arms against GBA and "
        "once for all weighted forms; clear: p_holm < 0.05",
        "worlds": WORLDS,
        "arms": [{key: value for key, value in vars(arm).items() if key != "make"} for arm in ARMS],
        "cells": [
            {
                "world": group.world,
                "lr": group.lr,
                "arm": group.arm,
                "scores": scores(records[group]),
                "consistency": _consistency(group, settings, folder),
                "history": history(records[group]),
            }
            for group in groups
        ],
        "comparisons": comparisons({(g.world, g.lr, g.arm): records[g] for g in groups}, ARMS),
        "resonance": [
            _resonance(group, settings, folder) for group in groups if group.world == SPREAD
        ],
    }
    result["verdict"] = verdict(result)
    folder.write_result(NAME, result)
    return result


def groups_of(settings: RecoverySettings) -> list[Group]:
    """The grid, in the order of the table."""
    return [
        Group(world, lr, arm.name)
        for world in (IMBALANCED, BALANCED, SPREAD)
        for lr in settings.rates
        for arm in ARMS
        if world != SPREAD or arm.name in SPREAD_ARMS
    ]


def _train_all(settings: RecoverySettings, folder: ExperimentFolder, jobs: int) -> None:
    todo = [(group, seed) for seed in range(settings.n_seeds) for group in groups_of(settings)]
    missing = [(group, seed) for group, seed in todo if folder.read_cell(group.key(seed)) is None]
    with tqdm(total=len(todo), initial=len(todo) - len(missing), desc=NAME, unit="SAE") as bar:
        for _ in _trained(missing, settings, folder, jobs):
            bar.update()


def _trained(
    todo: list[tuple[Group, int]],
    settings: RecoverySettings,
    folder: ExperimentFolder,
    jobs: int,
) -> Iterable[None]:
    if jobs == 1:
        with torch_threads(1):
            for group, seed in todo:
                yield _train_and_keep(group, seed, settings, folder)
        return
    # "spawn", since a fork of a process that has used torch's threads may hang.
    with ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        futures = [
            pool.submit(_train_and_keep, group, seed, settings, folder) for group, seed in todo
        ]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _train_and_keep(
    group: Group, seed: int, settings: RecoverySettings, folder: ExperimentFolder
) -> None:
    (arm,) = (arm for arm in ARMS if arm.name == group.arm)
    trained = train(arm, make(group.world, settings), group.lr, seed, settings)
    folder.write_tensors(group.key(seed), trained.tensors)
    # Last: a training without this file is done again.
    folder.write_cell(group.key(seed), trained.record)


def _consistency(
    group: Group, settings: RecoverySettings, folder: ExperimentFolder
) -> dict[str, Any]:
    kept = [folder.read_tensors(group.key(seed)) for seed in range(settings.n_seeds)]
    decoders = [tensors["W_dec"][tensors["frequency"] > 0] for tensors in kept if tensors]
    per_seed = consistency(decoders)
    return {
        "mean": rounded(sum(per_seed) / len(per_seed)),
        "per_seed": [rounded(share) for share in per_seed],
    }


def _resonance(
    group: Group, settings: RecoverySettings, folder: ExperimentFolder
) -> dict[str, Any]:
    tensors = folder.read_tensors(group.key(0))
    assert tensors is not None
    return {
        "world": group.world,
        "lr": group.lr,
        "arm": group.arm,
        **resonance(group.world, tensors, settings),
    }
