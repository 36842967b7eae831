"""How much of the activations an SAE explains: unweighted first, then under Γ, and by weight."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from wsae_plugin.measures.measure import Evidence, HeldOutScore, batch_measure
from wsae_plugin.measures.sums import HeldOutSums, squared_deviation


@batch_measure(
    "explained variance",
    "up",
    headline=True,
    chance=0.0,
    note="unweighted; chance: the mean of x for every x",
)
def explained_variance(sums: HeldOutSums, counts: Tensor) -> Tensor:
    """1 − E‖x − x̂‖² / E‖x − E x‖², unweighted, whatever the SAE was trained on. Weighting gives
    some of it up by design."""
    return explained_under(torch.ones_like(sums.x[0]), sums, counts)


def explained_under(gamma: Tensor, sums: HeldOutSums, counts: Tensor) -> Tensor:
    """1 − E‖Γ(x − x̂)‖² / E‖Γ(x − E x)‖²; Γ = I is SAELens's `ExplainedVarianceCalculator`.

    Args:
        gamma: γ, shape (d_in,).
        sums: Of the SAE.
        counts: How often each batch counts, shape (..., n_batches).
    """
    weight = gamma.to(sums.x).square()
    error = counts @ (sums.squared_error @ weight)
    return 1 - error / (squared_deviation(sums, counts) @ weight)


def under_weights(evidence: Evidence) -> Iterator[HeldOutScore]:
    """Explained variance under each Γ of the pair and its own, and by the strongest's weights.

    What an arm was trained for says nothing of whether the training was right, so under Γ neither
    way is the better one.
    """
    gammas = {f"arm {arm}": gamma for arm, gamma in evidence.weighted.items()}
    if not gammas and not is_constant(evidence.gamma):
        gammas = {"this run": evidence.gamma}
    for n, (whose, gamma) in enumerate(gammas.items()):
        name = whose.removeprefix("arm ")
        yield from batch_measure(
            "weighted explained variance" + (f", Γ of {name}" if n else ""),
            "none",
            metric="weighted_explained_variance" + (f"_{name}" if n else ""),
            definition="1 − E‖Γ(x − x̂)‖² / E‖Γ(x − E x)‖² under one Γ for all arms, that of a "
            "weighted arm (named in the remarks). That arm was trained for it, so its gain here is "
            "expected.",
            headline=n == 0,
            chance=0.0,
            note=f"under Γ of {whose}",
        )(partial(explained_under, gamma))(evidence)
    if gammas and not is_constant(evidence.gamma):
        yield from batch_measure(
            "weighted explained variance, own Γ",
            "none",
            metric="own_weighted_explained_variance",
            definition="1 − E‖Γ(x − x̂)‖² / E‖Γ(x − E x)‖² under the SAE's own Γ: what it was "
            "trained for.",
            chance=0.0,
            note="under Γ of this run",
        )(partial(explained_under, evidence.gamma))(evidence)
    for whose, gamma in list(gammas.items())[:1]:
        for (which, chosen), weighs in zip(
            quarters_by_weight(gamma).items(), ("most", "least"), strict=True
        ):
            yield from batch_measure(
                f"explained variance, quarter of {which.removesuffix('_quarter')} weights",
                "up",
                metric=f"explained_variance_{which}",
                definition="Unweighted explained variance of the quarter of dimensions that Γ "
                f"weights {weighs}.",
                chance=0.0,
                note=f"unweighted, on the dimensions that Γ of {whose} weighs {weighs}",
            )(partial(explained_under, chosen.double()))(evidence)


def explained_variance_per_dimension(sums: HeldOutSums) -> Tensor:
    """1 − E(x_q − x̂_q)² / Var x_q, shape (d_in,); NaN where x_q is constant."""
    deviation = squared_deviation(sums, torch.ones_like(sums.tokens))
    return (1 - sums.squared_error.sum(dim=0) / deviation).masked_fill(deviation <= 0, torch.nan)


def variance_per_dimension(sums: HeldOutSums) -> Tensor:
    """Var x_q over the held-out tokens, shape (d_in,), activation units²."""
    return squared_deviation(sums, torch.ones_like(sums.tokens)) / sums.tokens.sum()


def quarters_by_weight(gamma: Tensor) -> dict[str, Tensor]:
    """Which dimensions have the largest and the smallest quarter of the weights, (d_in,) bool."""
    rank = gamma.argsort().argsort()
    quarter = len(gamma) // 4
    return {"largest_quarter": rank >= len(gamma) - quarter, "smallest_quarter": rank < quarter}


def is_constant(gamma: Tensor) -> bool:
    """Whether Γ = cI, which orders no dimension before another."""
    return bool((gamma == gamma[0]).all())
