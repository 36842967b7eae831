"""The Top-k halves of the proofs of Theorems 1 and 2 (first version)."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import torch

from wsae_plugin.toy.batched.activation import top_k
from wsae_plugin.toy.claims.claim import Claim, Evidence, Statement
from wsae_plugin.toy.claims.exact import exact, exact_relu, exact_square
from wsae_plugin.toy.claims.recovery import recovery_error
from wsae_plugin.toy.claims.search import limit_loss
from wsae_plugin.toy.claims.worlds import PRINTED, TRIANGLE, random_features, simplex
from wsae_plugin.toy.theory import closed_form_encoder


def top_k_range() -> Claim:
    """Appendix A.1, the proof of Theorem 1: which k recover single features."""
    vectors = exact((1, 0), (Fraction(3, 5), Fraction(4, 5)), (0, 1))
    world = torch.from_numpy(vectors.astype(float))
    gram = vectors @ vectors.T
    # Top-2 keeps 1 and 3/5 of p_1's products (1, 3/5, 0); no product is negative, so p = 0.
    reconstruction = exact_relu(gram[:1, :2]) @ vectors[:2]
    identity = closed_form_encoder(torch.eye(2, dtype=torch.float64), 3)
    worlds = [world, PRINTED, TRIANGLE, *(random_features(12, 3, seed) for seed in range(5))]
    return Claim(
        version=1,
        source="Appendix A.1, proof of Theorem 1",
        printed=Statement(
            "If 1 < k ≤ n_m − p, p the largest number of negative products p_i·p_j of a feature "
            "(the text prints p_i·p_i), then Top-k(W_pᵀp_u) = e_u and L_SAE = 0.",
            (
                Evidence(
                    "top_2_loss",
                    exact_square(vectors[:1] - reconstruction),
                    "Top-2: ‖p_1 − W_pTop-2(W_pᵀp_1)‖² for p = (1, 0), (3/5, 4/5), (0, 1), "
                    "n_m = 3, p = 0",
                    at_most=0,
                ),
                Evidence(
                    "top_2_least_loss",
                    limit_loss(identity, world, top_k(2)),
                    "Top-2: limit loss of W_m = (I, 0)ᵀ there, so less is possible",
                ),
                Evidence(
                    "top_2_loss_printed_world",
                    limit_loss(PRINTED, PRINTED, top_k(2)),
                    "Top-2: limit loss for the examples' W_p, n_m = 3, p = 1",
                ),
            ),
        ),
        correction=Statement(
            "If k = 1 (which the printed range leaves out), all ‖p_i‖ = 1 and the p_i differ, then "
            "Top-1(W_pᵀp_u) = e_u and L_SAE = 0 in the limit.",
            (
                Evidence(
                    "top_1_error",
                    max(recovery_error(world, top_k(1)) for world in worlds),
                    "largest error of Top-1's codes over eight worlds of unit vectors",
                    at_most=1e-12,
                ),
                Evidence(
                    "top_1_loss",
                    max(limit_loss(world, world, top_k(1)) for world in worlds),
                    "largest limit loss of Top-1 with W_m = W_pᵀ over them",
                    at_most=1e-12,
                ),
            ),
        ),
    )


def printed_top_k(values: np.ndarray, k: int, *, includes_tie: bool) -> np.ndarray:
    """ReLU(x − x_(k+1)) + x_(k+1)H(x − x_(k+1)), H(0) being 1 (as printed) or 0; k < len(x)."""
    threshold = np.sort(values)[::-1][k]
    shifted = values - threshold
    step = shifted >= 0 if includes_tie else shifted > 0
    return shifted * (shifted > 0) + threshold * step


def _top_k_identity_error(includes_tie: bool) -> Fraction:
    """The largest deviation from Top-k over all k and 20 vectors of different positive integers."""
    generator = np.random.default_rng(0)
    worst = Fraction(0)
    for _ in range(20):
        values = np.array([Fraction(int(value)) for value in generator.permutation(9)[:6] + 1])
        order = np.argsort(-values)
        for k in range(1, len(values)):
            kept = np.full(len(values), Fraction(0))
            kept[order[:k]] = values[order[:k]]
            error = printed_top_k(values, k, includes_tie=includes_tie) - kept
            worst = max(worst, *(abs(entry) for entry in error))
    return worst


def top_k_identity() -> Claim:
    """Appendix A.1, the proof of Theorem 2: Top-k written with ReLU and a step."""
    return Claim(
        version=1,
        source="Appendix A.1, proof of Theorem 2, first line",
        printed=Statement(
            "Top-k(x) = ReLU(x − x_(k+1)1) + x_(k+1)H(x − x_(k+1)1) with H(t) = 1[t ≥ 0], x_(k+1) "
            "the (k+1)-th largest entry.",
            (
                Evidence(
                    "error",
                    _top_k_identity_error(includes_tie=True),
                    "largest deviation over 20 vectors of different integers and all k: the entry "
                    "x_(k+1) itself is kept",
                    at_most=0,
                ),
            ),
        ),
        correction=Statement(
            "The same with H(t) = 1[t > 0], for x without ties.",
            (
                Evidence(
                    "error",
                    _top_k_identity_error(includes_tie=False),
                    "largest deviation over the same vectors",
                    at_most=0,
                ),
            ),
        ),
    )


def top_k_threshold() -> Claim:
    """Appendix A.1, the end of the proof of Theorem 2: when 0 < c_u < ‖p_u‖²."""
    second_entries = PRINTED.sort(dim=1, descending=True).values[:, 1]
    worlds = [PRINTED, TRIANGLE, simplex(3), *(random_features(12, 3, seed) for seed in range(5))]
    margins: list[float] = []
    for world in worlds:
        products = (world @ world.T).sort(dim=1, descending=True).values
        margins.append(float((products[:, 0] - products[:, 1]).min()))
    return Claim(
        version=1,
        source="Appendix A.1, end of the proof of Theorem 2",
        printed=Statement(
            "With c_u = (x_uW_p[:,u])_(k), the condition 0 < c_u < ‖p_u‖² of uniqueness is "
            "guaranteed by 1 < k ≤ n_m − p.",
            (
                Evidence(
                    "least_c",
                    float(second_entries.min()),
                    "least c_u for the examples' W_p, n_m = 3, p = 1, k = 2, x_u = 1",
                    at_least=1e-12,
                ),
            ),
        ),
        correction=Statement(
            "The threshold is the (k+1)-th largest of the n_m pre-activations W_mx_p, not of the "
            "n_p entries of x_p. For k = 1, ‖p_i‖ = 1 and different p_i it is below ‖p_u‖²; that "
            "it be positive is neither needed nor true where p_i·p_j ≤ 0.",
            (
                Evidence(
                    "least_margin",
                    min(margins),
                    "least ‖p_u‖² − second largest pre-activation over eight worlds",
                    at_least=1e-9,
                ),
            ),
        ),
    )


CLAIMS: dict[str, Callable[[], Claim]] = {
    "v1-theorem-1-top-k": top_k_range,
    "v1-top-k-identity": top_k_identity,
    "v1-top-k-threshold": top_k_threshold,
}
