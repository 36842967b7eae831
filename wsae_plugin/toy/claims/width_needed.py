"""Are n_m ≥ n latents needed (first version, §3.2.2, Counterexample 4)?"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from wsae_plugin.toy.claims.claim import Claim, Evidence, Statement
from wsae_plugin.toy.claims.exact import PRINTED_EXACT, exact, exact_relu, exact_square
from wsae_plugin.toy.claims.search import best_encoders
from wsae_plugin.toy.claims.worlds import DIGON, PRINTED


def width_is_needed() -> Claim:
    """§3.2.2, before Counterexample 4."""
    best = best_encoders(DIGON, d_sae=1, n_starts=20)[0]
    codes = (DIGON @ best.matrix.T).relu().squeeze(1)
    features = torch.eye(2, dtype=torch.float64)
    return Claim(
        version=1,
        source="§3.2.2, the text before Counterexample 4",
        printed=Statement(
            "Without enough hidden dimensions (n_m < n) recovering even part of the features "
            "is impossible.",
            (
                Evidence(
                    "part_error",
                    min(float((codes - features[:, i]).abs().max()) for i in range(2)),
                    "W_p = (1, −1), n_m = n_p = 1: largest error of the minimiser's one latent as "
                    "a copy of one feature, S → 1",
                    at_least=1e-6,
                ),
            ),
        ),
        correction=Statement(
            "n_m < n latents cannot hold all n features; some they can. Above, W_m = ±1 is the "
            "minimiser and its latent is x_1 (or x_2) on every sample with one feature.",
            (
                Evidence(
                    "weight_error",
                    abs(float(best.matrix.abs()) - 1),
                    "how far |W_m*| is from 1",
                    at_most=1e-6,
                ),
                Evidence(
                    "limit_loss_error",
                    abs(best.loss - 1),
                    "how far its limit loss is from 1",
                    at_most=1e-9,
                ),
            ),
        ),
    )


def counterexample_4() -> Claim:
    """Counterexample 4: SAEs without enough hidden dimensions."""
    x_p = exact((0, 0, 1)) @ PRINTED_EXACT
    identity_codes = exact_relu(x_p @ exact((1, 0), (0, 1)).T)
    best = best_encoders(PRINTED, d_sae=2, n_starts=60)[0]
    best_codes = (PRINTED[2] @ best.matrix.T).relu()
    return Claim(
        version=1,
        source="Counterexample 4, §3.2.2",
        printed=Statement(
            "n = 3, n_m = n_p = 2, x = (0, 0, 1)ᵀ: σ(W_mx_p) ≠ (x_1, x_2)ᵀ = (0, 0)ᵀ for all W_m.",
            (
                Evidence(
                    "distance",
                    exact_square(identity_codes),
                    "‖ReLU(W_mx_p) − (0, 0)ᵀ‖² for W_m = I, x_p = (0, −1)ᵀ",
                    at_least=1e-9,
                ),
            ),
        ),
        correction=Statement(
            "No W_m that reconstructs x_p has σ(W_mx_p) = 0, as that reconstructs 0. Nor has the "
            "minimiser over single features, with rows (√(2/7), ±√(6/7)) and a limit loss of 5/7: "
            "both of its latents mix features.",
            (
                Evidence(
                    "loss_of_zero_codes",
                    exact_square(x_p),
                    "‖x_p − W_mᵀ0‖², whatever W_m",
                    at_least=1,
                ),
                Evidence(
                    "best_loss_error",
                    abs(best.loss - 5 / 7),
                    "|least limit loss of 60 starts − 5/7|, n_m = 2",
                    at_most=1e-9,
                ),
                Evidence(
                    "best_code",
                    float(best_codes.norm()),
                    "‖ReLU(W_m*x_p)‖ at that minimum, √(6/7)",
                    at_least=math.sqrt(6 / 7) - 1e-6,
                ),
            ),
        ),
    )


CLAIMS: dict[str, Callable[[], Claim]] = {
    "v1-necessity-width": width_is_needed,
    "v1-counterexample-4": counterexample_4,
}
