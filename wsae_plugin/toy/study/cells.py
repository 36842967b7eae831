"""The cells of the figure studies: all arms and seeds of a condition, trained and measured at once.

They share a grid, since all ask what weighting does to SAEs of some width and activation in some
world; they differ in which conditions and arms, and in what they read from the scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import normalize

from wsae_plugin.statistics import rounded
from wsae_plugin.toy.batched.activation import Activation, top_k
from wsae_plugin.toy.batched.data import WorldStack
from wsae_plugin.toy.batched.measures import measure
from wsae_plugin.toy.batched.model import SAEs
from wsae_plugin.toy.batched.stack import SAEStack, initial_decoders
from wsae_plugin.toy.batched.trainer import InputMap, train_stack
from wsae_plugin.toy.study.arms import WorldEvidence
from wsae_plugin.toy.study.folder import StudyFolder
from wsae_plugin.toy.study.settings import ToySettings
from wsae_plugin.toy.study.study import OnStep, Piece, Records, Result, Study
from wsae_plugin.toy.study.worlds import WORLDS, layout_of
from wsae_plugin.toy.superposition import learn_superposition
from wsae_plugin.toy.worlds import make_world

_SAES_AT_A_TIME = 64
_EVIDENCE_SAMPLES = 16_384
_LEARNED = "learned"


@dataclass(frozen=True)
class Condition:
    """What all SAEs of a cell share.

    Attributes:
        world: one of the `WORLDS`.
        sparsity: S, the share of samples without some feature.
        tied: the theory's SAE without biases, or SAELens's.
        activation: σ.
        d_sae: latents.
    """

    world: str
    sparsity: float
    tied: bool
    activation: Activation
    d_sae: int

    @property
    def decoder_init_norm(self) -> float:
        """1 where the scale of the codes is that of the weights, else SAELens's 0.1.

        That is so for tied weights, and for JumpReLU: at 0.1 no pre-activation would reach its
        threshold, and an SAE in which nothing fires gets no gradient.
        """
        return 1.0 if self.tied or self.activation.kind == "jumprelu" else 0.1


def in_every_world(settings: ToySettings, n_active: Sequence[float]) -> list[Condition]:
    """Top-2 SAEs in every world with so many active features, tied and untied, d_sae = n."""
    layouts = {world: layout_of(world, settings) for world in WORLDS}
    return [
        Condition(world, layout.sparsity_for(active), tied, top_k(2), len(layout.rates))
        for world, layout in layouts.items()
        for tied in (True, False)
        for active in n_active
    ]


def learn_worlds(cells: Sequence[Condition], settings: ToySettings, folder: StudyFolder) -> None:
    """Learn W_p at every sparsity and seed of the learned world's cells, and keep it."""
    found = list(dict.fromkeys(cell.sparsity for cell in cells if cell.world == _LEARNED))
    if not found or folder.read_tensors(_LEARNED) is not None:
        return
    vectors = learn_superposition(
        [sparsity for sparsity in found for _ in range(settings.n_seeds)],
        list(range(settings.n_seeds)) * len(found),
        settings.n_features,
        settings.d_in,
        n_steps=settings.n_steps,
        batch_size=settings.batch_size,
        lr=settings.lr,
    )
    groups = vectors.split(settings.n_seeds)
    kept = {f"{s:g}": group.contiguous() for s, group in zip(found, groups, strict=True)}
    folder.write_tensors(_LEARNED, kept)


def worlds_of(cell: Condition, settings: ToySettings, folder: StudyFolder) -> WorldStack:
    """Make the worlds of a cell, one for each seed."""
    layout, seeds = layout_of(cell.world, settings), range(settings.n_seeds)
    if layout.directions:
        vectors = torch.stack([layout.directions(seed) for seed in seeds])
    else:
        kept = folder.read_tensors(_LEARNED)
        assert kept is not None
        vectors = kept[f"{cell.sparsity:g}"]
    probabilities = (layout.rates * (1 - cell.sparsity)).clamp(max=1)
    return WorldStack([make_world(one, probabilities) for one in vectors], seeds)


def train(piece: Piece, settings: ToySettings, folder: StudyFolder, on_step: OnStep) -> Records:
    """Train and measure all SAEs of a cell, the baseline first.

    SAEs are ordered arm by arm, and seed by seed within an arm.

    Returns:
        Every measure of every arm, and those of the SAEs before training as the arm `untrained`.
    """
    cell, worlds = piece.cell, worlds_of(piece.cell, settings, folder)
    decoders = initial_decoders(piece.seeds, cell.d_sae, settings.d_in, cell.decoder_init_norm)

    def trained(gamma: Tensor, input_map: InputMap | None = None) -> SAEStack:
        which = torch.arange(len(worlds)).repeat(len(gamma) // len(worlds))
        features = worlds.stream("training")
        return train_stack(
            decoders[which],
            cell.activation,
            lambda n: worlds.activations(features.sample(n))[which],
            gamma,
            settings.training,
            tied=cell.tied,
            input_map=input_map,
            on_step=partial(on_step, len(gamma)),
        )

    def records(names: Sequence[str], stack: SAEStack) -> Records:
        which = torch.arange(len(worlds)).repeat(len(names))
        measured = measure(stack, worlds, which, settings.n_held_out, unit_decoder=not cell.tied)
        columns = [values.tolist() for values in measured.values()]
        rows = [dict(zip(measured, row, strict=True)) for row in zip(*columns, strict=True)]
        return {name: rows[i * len(worlds) :][: len(worlds)] for i, name in enumerate(names)}

    baseline, *others = piece.arms
    plain = trained(torch.ones(len(worlds), settings.d_in))
    found = records(["untrained"], SAEs(decoders, cell.activation, cell.tied).stack())
    found |= records([baseline.name], plain)
    evidence = _evidence(worlds, plain) if others else []
    at_a_time = max(1, _SAES_AT_A_TIME // len(worlds))
    for start in range(0, len(others), at_a_time):
        chunk = others[start : start + at_a_time]
        treated = [one.treat(arm) for arm in chunk for one in evidence]
        gamma, mean, matrix = (torch.stack(each).float() for each in zip(*treated, strict=True))
        stack = trained(gamma, InputMap(mean, matrix))
        found |= records([arm.name for arm in chunk], stack)
    return found


def world_facts(
    cell: Condition, _: Records, settings: ToySettings, folder: StudyFolder
) -> dict[str, Result]:
    """Say how far a cell's worlds are from what the theory assumes, meaned over them.

    Returns:
        `variance_spread`: coefficient of variation of Var(x_p[q]) over q; near 0, Γ ≈ cI whatever
        α is. `positive_interference`: share of pairs of features with a positive product, which
        the theorems exclude. `represented`: share of features whose vector is longer than 0.5.
    """
    worlds = worlds_of(cell, settings, folder)
    V, p = worlds.feature_vectors, worlds.firing_probabilities
    n_features = V.shape[1]
    # x_i is 0, or uniform on [0, 1]: E x² = p/3, E x = p/2.
    variance = ((p / 3 - p.square() / 4).unsqueeze(1) @ V.square()).squeeze(1)
    spread = variance.std(dim=1, correction=0) / variance.mean(dim=1)
    products = normalize(V, dim=-1) @ normalize(V, dim=-1).transpose(1, 2)
    positive = (products.triu(diagonal=1) > 1e-3).sum(dim=(1, 2)) / (
        n_features * (n_features - 1) / 2
    )
    facts = {
        "variance_spread": spread,
        "positive_interference": positive,
        "represented": (V.norm(dim=-1) > 0.5).float().mean(dim=1),
    }
    meaned = {name: rounded(float(values.mean())) for name, values in facts.items()}
    return {"world_facts": {"n_features": n_features, **meaned}}


figure_study = partial(Study, worlds=WORLDS, train=train, facts=world_facts, prepare=learn_worlds)
"""A `Study` on conditions; its name, title, arms, measures, cells and verdict are to be given."""


def _evidence(worlds: WorldStack, pilot: SAEStack) -> list[WorldEvidence]:
    activations = worlds.activations(worlds.stream("evidence").sample(_EVIDENCE_SAMPLES))
    # What one unit of a code adds, and the codes, with all scale in the codes.
    acts = pilot.encode(activations) * pilot.W_dec.norm(dim=-1).unsqueeze(1)
    tensors = (activations, worlds.feature_vectors, normalize(pilot.W_dec, dim=-1), acts)
    return [WorldEvidence(*one, seed) for seed, one in enumerate(zip(*tensors, strict=True))]
