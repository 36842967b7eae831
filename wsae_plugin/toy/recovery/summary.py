"""From the records of single trainings to what the study says of an arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from wsae_plugin.statistics import compare, resolution_of, rounded, rounded_cell, t_interval
from wsae_plugin.toy.metrics import best_matches
from wsae_plugin.toy.recovery.arms import RecoveryArm
from wsae_plugin.toy.recovery.settings import RecoverySettings
from wsae_plugin.toy.recovery.worlds import make

Record = dict[str, Any]

COMPARED = ("frr_0.8", "frr_0.9", "latents_that_are_features", "explained_variance")
SAME = 0.9
"""A cosine above which two latents, or a latent and a feature, count as the same."""


def scores(records: Sequence[Record]) -> Record:
    """Each measure's mean over seeds, with its interval."""
    found: Record = {}
    for name in records[0]:
        if name == "history":
            continue
        values = [record[name] for record in records]
        interval = t_interval(values)
        found[name] = {
            "mean": rounded(interval.mean),
            "low": rounded(interval.low),
            "high": rounded(interval.high),
            "per_seed": [rounded(value) for value in values],
        }
    return found


def history(records: Sequence[Record]) -> dict[str, list[float]]:
    """Each snapshot's mean over seeds."""
    snapshots = list(zip(*(record["history"] for record in records), strict=True))
    return {
        name: [rounded(sum(one[name] for one in seeds) / len(seeds)) for seeds in snapshots]
        for name in records[0]["history"][0]
    }


def consistency(decoders: Sequence[Tensor]) -> list[float]:
    """For each seed the share of its latents with a twin in another seed, mean over the others.

    A twin is a latent with a cosine above 0.9 (arXiv 2506.14002). 0 where a seed has no latent.

    Args:
        decoders: of the latents that fire, shape (n_latents, d_in) each, the same world for all.
    """
    shares: list[float] = []
    for number, mine in enumerate(decoders):
        others = [other for place, other in enumerate(decoders) if place != number]
        found = [
            float((best_matches(mine, other)[0] > SAME).double().mean())
            if len(mine) and len(other)
            else 0.0
            for other in others
        ]
        shares.append(sum(found) / len(found))
    return shares


def comparisons(
    records: Mapping[tuple[str, float, str], Sequence[Record]], arms: Sequence[RecoveryArm]
) -> list[Record]:
    """Paired differences in every world and at every rate.

    Two questions are asked of each measure, and each is one family of tests: does any arm differ
    from the first, and does any weighted form differ from its unweighted one?
    """
    rows: list[Record] = []
    for measure, of_weighted in product(COMPARED, (False, True)):
        tests = [
            (world, lr, arm.name, arm.weighted_form_of or arms[0].name)
            for world, lr in dict.fromkeys((world, lr) for world, lr, _ in records)
            for arm in arms[1:]
            if (world, lr, arm.name) in records and (arm.weighted_form_of is None) != of_weighted
        ]
        differences = [
            [
                one[measure] - other[measure]
                for one, other in zip(
                    records[world, lr, arm], records[world, lr, against], strict=True
                )
            ]
            for world, lr, arm, against in tests
        ]
        resolution = resolution_of(
            record[measure] for of_seeds in records.values() for record in of_seeds
        )
        rows += [
            {
                "world": world,
                "lr": lr,
                "arm": arm,
                "against": against,
                "measure": measure,
                "tests": len(tests),
                **rounded_cell(cell),
            }
            for (world, lr, arm, against), cell in zip(
                tests, compare(differences, [resolution] * len(tests)), strict=True
            )
        ]
    return rows


def resonance(
    world_name: str, tensors: Mapping[str, Tensor], settings: RecoverySettings
) -> dict[str, list[float]]:
    """Each live latent's frequency beside that of the feature it is closest to.

    Returns:
        Lists of one length: `frequency` of the latent; `target`, what its group may fire on, or
        empty where nothing is aimed for; `feature_frequency` and `cosine` of the closest feature.
    """
    world = make(world_name, settings)
    live = tensors["frequency"] > 0
    cosines, features = best_matches(tensors["W_dec"][live], world.feature_vectors)
    target = tensors["target"][live]
    columns = {
        "frequency": tensors["frequency"][live],
        "target": target if not torch.isnan(target).any() else target[:0],
        "feature_frequency": world.firing_probabilities[features],
        "cosine": cosines,
    }
    return {
        name: [float(f"{value:.3g}") for value in column.tolist()]
        for name, column in columns.items()
    }
