"""The scores of one SAE that are functions of sums over held-out batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from wsae_plugin.evaluation import measures
from wsae_plugin.evaluation.measures import HeldOutSums
from wsae_plugin.evaluation.score_record import Record, finite_list, record, record_of_sums

DENSE = 0.1
"""A latent that is active on more than this share of the tokens is called dense."""


@dataclass(frozen=True)
class Weights:
    """The Γ that an SAE is judged under.

    Attributes:
        own: its own γ, shape (d_in,); ones for an ordinary SAE.
        weighted: arm → γ of the weighted arms that saw the same data, the strongest first.
    """

    own: Tensor
    weighted: Mapping[str, Tensor]


def reconstruction_records(run: str, sums: HeldOutSums, weights: Weights) -> list[Record]:
    """Explained variance, unweighted first, under each Γ, and by weight.

    Args:
        run: name of the run.
        sums: of its SAE.
        weights: what to weigh with.
    """
    records = [
        record_of_sums(
            run,
            "explained_variance",
            "explained variance",
            measures.explained_variance(),
            sums,
            headline=True,
            chance=0.0,
            note="unweighted; chance: the mean of x for every x",
        )
    ]
    gammas = {f"arm {arm}": gamma for arm, gamma in weights.weighted.items()}
    if not gammas and not _is_constant(weights.own):
        gammas = {"this run": weights.own}
    for n, (whose, gamma) in enumerate(gammas.items()):
        name = whose.removeprefix("arm ")
        records.append(
            record_of_sums(
                run,
                "weighted_explained_variance" + (f"_{name}" if n else ""),
                "weighted explained variance" + (f", Γ of {name}" if n else ""),
                measures.explained_variance(gamma),
                sums,
                # What an arm was trained for says nothing of whether the training was right.
                direction="none",
                headline=n == 0,
                chance=0.0,
                note=f"under Γ of {whose}",
            )
        )
    if not gammas:
        return records
    whose, strongest = next(iter(gammas.items()))
    if not _is_constant(weights.own):
        records.append(
            record_of_sums(
                run,
                "own_weighted_explained_variance",
                "weighted explained variance, own Γ",
                measures.explained_variance(weights.own),
                sums,
                direction="none",
                chance=0.0,
                note="under Γ of this run",
            )
        )
    for which, chosen in measures.quarters_by_weight(strongest).items():
        word = which.removesuffix("_quarter")
        records.append(
            record_of_sums(
                run,
                f"explained_variance_{which}",
                f"explained variance, quarter of {word} weights",
                measures.explained_variance(chosen.double()),
                sums,
                chance=0.0,
                note=f"unweighted, on the dimensions that Γ of {whose} weighs "
                + ("most" if word == "largest" else "least"),
            )
        )
    return records


def model_records(run: str, sums: HeldOutSums) -> list[Record]:
    """What it costs the language model to read the reconstruction."""
    ablated = float(sums.kl_divergence_with_ablation.sum() / sums.tokens.sum())
    return [
        record_of_sums(
            run,
            "ce_loss_recovered",
            "cross-entropy recovered",
            measures.ce_loss_recovered,
            sums,
            headline=True,
            chance=0.0,
            note="chance: zero ablation",
        ),
        record_of_sums(
            run,
            "kl_divergence",
            "KL divergence, nats per token",
            measures.kl_divergence,
            sums,
            "down",
            headline=True,
            chance=ablated,
            note="KL(model ‖ model with SAE); chance: zero ablation",
        ),
        record_of_sums(
            run,
            "kl_recovered",
            "KL divergence recovered",
            measures.kl_recovered,
            sums,
            chance=0.0,
            note="chance: zero ablation",
        ),
    ]


def code_records(run: str, sums: HeldOutSums) -> list[Record]:
    """How many latents work, and the size and direction of what they add up to."""
    share = sums.firings / sums.tokens.sum()
    return [
        record_of_sums(run, "l0", "L0", measures.l0, sums, "none", headline=True),
        record(
            run,
            "dead_share",
            "dead latents",
            float((share == 0).double().mean()),
            "down",
            headline=True,
            note="share of latents active on no held-out token",
        ),
        record(
            run,
            "dense_share",
            "dense latents",
            float((share > DENSE).double().mean()),
            "none",
            note=f"share of latents active on more than {DENSE:.0%} of the tokens",
        ),
        record_of_sums(
            run,
            "norm_ratio",
            "norm ratio ‖x̂‖ / ‖x‖",
            measures.norm_ratio,
            sums,
            "none",
            note="SAELens's l2_ratio; below 1 the SAE shrinks",
        ),
        record_of_sums(
            run, "cosine_similarity", "cosine of x and x̂", measures.cosine_similarity, sums
        ),
    ]


def per_dimension(sums: HeldOutSums, own: Tensor) -> dict[str, list[float | None]]:
    """Variance, explained variance and γ of each dimension; null where x is constant."""
    explained = measures.explained_variance_per_dimension(sums)
    return {
        "variance": finite_list(measures.variance_per_dimension(sums)),
        "explained_variance": finite_list(explained),
        "gamma": finite_list(own),
    }


def per_batch(sums: HeldOutSums) -> dict[str, list[float | None]]:
    """The two main scores of each batch."""
    each = torch.eye(len(sums.tokens), dtype=torch.float64)
    return {
        "explained_variance": finite_list(measures.explained_variance()(sums, each)),
        "ce_loss_recovered": finite_list(measures.ce_loss_recovered(sums, each)),
    }


def _is_constant(gamma: Tensor) -> bool:
    return bool((gamma == gamma[0]).all())
