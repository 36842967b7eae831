"""Weighted Matching Pursuit: SAELens's `matching_pursuit` with ‖Γ(x − x̂)‖²."""

from __future__ import annotations

from dataclasses import dataclass

from sae_lens import MatchingPursuitTrainingSAE, MatchingPursuitTrainingSAEConfig
from typing_extensions import override

from wsae_plugin.errors import BadInputError
from wsae_plugin.saes.weighted import WeightedTrainingSAE, WeightedTrainingSAEConfig


@dataclass
class WeightedMatchingPursuitTrainingSAEConfig(
    WeightedTrainingSAEConfig, MatchingPursuitTrainingSAEConfig
):
    """
    MatchingPursuitTrainingSAE with a weight per input dimension in its loss. Which latents a pursuit takes, and when it stops, is decided without the weight.
    """  # noqa: E501

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        if self.metric is not None and not self.metric_in_loss_only:
            raise BadInputError(
                f"metric = {self.metric!r}: a pursuit's encoder is its decoder, and folding the "
                "metric in would part them: use metric_in_loss_only: true or another architecture"
            )


class WeightedMatchingPursuitTrainingSAE(WeightedTrainingSAE, MatchingPursuitTrainingSAE):
    """MatchingPursuitTrainingSAE with a weight per input dimension; the same bit for bit at α = 0.

    Γ weighs the loss alone. The pursuit is unweighted, as in SAELens's plain class, which encodes
    with what is published: it takes the latent with the largest d_jᵀr, subtracts its share of the
    residual r, and stops by ‖r‖. So it reduces ‖x − x̂‖ step by step, and what Γ changes is the
    dictionary that it pursues with: for the codes of a given dictionary it does not minimise the
    loss that the dictionary is trained by. A pursuit in the metric of Γ as well would need
    an encoder that knows Γ, which plain SAELens does not have; it is a plain one on Γx.

    Published as a plain `matching_pursuit` SAE.
    """

    cfg: WeightedMatchingPursuitTrainingSAEConfig  # type: ignore[assignment]
    is_tied = True
