"""Figure 3 of arXiv 2506.15963: SAE and WSAE on the learned world, over the sparsity S."""

from __future__ import annotations

from wsae_plugin.toy.batched import RELU, Activation, top_k
from wsae_plugin.toy.experiments.arms import SAE, WHITENED, Arm
from wsae_plugin.toy.experiments.experiment import Cell, Experiment, Result
from wsae_plugin.toy.experiments.grid import cell
from wsae_plugin.toy.experiments.settings import ToySettings
from wsae_plugin.toy.experiments.words import HOW_TO_READ, cells_where, rows_of, tally

SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
ROWS: tuple[tuple[bool, Activation], ...] = ((True, RELU), (True, top_k(2)), (False, top_k(2)))
"""(tied, σ): the theory's SAE with both of its activations, and SAELens's."""

CLAIMS = {
    "l_gt": "(a) L_GT is lower",
    "l_gt_nonzero": "(b) L_GT on the non-zero dimensions is lower",
    "reconstruction_error": "(c) x_p is reconstructed as well",
    "latent_variance": "(d) the latents' variance is higher",
}

WSAE = Arm("wsae", "WSAE, Γ = Var", "weighted")
ARMS = (
    SAE,
    WSAE,
    Arm("wsae_literal", "WSAE, Γ not normalised", "weighted", treatment="literal"),
    Arm("constant", "Γ = cI, same scale", "control", treatment="constant"),
    Arm("shuffled", "Γ shuffled", "control", treatment="shuffled"),
    Arm("opposite", "opposite, α = −1", "control", alpha=-1.0),
    Arm("input", "SAE on Γx", "control", treatment="input"),
    WHITENED,
)


def cells(settings: ToySettings) -> list[Cell]:
    """Every sparsity for every kind of SAE, n_m = n."""
    return [
        cell("learned", sparsity, tied=tied, activation=activation, d_sae=settings.n_features)
        for tied, activation in ROWS
        for sparsity in SPARSITIES
    ]


def verdict(result: Result) -> list[str]:
    """The paper's four claims, each with what its controls do."""
    spreads = [cell["world_facts"]["variance_spread"] for cell in result["cells"]]
    sentences = [
        HOW_TO_READ,
        "In the learned worlds the variances of the input dimensions differ by "
        f"{min(spreads):.1%} to {max(spreads):.1%} (coefficient of variation); the less, the "
        "nearer is Γ to a multiple of I.",
        "L_GT over all cells: "
        + "; ".join(_overall(result, arm) for arm in ARMS if arm != SAE)
        + ".",
    ]
    for measure, claim in CLAIMS.items():
        for tied, activation in ROWS:
            chosen = cells_where(result, tied=tied, activation=activation.label)
            kind = f"{'tied' if tied else 'untied'} {activation.label}"
            told = "; ".join(
                f"{arm.label}: {tally(rows_of(result, arm.name, measure, chosen))}"
                for arm in ARMS
                if arm.name in ("wsae", "wsae_literal", "constant", "shuffled")
            )
            sentences.append(f"{claim}? {kind}: {told}.")
    return sentences


def _overall(result: Result, arm: Arm) -> str:
    return f"{arm.label} {tally(rows_of(result, arm.name, 'l_gt', cells_where(result)))}"


FIG3 = Experiment(
    name="fig3",
    title="SAE and WSAE on the learned world (arXiv 2506.15963, Figure 3)",
    arms=ARMS,
    measures=(*CLAIMS, "l_gt_scaled", "recovered", "dead"),
    sparsities=SPARSITIES,
    cells=cells,
    verdict=verdict,
)
