"""Does no loss mean that the features are found (first version, §3.2.1)?"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from wsae_plugin.toy.batched.activation import top_k
from wsae_plugin.toy.claims.claim import Claim, Evidence, Statement
from wsae_plugin.toy.claims.search import ZERO, limit_loss, top_one_solutions
from wsae_plugin.toy.claims.uniqueness import turned_digons
from wsae_plugin.toy.claims.worlds import (
    OPPOSITE_TRIANGLE,
    PRINTED,
    TRIANGLE,
    TWO_DIGONS,
    UNIT_WORLDS,
)
from wsae_plugin.toy.metrics import align_codes, ground_truth_loss


def aligned_error(
    encoder: Tensor,
    feature_vectors: Tensor,
    activation: Callable[[Tensor], Tensor] = torch.relu,
) -> float:
    """L_GT / E‖x‖² on single features, latents in the best order; 0 if the encoder has a loss."""
    if limit_loss(encoder, feature_vectors, activation) > ZERO:
        return 0.0
    features = torch.eye(len(feature_vectors)).to(feature_vectors)
    codes = activation(feature_vectors @ encoder.T)
    return ground_truth_loss(codes, features, align_codes(codes, features)).all_dimensions


def sufficiency() -> Claim:
    """§3.2.1, after Theorem 2: the three conditions suffice for identifiability."""
    split = torch.cat([0.6 * PRINTED[:1], 0.8 * PRINTED[:1], PRINTED[1:]])
    relu = [
        (
            "turned",
            "W_p = (I, −I), n_m = n = 4, W_m = (Q; −Q)",
            turned_digons(0.6, 0.8),
            TWO_DIGONS,
        ),
        ("triangle", "W_p a triangle, n_m = n = 3, W_m = −√2W_pᵀ", OPPOSITE_TRIANGLE, TRIANGLE),
        ("split", "the examples' W_p, n_m = n + 1, p_1 split over two latents", split, PRINTED),
    ]
    with_spare = [(torch.cat([world, 0.5 * world[:1]]), world) for world in UNIT_WORLDS]
    return Claim(
        version=1,
        source="§3.2.1, the conclusion from Theorems 1 and 2",
        printed=Statement(
            "Extreme sparsity (S → 1), sparse activation (ReLU or Top-k) and n_m ≥ n suffice for "
            "identifiability: no loss on x_p implies that x is recovered.",
            tuple(
                Evidence(
                    name,
                    aligned_error(encoder, world),
                    f"ReLU, {text}: L_GT / E‖x‖² of this zero-loss W_m, best order of latents",
                    at_most=1e-9,
                )
                for name, text, encoder, world in relu
            ),
        ),
        condition=Statement(
            "σ = Top-1 (then ReLU), ‖p_i‖ = 1, different p_i; recovered up to the latents' order.",
            (
                Evidence(
                    "top_1_error",
                    max(
                        aligned_error(encoder, world, top_k(1))
                        for world in UNIT_WORLDS
                        for encoder in top_one_solutions(world)
                    ),
                    "largest L_GT / E‖x‖² over all zero-loss W_m of six worlds, n_m = n",
                    at_most=1e-9,
                ),
                Evidence(
                    "top_1_spare_error",
                    max(aligned_error(encoder, world, top_k(1)) for encoder, world in with_spare),
                    "the same with a spare latent ½p_1, n_m = n + 1",
                    at_most=1e-9,
                ),
            ),
        ),
    )


CLAIMS: dict[str, Callable[[], Claim]] = {"v1-sufficiency": sufficiency}
