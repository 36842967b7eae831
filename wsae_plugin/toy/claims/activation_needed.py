"""Is a sparse activation needed (first version, §3.2.2, Counterexamples 2 and 3)?"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor

from wsae_plugin.toy.claims.claim import Claim, Evidence, Statement
from wsae_plugin.toy.claims.exact import PRINTED_EXACT, exact, exact_square
from wsae_plugin.toy.claims.worlds import DIGON, PRINTED


def linear_error(feature_vectors: Tensor) -> float:
    """min over W_m of Σ_u ‖e_u − W_mp_u‖²: what a linear encoder cannot recover."""
    target = torch.eye(len(feature_vectors)).to(feature_vectors)
    encoder = torch.linalg.lstsq(feature_vectors, target, driver="gelsd").solution
    return float((target - feature_vectors @ encoder).square().sum())


def counterexample_2() -> Claim:
    """Counterexample 2: SAEs without sparse activation."""
    encoder, x = exact((1, 0), (0, 1), (0, 0)), exact((0, 0, 1))
    activation = x @ PRINTED_EXACT
    codes = activation @ encoder.T
    return Claim(
        version=1,
        source="Counterexample 2, §3.2.2",
        printed=Statement(
            "L' = E‖x_p − W_mᵀW_mx_p‖², x = (0, 0, 1)ᵀ: W_m = (e_1, e_2, 0)ᵀ minimises L', but "
            "W_mx_p = (0, −1, 0)ᵀ ≠ x. So without σ the features are not recovered.",
            (
                Evidence(
                    "loss",
                    exact_square(activation - codes @ encoder),
                    "L' of that W_m, which 0 bounds from below",
                    at_most=0,
                ),
                Evidence(
                    "code_error",
                    exact_square(codes - exact((0, -1, 0))),
                    "‖W_mx_p − (0, −1, 0)ᵀ‖²",
                    at_most=0,
                ),
                Evidence("distance_to_x", exact_square(codes - x), "‖W_mx_p − x‖²", at_least=1),
                Evidence(
                    "every_linear_encoder",
                    linear_error(PRINTED),
                    "min over all W_m of Σ_u ‖e_u − W_mW_pe_u‖², n − n_p by rank",
                    at_least=1 - 1e-9,
                ),
            ),
        ),
    )


def penalised_loss(encoder: tuple[Fraction, Fraction], penalty: Fraction) -> Fraction:
    """L'' = |x_p − W_mᵀW_mx_p| + λ‖W_mx_p‖₁ at x_p = 1, n_p = 1, exactly."""
    first, second = encoder
    return abs(1 - first**2 - second**2) + penalty * (abs(first) + abs(second))


def least_on_grid(penalty: Fraction) -> Fraction:
    """The least L'' on a grid of step 1/40 over [−3/2, 3/2]²."""
    ticks = [Fraction(tick, 40) for tick in range(-60, 61)]
    return min(penalised_loss((a, b), penalty) for a in ticks for b in ticks)


def counterexample_3() -> Claim:
    """Counterexample 3: l1 regularisation in the place of a sparse activation."""
    half = Fraction(1, 2)
    printed = penalised_loss((half / 2, half / 2), half)
    axis = penalised_loss((Fraction(1), Fraction(0)), half)
    x = exact((1, 0))
    codes = x @ exact((1,), (-1,)) @ exact((1, 0))
    return Claim(
        version=1,
        source="Counterexample 3, §3.2.2",
        printed=Statement(
            "L'' = E‖x_p − W_mᵀW_mx_p‖₂ + λ‖W_mx_p‖₁, n = n_m = 2, n_p = 1, W_p = (1, −1), "
            "x = (1, 0)ᵀ: the minimiser is W_m* = (±m, ±m)ᵀ, m = min{λ/2, √2/2}, and W_m*x_p ≠ x.",
            (
                Evidence(
                    "excess",
                    printed - axis,
                    "λ = ½: L'' of the printed (¼, ¼)ᵀ less L'' of W_m = (1, 0)ᵀ",
                    at_most=0,
                ),
                Evidence(
                    "distance_to_x",
                    exact_square(codes - x),
                    "‖W_mx_p − x‖² for that better W_m = (1, 0)ᵀ: it returns x",
                ),
                Evidence("printed_loss", printed, "λ = ½: L'' of the printed minimiser"),
                Evidence("axis_loss", axis, "λ = ½: L'' of W_m = (1, 0)ᵀ"),
                Evidence(
                    "grid_loss",
                    least_on_grid(half),
                    "λ = ½: least L'' on a grid of step 1/40 over [−1.5, 1.5]²",
                ),
            ),
        ),
        correction=Statement(
            "For λ < 1 the minimisers are (±1, 0)ᵀ and (0, ±1)ᵀ, with L'' = λ, and (1, 0)ᵀ returns "
            "x; for λ > 1 it is 0. (λ/2, λ/2) is where L'' is largest on the diagonal. What fails "
            "is to recover both features: Σ_u ‖e_u − W_mp_u‖² ≥ n − n_p for every linear encoder.",
            (
                *(
                    Evidence(
                        f"grid_excess_{name}",
                        min(penalty, Fraction(1)) - least_on_grid(penalty),
                        f"λ = {penalty}: min{{λ, 1}} less the least L'' on the grid",
                        at_most=0,
                    )
                    for name, penalty in (
                        ("quarter", Fraction(1, 4)),
                        ("half", half),
                        ("two", Fraction(2)),
                    )
                ),
                Evidence(
                    "diagonal_slope",
                    penalised_loss((half / 2, half / 2), half)
                    - max(
                        penalised_loss((half / 2 + step, half / 2 + step), half)
                        for step in (Fraction(-1, 100), Fraction(1, 100))
                    ),
                    "λ = ½: L'' at (λ/2, λ/2) less that at its neighbours on the diagonal",
                    at_least=0,
                ),
                Evidence(
                    "every_linear_encoder",
                    linear_error(DIGON),
                    "min over all W_m of Σ_u ‖e_u − W_mp_u‖²",
                    at_least=1 - 1e-9,
                ),
            ),
        ),
    )


CLAIMS: dict[str, Callable[[], Claim]] = {
    "v1-counterexample-2": counterexample_2,
    "v1-counterexample-3": counterexample_3,
}
