"""Weighted Gated: SAELens's `gated` with ‖Γ(x − x̂)‖²."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sae_lens import GatedTrainingSAE, GatedTrainingSAEConfig
from torch import Tensor
from typing_extensions import override

from wsae_plugin.saes.weighted import WeightedTrainingSAE, WeightedTrainingSAEConfig


@dataclass
class WeightedGatedTrainingSAEConfig(WeightedTrainingSAEConfig, GatedTrainingSAEConfig):
    """
    GatedTrainingSAE with a weight per input dimension in its loss, and in its via-gate loss.
    """


class WeightedGatedTrainingSAE(WeightedTrainingSAE, GatedTrainingSAE):
    """GatedTrainingSAE with a weight per input dimension; the same bit for bit at α = 0.

    Published as a plain `gated` SAE.
    """

    cfg: WeightedGatedTrainingSAEConfig  # type: ignore[assignment]

    @override
    def calculate_aux_loss(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        with self.shards.decoding(self.W_dec, self.b_dec):
            return super().calculate_aux_loss(*args, **kwargs)
