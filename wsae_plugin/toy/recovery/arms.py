"""What the recovery study compares: training SAEs, unweighted and weighted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from sae_lens import TrainingSAE
from torch import Tensor
from typing_extensions import override

from wsae_plugin.saes.gba import PRINTED_GBA, GBATrainingSAE, GBATrainingSAEConfig
from wsae_plugin.saes.standard import WeightedStandardTrainingSAE, WeightedStandardTrainingSAEConfig
from wsae_plugin.saes.topk import WeightedTopKTrainingSAE, WeightedTopKTrainingSAEConfig

Family = Literal["gba", "tied", "untied"]
Maker = Callable[[int, int, int], TrainingSAE[Any]]
"""d_in, d_sae, seed → an SAE before training."""

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
class RecoveryArm:
    """One way to train.

    Attributes:
        name: in files.
        label: for readers.
        family: `gba`: biases adapt; `tied`: the same SAE without that; `untied`: SAELens's own.
        make: the SAE before training.
        weighted_form_of: the arm that differs in Γ alone.
        printed: FRR at 0.8 and 0.9 in arXiv 2506.14002, on the imbalanced world.
    """

    name: str
    label: str
    family: Family
    make: Maker
    weighted_form_of: str | None = None
    printed: tuple[float, float] | None = None


def gba(sae_class: type[GBATrainingSAE] = GBATrainingSAE, /, **fields: Any) -> Maker:
    """Group Bias Adaptation with these fields of its config."""

    def make(d_in: int, d_sae: int, seed: int) -> GBATrainingSAE:
        return sae_class(GBATrainingSAEConfig(d_in=d_in, d_sae=d_sae, gamma_seed=seed, **fields))

    return make


def recipe() -> dict[str, Any]:
    """The defaults of Group Bias Adaptation, plain values for JSON."""
    fields = gba()(1, 10, 0).cfg.to_dict()
    return {name: value for name, value in fields.items() if name != "metadata"}


def top_k(k: int, alpha: float = 0.0) -> Maker:
    return lambda d_in, d_sae, _: WeightedTopKTrainingSAE(
        WeightedTopKTrainingSAEConfig(k=k, **_shared(d_in, d_sae, alpha))
    )


def l1(coefficient: float, alpha: float = 0.0) -> Maker:
    return lambda d_in, d_sae, _: WeightedStandardTrainingSAE(
        WeightedStandardTrainingSAEConfig(l1_coefficient=coefficient, **_shared(d_in, d_sae, alpha))
    )


def _shared(d_in: int, d_sae: int, alpha: float) -> dict[str, Any]:
    # Inputs of one length for all arms: Group Bias Adaptation asks for it, the others allow it.
    scaled = {"normalize_activations": "expected_average_only_in"}
    return {"d_in": d_in, "d_sae": d_sae, "alpha": alpha, **scaled}


# A feature fires on 9 % of the samples.
WRONG: dict[str, Any] = {"highest_target_frequency": 5e-3, "lowest_target_frequency": 1e-4}

ARMS: tuple[RecoveryArm, ...] = (
    RecoveryArm("gba", "GBA", "gba", gba()),
    RecoveryArm(
        "ba",
        "BA, p = 0.1",
        "gba",
        gba(n_groups=1, highest_target_frequency=0.1, lowest_target_frequency=0.1),
    ),
    RecoveryArm("gba-wrong", "GBA, p 0.005 to 0.0001", "gba", gba(**WRONG), printed=(0.383, 0.039)),
    RecoveryArm(
        "gba-reconstruction",
        "GBA, directions reconstruct",
        "gba",
        gba(direction_scale=None),
    ),
    RecoveryArm(
        "gba-reconstruction-weighted",
        "the same, α = 1",
        "gba",
        gba(direction_scale=None, alpha=1.0),
        "gba-reconstruction",
    ),
    RecoveryArm(
        "gba-reconstruction-shuffled",
        "the same, Γ shuffled",
        "gba",
        gba(direction_scale=None, alpha=1.0, gamma_proxy="shuffled_variance"),
        "gba-reconstruction",
    ),
    RecoveryArm("gba-printed", "GBA as printed", "gba", gba(**PRINTED_GBA), printed=(1.0, 1.0)),
    RecoveryArm("tied-top-k-30", "Top-k 30, tied as GBA", "tied", gba(TiedTopKSAE)),
    RecoveryArm("top-k-12", "Top-k 12", "untied", top_k(12)),
    RecoveryArm("top-k-20", "Top-k 20", "untied", top_k(20), printed=(1.0, 0.984)),
    RecoveryArm("top-k-30", "Top-k 30", "untied", top_k(TOP_K), printed=(0.984, 0.242)),
    RecoveryArm("top-k-30-weighted", "Top-k 30, α = 1", "untied", top_k(TOP_K, 1.0), "top-k-30"),
    RecoveryArm("l1", "L1", "untied", l1(L1_COEFFICIENT)),
    RecoveryArm("l1-weighted", "L1, α = 1", "untied", l1(L1_COEFFICIENT, 1.0), "l1"),
)
