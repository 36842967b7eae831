"""Which training recovers the features of X = HV: Group Bias Adaptation beside its controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from wsae_plugin.measures.matching import best_matches
from wsae_plugin.statistics import rounded
from wsae_plugin.toy.study.folder import StudyFolder
from wsae_plugin.toy.study.gba_arms import ARMS, recipe
from wsae_plugin.toy.study.gba_training import CURVE, share_found, train
from wsae_plugin.toy.study.settings import GBASettings
from wsae_plugin.toy.study.study import OnStep, Piece, Records, Result, Study
from wsae_plugin.toy.study.words import cells_where, rows_of, tally
from wsae_plugin.toy.worlds import World, exactly_sparse, make_world, random_directions

BALANCED, IMBALANCED, SPREAD = "balanced", "imbalanced", "spread"
WORLDS = {
    IMBALANCED: "s = 3 in half of the samples, s = 20 in the other half",
    BALANCED: "s = 12 features in every sample",
    SPREAD: "independent features, of frequencies from 0.3 to 0.003",
}
SPREAD_ARMS = ("gba", "ba", "gba-printed", "tied-top-k-30", "top-k-20", "l1")
"""What the spread world, which is there for the resonance plot, compares."""


@cache
def world_of(name: str, settings: GBASettings) -> World:
    """Make the world of that name.

    Imbalanced is the one printed in arXiv 2506.14002; s = 12 of the balanced one is about its mean.
    In both all features are equally frequent, so the spread one is added: only there can the
    frequency of a latent follow that of its feature.
    """
    vectors = random_directions(settings.n_features, settings.d_in, seed=settings.world_seed)
    if name == SPREAD:
        return make_world(vectors, torch.logspace(0, -2, len(vectors)) * 0.3)
    return exactly_sparse(vectors, (12,) if name == BALANCED else (3, 20))


@dataclass(frozen=True)
class GBACell:
    """A world, and Adam's learning rate."""

    world: str
    lr: float


def cells(settings: GBASettings) -> list[GBACell]:
    """Every world at every rate."""
    return [GBACell(world, lr) for world in WORLDS for lr in settings.rates]


def pieces(cell: GBACell, settings: GBASettings) -> list[Piece]:
    """Every SAE on its own; in the spread world, those of its arms."""
    return [
        Piece(cell, (arm,), (seed,))
        for arm in ARMS
        if cell.world != SPREAD or arm.name in SPREAD_ARMS
        for seed in range(settings.n_seeds)
    ]


def train_piece(
    piece: Piece, settings: GBASettings, folder: StudyFolder, on_step: OnStep
) -> Records:
    """Train one SAE, and keep its tensors beside its record."""
    (arm,), (seed,), cell = piece.arms, piece.seeds, piece.cell
    world = world_of(cell.world, settings)
    record, tensors = train(arm.make, world, cell.lr, seed, settings, on_step)
    folder.write_tensors(piece.key, tensors)
    return {arm.name: [record]}


def facts(cell: GBACell, records: Records, settings: GBASettings, folder: StudyFolder) -> Result:
    """What single trainings leave beside scores.

    Returns:
        Arm by arm, `consistency` between seeds; `history`, each snapshot's mean over seeds; and in
        the spread world the `resonance` of the first seed's latents.
    """
    kept: dict[str, list[dict[str, Tensor]]] = {}
    for piece in pieces(cell, settings):
        tensors = folder.read_tensors(piece.key)
        assert tensors is not None
        kept.setdefault(piece.arms[0].name, []).append(tensors)
    found: Result = {"consistency": {}, "history": {}}
    for name, tensors in kept.items():
        shares = consistency([one["W_dec"][one["frequency"] > 0] for one in tensors])
        mean, per_seed = rounded(fmean(shares)), [rounded(share) for share in shares]
        found["consistency"][name] = {"mean": mean, "per_seed": per_seed}
        found["history"][name] = history([record["history"] for record in records[name]])
    if cell.world == SPREAD:
        world = world_of(SPREAD, settings)
        found["resonance"] = {name: resonance(world, tensors[0]) for name, tensors in kept.items()}
    return found


def history(seeds: Sequence[Sequence[dict[str, float]]]) -> dict[str, list[float]]:
    """Each snapshot's mean over seeds."""
    means: Any = pd.concat(map(pd.DataFrame, seeds)).groupby(level=0).mean()
    return means.map(rounded).to_dict("list")


def consistency(decoders: Sequence[Tensor]) -> list[float]:
    """For each seed the share of its latents with a twin in another seed, mean over the others.

    A twin is a latent with a cosine of at least 0.9 (arXiv 2506.14002). 0 where a seed has none.

    Args:
        decoders: of the latents that fire, shape (n_latents, d_in) each, the same world for all.
    """
    return [
        fmean(share_found(mine, other) for other in decoders if other is not mine)
        for mine in decoders
    ]


def resonance(world: World, tensors: dict[str, Tensor]) -> dict[str, list[float]]:
    """Each live latent's frequency beside that of the feature it is closest to.

    Returns:
        Lists of one length: `frequency` of the latent; `target`, what its group may fire on, or
        empty where nothing is aimed for; `feature_frequency` and `cosine` of the closest feature.
    """
    live = tensors["frequency"] > 0
    cosines, features = best_matches(tensors["W_dec"][live], world.feature_vectors)
    target = tensors["target"][live]
    columns = {
        "frequency": tensors["frequency"][live],
        "target": target if not torch.isnan(target).any() else target[:0],
        "feature_frequency": world.firing_probabilities[features],
        "cosine": cosines,
    }
    return {name: [float(f"{v:.3g}") for v in column.tolist()] for name, column in columns.items()}


def evidence(result: Result) -> list[str]:
    """What each rate shows of GBA, of the controls, and of weighting."""
    labels = {arm["name"]: arm["label"] for arm in result["arms"]}
    sentences: list[str] = []
    for number in cells_where(result, world=IMBALANCED):
        cell = result["cells"][number]
        means = {name: score["mean"] for name, score in cell["scores"]["gba"].items()}
        rest = ", ".join(f"{means[f'frr_{tau}']:.1%} at {tau}" for tau in ("0.8", "0.9", "0.95"))
        found: dict[str, list[str]] = {"below": [], "above": [], "same": []}
        for arm in result["arms"][1:]:
            for row in rows_of(result, arm["name"], "frr_0.9", [number]):
                if arm["against"] is None:
                    where = "below" if row["mean"] < 0 else "above"
                    found[where if row["clear"] else "same"].append(arm["label"])
        below, above, same = ("; ".join(names) or "none" for names in found.values())
        sentences += [
            f"Imbalanced, learning rate {cell['lr']:g}: GBA recovers {rest}, with L0 "
            f"{means['l0']:.3g} and explained variance {means['explained_variance']:.3g}.",
            f"There FRR(0.9) is clearly below GBA's for {below}. Clearly above: {above}. Not "
            f"clearly different: {same}.",
        ]
    everywhere = range(len(result["cells"]))
    return sentences + [
        f"{arm['label']} against {labels[arm['against']]}: FRR(0.9) is clearly "
        f"{tally(rows_of(result, arm['name'], 'frr_0.9', everywhere))}."
        for arm in result["arms"]
        if arm["against"] is not None
    ]


def verdict(result: Result) -> list[str]:
    """What GBA recovers, which arms recover less or more, and what weighting adds to either."""
    everywhere = range(len(result["cells"]))
    weighted = [arm for arm in result["arms"] if arm["against"] is not None]
    told = tally(r for arm in weighted for r in rows_of(result, arm["name"], "frr_0.9", everywhere))
    return [
        *evidence(result)[:2],
        f"With weights, each arm against its own without, FRR(0.9) is clearly {told}.",
    ]


GBA = Study(
    name="gba",
    title="Feature recovery on X = HV: Group Bias Adaptation beside its controls",
    arms=ARMS,
    measures=("frr_0.8", "frr_0.9", "latents_that_are_features", "explained_variance"),
    shown=(*(f"frr_{tau:g}" for tau in CURVE if tau not in (0.8, 0.9)), "l0", "dead"),
    worlds=WORLDS,
    cells=cells,
    pieces=pieces,
    train=train_piece,
    facts=facts,
    recipe={"recipe": recipe()},
    figures=("recovery", "training", "thresholds", "resonance"),
    verdict=verdict,
    evidence=evidence,
    page=Path(__file__).with_name("gba.md.j2"),
)
