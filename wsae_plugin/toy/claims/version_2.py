"""The second version, of which an outline is public: the abstract, and theorems by their titles."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor

from wsae_plugin.toy.claims.claim import Claim, Evidence, Statement
from wsae_plugin.toy.claims.decompositions import corrected, decomposition_evidence
from wsae_plugin.toy.claims.optimality import excess_over_search
from wsae_plugin.toy.claims.search import superposed_features
from wsae_plugin.toy.claims.sparsity_needed import closed_form_error, irreducible_error
from wsae_plugin.toy.claims.uniqueness import relu_evidence
from wsae_plugin.toy.claims.worlds import (
    DIGON,
    PRINTED,
    TRIANGLE,
    TWO_DIGONS,
)
from wsae_plugin.toy.theory import (
    loss_terms,
)


def example_1() -> Claim:
    """Example 1 of the second version: feature shrinking."""
    codes = (torch.tensor([[0.0, 1.0, 0.5]]).double() @ PRINTED @ PRINTED.T).relu()
    return _title_only(
        "Example 1 (Feature shrinking)",
        "At W_m = W_pᵀ a feature is found too small where its opposite is active as well: "
        "ReLU(x_2 − x_3) = x_2 − x_3 for x_2 > x_3 > 0, W_p of the first version's examples.",
        (
            Evidence(
                "shrunk_code",
                float(codes[0, 1]),
                "the code of x_2 = 1 at x = (0, 1, ½)ᵀ",
                at_least=1e-9,
                at_most=1 - 1e-9,
            ),
        ),
    )


def example_2() -> Claim:
    """Example 2 of the second version: feature vanishing."""
    codes = (torch.tensor([[0.0, 1.0, 0.5], [0.0, 1.0, 1.0]]).double() @ PRINTED @ PRINTED.T).relu()
    return _title_only(
        "Example 2 (Feature vanishing)",
        "At W_m = W_pᵀ the smaller of two opposite features has the code 0, and both have where "
        "they are equal; yet L_SAE = 0.",
        (
            Evidence(
                "vanished_code",
                float(codes[0, 2]),
                "the code of x_3 = ½ at x = (0, 1, ½)ᵀ",
                at_most=0,
            ),
            Evidence(
                "vanished_codes",
                float(codes[1].abs().max()),
                "the largest code at x = (0, 1, 1)ᵀ",
                at_most=0,
            ),
        ),
    )


def theorem_2() -> Claim:
    """Theorem 2 of the second version: read as the first version's Theorem 1."""
    learned = [superposed_features(n, d_in) for n, d_in in ((4, 2), (5, 2), (7, 3))]
    return _title_only(
        "Theorem 2 (Optimality under extreme sparsity)",
        "As S → 1 and for n_m ≥ n, W_m* = I*(W_p*, 0)ᵀ minimises L_SAE, σ = ReLU.",
        (
            Evidence(
                "relu_excess",
                max(excess_over_search(world.flip(0), world, n_starts=5) for world in learned),
                "largest excess of a permuted W_p*ᵀ over the best encoder found, three W_p*",
                at_most=1e-9,
            ),
        ),
    )


def theorem_3() -> Claim:
    """Theorem 3 of the second version: read as the first version's Theorem 2, up to order."""
    return _title_only(
        "Theorem 3 (Uniqueness)",
        "As S → 1, n_m = n and σ = ReLU, the minimisers are the permutations I*W_pᵀ and no others.",
        relu_evidence(
            {"a digon": DIGON, "a triangle": TRIANGLE, "two digons": TWO_DIGONS},
        ),
    )


def theorem_4() -> Claim:
    """Theorem 4 of the second version: read as the first version's Theorem 3, sign mended."""
    return _title_only(
        "Theorem 4 (Gap between L_SAE and L_GT)",
        "L_SAE − L_GT = E‖(W_m − W_pᵀ)ᵀz‖² − 2E zᵀ(W_m − W_pᵀ)W_pe + E eᵀ(W_pᵀW_p − I)e.",
        decomposition_evidence(corrected, weighted=False),
    )


def theorem_5() -> Claim:
    """Theorem 5 of the second version: read as the first version's Theorem 4, sign mended."""
    return _title_only(
        "Theorem 5 (Gap between L_WSAE and L_GT)",
        "L_WSAE − L_GT = E‖Γ(W_m − W_pᵀ)ᵀz‖² − 2E zᵀ(W_m − W_pᵀ)Γ²W_pe + E eᵀ(W_pᵀΓ²W_p − I)e.",
        decomposition_evidence(corrected, weighted=True),
    )


def _title_only(title: str, reading: str, evidence: tuple[Evidence, ...]) -> Claim:
    return Claim(
        version=2,
        source=f"{title}, outline",
        printed=Statement("Of this the title alone is public.", ()),
        correction=Statement(reading, evidence),
        is_public=False,
    )


def limit_error(feature_vectors: Tensor) -> float:
    """L_GT / E‖x‖² of W_m = W_pᵀ and ReLU in the limit S → 1."""
    features = torch.eye(len(feature_vectors)).to(feature_vectors)
    return loss_terms(feature_vectors, feature_vectors, features).ground_truth


def abstract() -> Claim:
    """The abstract of the second version: when SAEs recover the features."""
    levels = (Fraction(0), Fraction(1, 2), Fraction(9, 10), Fraction(99, 100))
    return Claim(
        version=2,
        source="Abstract",
        printed=Statement(
            "SAEs in general do not recover the features in full unless they are extremely "
            "sparse; if they are (S → 1), the closed form recovers them.",
            (
                Evidence(
                    "least_error",
                    min(irreducible_error(sparsity) for sparsity in levels),
                    "a digon: least E‖x − f(x_p)‖² / E‖x‖² of any f, (1 − S)/8, at S ≤ 0.99",
                    at_least=1e-9,
                ),
                Evidence(
                    "limit_error_crowded",
                    limit_error(superposed_features(5, 2)),
                    "L_GT / E‖x‖² of W_p*ᵀ as S → 1, n = 5, n_p = 2",
                    at_most=1e-9,
                ),
                Evidence(
                    "closed_form_error",
                    closed_form_error(Fraction(9, 10)),
                    "a digon: L_GT / E‖x‖² of W_pᵀ is (1 − S)/2; at S = 0.9",
                ),
            ),
        ),
        condition=Statement(
            "n ≤ 2n_p: beyond, features overlap positively, and ReLU's codes stay wrong as S → 1. "
            "(The papers' experiments have n = 200, n_p = 20.)",
            (
                Evidence(
                    "limit_error",
                    max(
                        limit_error(superposed_features(n, d_in))
                        for n, d_in in ((2, 1), (3, 2), (4, 2), (6, 3))
                    ),
                    "largest L_GT / E‖x‖² of W_p*ᵀ as S → 1, four W_p* with n ≤ 2n_p",
                    at_most=1e-9,
                ),
            ),
        ),
    )


CLAIMS: dict[str, Callable[[], Claim]] = {
    "v2-example-1": example_1,
    "v2-example-2": example_2,
    "v2-theorem-2": theorem_2,
    "v2-theorem-3": theorem_3,
    "v2-theorem-4": theorem_4,
    "v2-theorem-5": theorem_5,
    "v2-abstract": abstract,
}
