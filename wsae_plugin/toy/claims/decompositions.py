"""The loss decompositions (Theorems 3 and 4 of the first version), sign by sign."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from wsae_plugin.toy.claims.claim import Claim, Evidence, Statement
from wsae_plugin.toy.claims.search import superposed_features
from wsae_plugin.toy.claims.worlds import (
    DIGON,
    PRINTED,
    TRIANGLE,
    random_features,
    simplex,
    uniform_features,
)
from wsae_plugin.toy.theory import LossTerms, loss_terms, reconstruction_loss


def with_printed_sign(terms: LossTerms) -> float:
    """The printed sum, with + 2 E zᵀ(W_m − W_pᵀ)Γ²W_p e."""
    return terms.ground_truth + terms.decoder_mismatch - terms.cross + terms.interference


def corrected(terms: LossTerms) -> float:
    """The sum with the cross term's sign mended."""
    return terms.total


def decomposition_error(
    total: Callable[[LossTerms], float], *, weighted: bool, at_closed_form: bool = False
) -> float:
    """max |L − sum of the terms| / L over ten random W_m, W_p, Γ and 500 samples of x each."""
    errors: list[float] = []
    for seed in range(10):
        vectors = 1.3 * random_features(7, 4, seed)
        encoder = vectors if at_closed_form else random_features(7, 4, seed + 100)
        features = uniform_features(7, 0.5, 500, seed)
        gamma = (1.0 + torch.arange(4)) if weighted else None
        loss = reconstruction_loss(encoder, features @ vectors, gamma=gamma)
        terms = loss_terms(encoder, vectors, features, gamma=gamma)
        errors.append(abs(total(terms) - loss) / loss)
    return max(errors)


def decomposition_evidence(
    total: Callable[[LossTerms], float], *, weighted: bool
) -> tuple[Evidence, ...]:
    """Does this sum of the terms give the loss, at random W_m and at W_m = W_pᵀ?"""
    return (
        Evidence(
            "error",
            decomposition_error(total, weighted=weighted),
            "largest |loss − sum of the terms| / loss over ten random W_m, W_p and 500 x each",
            at_most=1e-12,
        ),
        Evidence(
            "error_at_closed_form",
            decomposition_error(total, weighted=weighted, at_closed_form=True),
            "the same at W_m = W_pᵀ, where the cross term is 0",
            at_most=1e-12,
        ),
    )


def theorem_3() -> Claim:
    """Theorem 3 of the first version."""
    return Claim(
        version=1,
        source="Theorem 3, equation 13, §4.1, and equation 28",
        printed=Statement(
            "n_m = n, z = ReLU(W_mW_px), e = x − z: L_SAE = L_Rec + E‖(W_m − W_pᵀ)ᵀz‖² "
            "+ 2zᵀ(W_m − W_pᵀ)W_pe + eᵀ(W_pᵀW_p − I)e.",
            decomposition_evidence(with_printed_sign, weighted=False),
        ),
        correction=Statement(
            "L_SAE = L_Rec + E‖(W_m − W_pᵀ)ᵀz‖² − 2E zᵀ(W_m − W_pᵀ)W_pe + E eᵀ(W_pᵀW_p − I)e: a "
            "minus, and an expectation over every term.",
            decomposition_evidence(corrected, weighted=False),
        ),
    )


def theorem_4() -> Claim:
    """Theorem 4 of the first version."""
    return Claim(
        version=1,
        source="Theorem 4, equation 15, §4.2, and equation 30",
        printed=Statement(
            "Γ diagonal: L_WSAE = L_Rec + E‖Γ(W_m − W_pᵀ)ᵀz‖² + 2zᵀ(W_m − W_pᵀ)ΓᵀΓW_pe "
            "+ eᵀ(W_pᵀΓᵀΓW_p − I)e.",
            decomposition_evidence(with_printed_sign, weighted=True),
        ),
        correction=Statement(
            "The same with − 2E zᵀ(W_m − W_pᵀ)Γ²W_pe and expectations throughout; with Γ = I it is "
            "Theorem 3, and at W_m = W_pᵀ the first two gap terms are 0 for every Γ.",
            (
                *decomposition_evidence(corrected, weighted=True),
                Evidence(
                    "mismatch_at_closed_form",
                    _mismatch(),
                    "the first two gap terms there",
                    at_most=0,
                ),
            ),
        ),
    )


def _mismatch() -> float:
    vectors = random_features(7, 4, seed=0)
    gamma = torch.tensor([1.0, 2.0, 3.0, 4.0])
    terms = loss_terms(vectors, vectors, uniform_features(7, 0.5, 500, seed=0), gamma=gamma)
    return abs(terms.decoder_mismatch) + abs(terms.cross)


def limit_gap(feature_vectors: Tensor) -> float:
    """|gap| / L_GT's scale at W_m = W_pᵀ as S → 1: Σ_u of the gap at x = e_u, absolute."""
    features = torch.eye(len(feature_vectors)).to(feature_vectors)
    return abs(loss_terms(feature_vectors, feature_vectors, features).gap) * len(features)


def vanishing_gap() -> Claim:
    """§4.1, after Theorem 3."""
    crowded = superposed_features(3, 1)
    return Claim(
        version=1,
        source="§4.1, the text after Theorem 3",
        printed=Statement(
            "Under extreme sparsity (given x ≠ 0) and with W_m = W_pᵀ the gap L_SAE − L_Rec is 0.",
            (
                Evidence(
                    "gap_crowded",
                    limit_gap(crowded),
                    "|gap| of single features, summed, for a W_p* with n = 3, n_p = 1",
                    at_most=1e-9,
                ),
            ),
        ),
        condition=Statement(
            "‖p_i‖ = 1 and p_i·p_j ≤ 0 for all pairs, as W_p* has for n ≤ 2n_p and cannot have "
            "beyond.",
            (
                Evidence(
                    "gap",
                    max(limit_gap(world) for world in (DIGON, PRINTED, TRIANGLE, simplex(3))),
                    "largest such |gap| over four worlds",
                    at_most=1e-12,
                ),
                Evidence(
                    "gap_learned",
                    limit_gap(superposed_features(4, 2)),
                    "such |gap| for a W_p* with n = 4, n_p = 2",
                    at_most=1e-9,
                ),
            ),
        ),
    )


CLAIMS: dict[str, Callable[[], Claim]] = {
    "v1-theorem-3": theorem_3,
    "v1-theorem-4": theorem_4,
    "v1-gap-at-the-limit": vanishing_gap,
}
