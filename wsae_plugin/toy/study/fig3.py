"""Figure 3 of arXiv 2506.15963: SAE and WSAE on the learned world, over the sparsity S."""

from __future__ import annotations

from functools import partial

from wsae_plugin.toy.batched.activation import RELU, Activation, top_k
from wsae_plugin.toy.study.arms import SAE, WHITENED, ToyArm
from wsae_plugin.toy.study.cells import Condition, figure_study
from wsae_plugin.toy.study.settings import ToySettings
from wsae_plugin.toy.study.study import Result
from wsae_plugin.toy.study.words import HOW_TO_READ, cells_where, in_three_sentences, rows_of, tally

SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
ROWS: tuple[tuple[bool, Activation], ...] = ((True, RELU), (True, top_k(2)), (False, top_k(2)))
"""(tied, σ): the theory's SAE with both of its activations, and SAELens's."""

CLAIMS = {
    "l_gt": "(a) L_GT is lower",
    "l_gt_nonzero": "(b) L_GT on the non-zero dimensions is lower",
    "reconstruction_error": "(c) x_p is reconstructed as well",
    "latent_variance": "(d) the latents' variance is higher",
}
_TOLD = ("wsae", "wsae_literal", "constant", "shuffled")

ARMS = (
    SAE,
    ToyArm("wsae", "WSAE, Γ = Var", "weighted"),
    ToyArm("wsae_literal", "WSAE, Γ not normalised", "weighted", treatment="literal"),
    ToyArm("constant", "Γ = cI, same scale", "control", treatment="constant"),
    ToyArm("shuffled", "Γ shuffled", "control", treatment="shuffled"),
    ToyArm("opposite", "opposite, α = −1", "control", alpha=-1.0),
    ToyArm("input", "SAE on Γx", "control", treatment="input"),
    WHITENED,
)


def cells(settings: ToySettings) -> list[Condition]:
    """Every sparsity for every kind of SAE, n_m = n."""
    return [
        Condition("learned", sparsity, tied, activation, settings.n_features)
        for tied, activation in ROWS
        for sparsity in SPARSITIES
    ]


def evidence(result: Result) -> list[str]:
    """The paper's four claims, each with what its controls do."""

    def told(arms: list[ToyArm], measure: str, separator: str, **facts: object) -> str:
        chosen = cells_where(result, **facts)
        each = [tally(rows_of(result, arm.name, measure, chosen)) for arm in arms]
        labelled = zip(arms, each, strict=True)
        return "; ".join(f"{arm.label}{separator} {said}" for arm, said in labelled)

    spreads = [cell["world_facts"]["variance_spread"] for cell in result["cells"]]
    chosen = [arm for arm in ARMS if arm.name in _TOLD]
    return [
        HOW_TO_READ,
        "In the learned worlds the variances of the input dimensions differ by "
        f"{min(spreads):.1%} to {max(spreads):.1%} (coefficient of variation); the less, the "
        "nearer is Γ to a multiple of I.",
        f"L_GT over all cells: {told(list(ARMS[1:]), 'l_gt', '')}.",
        *(
            f"{claim}? {'tied' if tied else 'untied'} {activation.label}: "
            f"{told(chosen, measure, ':', tied=tied, activation=activation.label)}."
            for measure, claim in CLAIMS.items()
            for tied, activation in ROWS
        ),
    ]


FIG3 = figure_study(
    name="fig3",
    title="SAE and WSAE on the learned world (arXiv 2506.15963, Figure 3)",
    arms=ARMS,
    measures=(*CLAIMS, "l_gt_scaled", "recovered", "dead"),
    cells=cells,
    figures=("fig3", "fig3_difference"),
    verdict=partial(in_three_sentences, measure="l_gt", label="L_GT"),
    evidence=evidence,
)
