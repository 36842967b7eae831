"""The SAEs that a figure study compares: the plain one, weighted ones, and the controls."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from wsae_plugin.gamma import gamma_from_proxy
from wsae_plugin.gamma.moments import Moments, moments_of
from wsae_plugin.gamma.proxies import PROXIES, ProxyEvidence
from wsae_plugin.gamma.weights import constant, shuffled
from wsae_plugin.toy.streams import stream
from wsae_plugin.toy.study.study import Arm

TRUE_INTERFERENCE = "true_interference"
"""The proxy `interference` of the true feature vectors, in place of a trained decoder's."""


@dataclass(frozen=True)
class ToyArm(Arm):
    """One SAE of the comparison; arms of a seed share data and initial weights.

    Attributes:
        alpha: the exponent in γ = s^alpha.
        proxy: what s is; a name in the table of proxies, or `TRUE_INTERFERENCE`.
        treatment: what is done with γ. "weights" puts it into the loss with mean γ² = 1, "literal"
            as the formula has it; "constant" is cI with the literal mean γ²; "shuffled" hands
            γ to the wrong dimensions; "input" leaves the loss alone and trains on Γx; "whitened"
            trains on whitened x and has no γ.
    """

    alpha: float = 1.0
    proxy: str = "variance"
    treatment: Literal["weights", "literal", "constant", "shuffled", "input", "whitened"] = (
        "weights"
    )


SAE = ToyArm("sae", "SAE, Γ = I", "baseline", alpha=0.0, proxy="uniform")
WHITENED = ToyArm(
    "whitened", "SAE on whitened x", "control", None, 0.0, "uniform", treatment="whitened"
)


@dataclass(frozen=True)
class WorldEvidence:
    """What Γ of one world is made from.

    Attributes:
        activations: a sample, shape (n_samples, d_in).
        feature_vectors: the truth, shape (n_features, d_in).
        pilot_decoder: what one unit of a code of the trained plain SAE adds, (d_sae, d_in).
        pilot_acts: its codes on the sample in these units, shape (n_samples, d_sae).
        seed: of the shuffles.
    """

    activations: Tensor
    feature_vectors: Tensor
    pilot_decoder: Tensor
    pilot_acts: Tensor
    seed: int

    @cached_property
    def _moments(self) -> tuple[Moments, Moments]:
        return moments_of(self.activations), moments_of(self.pilot_acts)

    def proxy(self, name: str) -> Tensor:
        """s, shape (d_in,), float64, from the package's own proxy functions."""
        is_true = name == TRUE_INTERFERENCE
        decoder = self.feature_vectors if is_true else self.pilot_decoder
        evidence = ProxyEvidence(*self._moments, lambda: decoder.double(), None, self.seed)
        return PROXIES["interference" if is_true else name].compute(evidence)

    def gamma(self, arm: ToyArm) -> Tensor:
        """γ of the arm, whether it goes into the loss or into the input, shape (d_in,).

        A proxy that is 0 in every dimension (the kurtosis of dense features) orders none: γ = 1.
        """
        s = self.proxy(arm.proxy)
        s = s if (s > 0).any() else torch.ones_like(s)
        literal = arm.treatment in ("literal", "constant")
        gamma = gamma_from_proxy(s, arm.alpha, "none" if literal else "mean_square")
        if arm.treatment == "constant":
            return constant(gamma)
        if arm.treatment == "shuffled":
            return shuffled(gamma, stream("shuffle", self.seed))
        return gamma

    def treat(self, arm: ToyArm) -> tuple[Tensor, Tensor, Tensor]:
        """What is weighted and what is read: an arm does the one or the other.

        Returns:
            γ in the loss, shape (d_in,); and of what the arm reads, (x − mean) @ matrix, the mean
            (d_in,) and the matrix (d_in, d_in); all float64.
        """
        gamma = self.gamma(arm)
        one, nothing = torch.ones_like(gamma), torch.zeros_like(gamma)
        if arm.treatment == "whitened":
            return one, *whitening(self.activations)
        if arm.treatment == "input":
            return one, nothing, gamma.diag()
        return gamma, nothing, one.diag()


def whitening(activations: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean (d_in,) and matrix (d_in, d_in) of SAELens's covariance whitening, float64.

    (x − mean) @ matrix has covariance I. SAELens adds 1e-3 to the eigenvalues, which is as large as
    the variances of a sparse toy world; here it is 1e-6 of their mean.
    """
    x = activations.double()
    eigenvalues, eigenvectors = torch.linalg.eigh(x.T.cov())
    stabilised = eigenvalues.clamp(min=0) + 1e-6 * eigenvalues.mean()
    return x.mean(dim=0), eigenvectors * stabilised.rsqrt()
