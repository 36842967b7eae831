"""What the study of Group Bias Adaptation compares: training SAEs, unweighted and weighted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from sae_lens import TrainingSAE
from torch import Tensor
from typing_extensions import override

from wsae_plugin.saes.gba import PRINTED_GBA, GBATrainingSAE, GBATrainingSAEConfig
from wsae_plugin.saes.standard import WeightedStandardTrainingSAE, WeightedStandardTrainingSAEConfig
from wsae_plugin.saes.topk import WeightedTopKTrainingSAE, WeightedTopKTrainingSAEConfig
from wsae_plugin.toy.study.study import Arm

TOP_K = 30
L1_COEFFICIENT = 3.0
"""For inputs of length √d_in. Chosen on this study's worlds."""


class TiedTopKSAE(GBATrainingSAE):
    """Group Bias Adaptation's weights, losses and start, with the k largest pre-activations of a
    sample in place of biases: what is left when only the adaptation is taken away.
    """

    k = TOP_K

    @override
    def encode_with_hidden_pre(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden_pre = self.encoder_input(x) @ self.W_enc
        top = hidden_pre.relu().topk(self.k, dim=-1)
        return torch.zeros_like(hidden_pre).scatter(-1, top.indices, top.values), hidden_pre


@dataclass(frozen=True)
class Maker:
    """SAEs before training, of any size; a value and not a closure, for another process to have.

    Attributes:
        sae_class: a training class.
        config_class: of its config.
        fields: of its config.
    """

    sae_class: Any
    config_class: Any
    fields: Mapping[str, Any]

    def __call__(self, d_in: int, d_sae: int, seed: int) -> TrainingSAE[Any]:
        return self.sae_class(
            self.config_class(d_in=d_in, d_sae=d_sae, gamma_seed=seed, **self.fields)
        )


@dataclass(frozen=True)
class GBAArm(Arm):
    """One way to train.

    Attributes:
        make: the SAE before training.
        printed: FRR at 0.8 and 0.9 in arXiv 2506.14002, on the imbalanced world.
    """

    make: Maker = field(kw_only=True)
    printed: tuple[float, float] | None = None


def gba(sae_class: type[GBATrainingSAE] = GBATrainingSAE, /, **fields: Any) -> Maker:
    """Make Group Bias Adaptation with these fields of its config."""
    return Maker(sae_class, GBATrainingSAEConfig, fields)


def recipe() -> dict[str, Any]:
    """Name the defaults of Group Bias Adaptation, plain values for JSON."""
    fields = gba()(1, 10, 0).cfg.to_dict()
    return {name: value for name, value in fields.items() if name != "metadata"}


# Inputs of one length for all arms: Group Bias Adaptation asks for it, the others allow it.
_SCALED = {"normalize_activations": "expected_average_only_in"}
# As the published results were made.
_GAMMA: dict[str, Any] = {"gamma_normalization": "mean_square"}


def top_k(k: int, alpha: float = 0.0) -> Maker:
    """Make SAELens's Top-k; with α = 0 it is that class bit for bit."""
    fields = {**_SCALED, **_GAMMA, "k": k, "alpha": alpha}
    return Maker(WeightedTopKTrainingSAE, WeightedTopKTrainingSAEConfig, fields)


def l1(coefficient: float, alpha: float = 0.0) -> Maker:
    """Make SAELens's standard SAE; with α = 0 it is that class bit for bit."""
    fields = {**_SCALED, **_GAMMA, "l1_coefficient": coefficient, "alpha": alpha}
    return Maker(WeightedStandardTrainingSAE, WeightedStandardTrainingSAEConfig, fields)


_CONSTANT = {"n_groups": 1, "highest_target_frequency": 0.1, "lowest_target_frequency": 0.1}
# A feature fires on 9 % of the samples.
_WRONG = {"highest_target_frequency": 5e-3, "lowest_target_frequency": 1e-4}
_PLAIN = "gba-reconstruction"
_UNWEIGHTED = gba(direction_scale=None, **_GAMMA)
_WEIGHTED = gba(direction_scale=None, **_GAMMA, alpha=1.0)
_SHUFFLED = gba(direction_scale=None, **_GAMMA, alpha=1.0, gamma_proxy="shuffled_variance")

ARMS: tuple[GBAArm, ...] = (
    GBAArm("gba", "GBA", "baseline", make=gba()),
    GBAArm("ba", "BA, p = 0.1", "control", make=gba(**_CONSTANT)),
    GBAArm(
        "gba-wrong",
        "GBA, p 0.005 to 0.0001",
        "control",
        make=gba(**_WRONG),
        printed=(0.383, 0.039),
    ),
    GBAArm(_PLAIN, "GBA, directions reconstruct", "control", make=_UNWEIGHTED),
    # Γ alone is what these differ in from theirs, shuffled or not: one question, one role.
    GBAArm(f"{_PLAIN}-weighted", "the same, α = 1", "weighted", _PLAIN, make=_WEIGHTED),
    GBAArm(f"{_PLAIN}-shuffled", "the same, Γ shuffled", "weighted", _PLAIN, make=_SHUFFLED),
    GBAArm("gba-printed", "GBA as printed", "control", make=gba(**PRINTED_GBA), printed=(1.0, 1.0)),
    GBAArm("tied-top-k-30", "Top-k 30, tied as GBA", "control", make=gba(TiedTopKSAE)),
    GBAArm("top-k-12", "Top-k 12", "control", make=top_k(12)),
    GBAArm("top-k-20", "Top-k 20", "control", make=top_k(20), printed=(1.0, 0.984)),
    GBAArm("top-k-30", "Top-k 30", "control", make=top_k(TOP_K), printed=(0.984, 0.242)),
    GBAArm("top-k-30-weighted", "Top-k 30, α = 1", "weighted", "top-k-30", make=top_k(TOP_K, 1.0)),
    GBAArm("l1", "L1", "control", make=l1(L1_COEFFICIENT)),
    GBAArm("l1-weighted", "L1, α = 1", "weighted", "l1", make=l1(L1_COEFFICIENT, 1.0)),
)
