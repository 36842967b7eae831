"""The SAEs that a cell compares: the plain one, weighted ones, and the controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from wsae_plugin.gamma import gamma_from_proxy
from wsae_plugin.gamma.moments import Moments, moments_of
from wsae_plugin.gamma.proxies import PROXIES, ProxyEvidence
from wsae_plugin.toy.batched import InputMap
from wsae_plugin.toy.streams import stream

TRUE_INTERFERENCE = "true_interference"
"""The proxy `interference` of the true feature vectors, in place of a trained decoder's."""


@dataclass(frozen=True)
class Arm:
    """One SAE of the comparison; arms of a seed share data and initial weights.

    Attributes:
        name: in files.
        label: for readers.
        role: what the comparison needs it for.
        alpha: the exponent in γ = s^alpha.
        proxy: what s is; a name in the table of proxies, or `TRUE_INTERFERENCE`.
        treatment: what is done with γ. "weights" puts it into the loss with mean γ² = 1, "literal"
            as the formula has it; "constant" is cI with the literal mean γ²; "shuffled" hands
            γ to the wrong dimensions; "input" leaves the loss alone and trains on Γx; "whitened"
            trains on whitened x and has no γ.
    """

    name: str
    label: str
    role: Literal["baseline", "weighted", "control"]
    alpha: float = 1.0
    proxy: str = "variance"
    treatment: Literal["weights", "literal", "constant", "shuffled", "input", "whitened"] = (
        "weights"
    )


SAE = Arm("sae", "SAE, Γ = I", "baseline", alpha=0.0, proxy="uniform")
WHITENED = Arm("whitened", "SAE on whitened x", "control", 0.0, "uniform", "whitened")


@dataclass(frozen=True)
class WorldEvidence:
    """What Γ of one world is made from.

    Attributes:
        activations: a sample, shape (n_samples, d_in).
        feature_vectors: the truth, shape (n_features, d_in).
        pilot_decoder: the plain SAE's decoder, shape (d_sae, d_in), once it is trained.
        pilot_acts: its feature activations on the sample, shape (n_samples, d_sae).
        seed: of the shuffles.
    """

    activations: Tensor
    feature_vectors: Tensor
    seed: int
    pilot_decoder: Tensor | None = None
    pilot_acts: Tensor | None = None

    def proxy(self, name: str) -> Tensor:
        """s, shape (d_in,), float64, from the package's own proxy functions."""
        decoder, acts = self.pilot_decoder, self.pilot_acts
        if name == TRUE_INTERFERENCE or decoder is None:
            decoder = self.feature_vectors
        sample = torch.zeros(1, len(decoder)) if acts is None else acts
        evidence = ProxyEvidence(
            activations=self.moments,
            latents=moments_of(sample),
            decoder=lambda: decoder.double(),
            file=None,
            seed=self.seed,
        )
        return PROXIES["interference" if name == TRUE_INTERFERENCE else name].compute(evidence)

    @property
    def moments(self) -> Moments:
        return moments_of(self.activations)

    def gamma(self, arm: Arm) -> Tensor:
        """γ of the arm, whether it goes into the loss or into the input, shape (d_in,).

        A proxy that is 0 in every dimension (the kurtosis of dense features) orders none: γ = 1.
        """
        s = self.proxy(arm.proxy)
        if not (s > 0).any():
            s = torch.ones_like(s)
        literal = arm.treatment in ("literal", "constant")
        gamma = gamma_from_proxy(s, arm.alpha, "none" if literal else "mean_square")
        if arm.treatment == "constant":
            return gamma.square().mean().sqrt().expand_as(gamma).clone()
        if arm.treatment == "shuffled":
            return gamma[torch.randperm(len(gamma), generator=stream("shuffle", self.seed))]
        return gamma


def needs_pilot(arm: Arm) -> bool:
    """Whether its proxy looks at a trained SAE: here the plain one of the same seed."""
    return arm.proxy != TRUE_INTERFERENCE and bool(PROXIES[arm.proxy].needs)


def loss_weights(arm: Arm, evidence: WorldEvidence) -> Tensor:
    """What the arm's squared residual is weighted with, shape (d_in,)."""
    if arm.treatment in ("input", "whitened"):
        return torch.ones(evidence.activations.shape[1], dtype=torch.float64)
    return evidence.gamma(arm)


def input_map(arms: Sequence[Arm], evidences: Sequence[WorldEvidence]) -> InputMap | None:
    """What the SAEs of these arms and worlds read in place of x; None where all read x."""
    if not any(arm.treatment in ("input", "whitened") for arm in arms):
        return None
    maps = [_map_of(arm, evidence) for arm, evidence in zip(arms, evidences, strict=True)]
    return InputMap(
        mean=torch.stack([mean for mean, _ in maps]).float(),
        matrix=torch.stack([matrix for _, matrix in maps]).float(),
    )


def whitening(activations: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (d_in,) and matrix (d_in, d_in) of SAELens's covariance whitening, float64.

    (x − mean) @ matrix has covariance I. SAELens adds 1e-3 to the eigenvalues, which is as large as
    the variances of a sparse toy world; here it is 1e-6 of their mean.
    """
    x = activations.double()
    eigenvalues, eigenvectors = torch.linalg.eigh(x.T.cov())
    stabilised = eigenvalues.clamp(min=0) + 1e-6 * eigenvalues.mean()
    return x.mean(dim=0), eigenvectors * stabilised.rsqrt()


def _map_of(arm: Arm, evidence: WorldEvidence) -> tuple[Tensor, Tensor]:
    if arm.treatment == "whitened":
        return whitening(evidence.activations)
    d_in = evidence.activations.shape[1]
    zero = torch.zeros(d_in, dtype=torch.float64)
    if arm.treatment == "input":
        return zero, torch.diag(evidence.gamma(arm))
    return zero, torch.eye(d_in, dtype=torch.float64)
