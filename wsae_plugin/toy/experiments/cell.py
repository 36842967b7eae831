"""One cell of a grid: all arms and all seeds of one condition, trained at once and measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wsae_plugin.toy.batched import (
    Activation,
    InputMap,
    SAEStack,
    WorldStack,
    initial_decoders,
    measure,
    train_stack,
)
from wsae_plugin.toy.experiments.arms import (
    SAE,
    Arm,
    WorldEvidence,
    input_map,
    loss_weights,
    needs_pilot,
)
from wsae_plugin.toy.experiments.settings import ToySettings
from wsae_plugin.toy.worlds import World

_SAES_AT_A_TIME = 64
_EVIDENCE_SAMPLES = 16_384

Scores = dict[str, dict[str, list[float]]]
"""Arm → measure → one value for each seed."""


@dataclass(frozen=True)
class Condition:
    """What all SAEs of a cell share.

    Attributes:
        tied: the theory's SAE without biases, or SAELens's.
        activation: σ.
        d_sae: latents.
    """

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


def run_cell(
    worlds: Sequence[World],
    arms: Sequence[Arm],
    condition: Condition,
    settings: ToySettings,
    on_step: Callable[[int], object] = lambda _: None,
) -> Scores:
    """Train and measure.

    Args:
        worlds: one for each seed.
        arms: the baseline among them, first.
        condition: what they share.
        settings: sizes, steps, seeds.
        on_step: called after every step with the number of SAEs that took it.

    Returns:
        Every measure of every arm, seed by seed, and those of the SAEs before training as the arm
        `untrained`.
    """
    stack = WorldStack(worlds, list(settings.seeds))
    evidences = _evidence(stack, settings)
    decoders = initial_decoders(
        list(settings.seeds), condition.d_sae, settings.d_in, condition.decoder_init_norm
    )
    cell = _Cell(stack, evidences, decoders, condition, settings, on_step)
    pilot = cell.train([SAE])
    scores = cell.scores(["untrained"], cell.untrained()) | cell.scores([SAE.name], pilot)
    if any(needs_pilot(arm) for arm in arms):
        cell.evidences = _with_pilot(evidences, pilot)
    others = [arm for arm in arms if arm != SAE]
    at_a_time = max(1, _SAES_AT_A_TIME // settings.n_seeds)
    for start in range(0, len(others), at_a_time):
        chunk = others[start : start + at_a_time]
        scores |= cell.scores([arm.name for arm in chunk], cell.train(chunk))
    return scores


class _Cell:
    """The parts of a cell; SAEs are ordered arm by arm, seed by seed within an arm."""

    def __init__(
        self,
        worlds: WorldStack,
        evidences: list[WorldEvidence],
        decoders: Tensor,
        condition: Condition,
        settings: ToySettings,
        on_step: Callable[[int], object],
    ) -> None:
        self.worlds = worlds
        self.evidences = evidences
        self.decoders = decoders
        self.condition = condition
        self.settings = settings
        self.on_step = on_step

    def train(self, arms: Sequence[Arm]) -> SAEStack:
        pairs = [(arm, evidence) for arm in arms for evidence in self.evidences]
        gamma = torch.stack([loss_weights(arm, evidence) for arm, evidence in pairs]).float()
        reads: InputMap | None = input_map([a for a, _ in pairs], [e for _, e in pairs])
        features = self.worlds.stream("training")
        world_of = self._world_of(len(arms))
        return train_stack(
            self.decoders[world_of],
            self.condition.activation,
            lambda n: self.worlds.activations(features.sample(n))[world_of],
            gamma,
            self.settings.training,
            tied=self.condition.tied,
            input_map=reads,
            on_step=lambda: self.on_step(len(pairs)),
        )

    def untrained(self) -> SAEStack:
        settings = self.settings
        none = replace(settings.training, n_steps=0, lr_decay_steps=0)
        return train_stack(
            self.decoders,
            self.condition.activation,
            lambda n: torch.empty(settings.n_seeds, n, settings.d_in),
            torch.ones(settings.n_seeds, settings.d_in),
            none,
            tied=self.condition.tied,
        )

    def scores(self, names: Sequence[str], trained: SAEStack) -> Scores:
        measured = measure(
            trained,
            self.worlds,
            self._world_of(len(names)),
            self.settings.n_held_out,
            unit_decoder=not self.condition.tied,
        )
        return {
            name: {
                measure_name: values.view(len(names), -1)[number].tolist()
                for measure_name, values in measured.items()
            }
            for number, name in enumerate(names)
        }

    def _world_of(self, n_arms: int) -> Tensor:
        return torch.arange(len(self.worlds)).repeat(n_arms)


def _evidence(worlds: WorldStack, settings: ToySettings) -> list[WorldEvidence]:
    features = worlds.stream("evidence").sample(_EVIDENCE_SAMPLES)
    activations = worlds.activations(features)
    return [
        WorldEvidence(activations[number], worlds.feature_vectors[number], seed)
        for number, seed in enumerate(settings.seeds)
    ]


def _with_pilot(evidences: Sequence[WorldEvidence], pilot: SAEStack) -> list[WorldEvidence]:
    # What one unit of a code adds, and the codes, with all scale in the codes.
    norms = pilot.W_dec.norm(dim=-1)
    feature_acts = pilot.encode(torch.stack([evidence.activations for evidence in evidences]))
    return [
        replace(
            evidence,
            pilot_decoder=torch.nn.functional.normalize(pilot.W_dec[number], dim=-1),
            pilot_acts=feature_acts[number] * norms[number],
        )
        for number, evidence in enumerate(evidences)
    ]
