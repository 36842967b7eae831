"""Which proxy, if any: on a world whose axes mean nothing, and on worlds where they do."""

from __future__ import annotations

from wsae_plugin.toy.batched import top_k
from wsae_plugin.toy.experiments.arms import SAE, TRUE_INTERFERENCE, WHITENED, Arm
from wsae_plugin.toy.experiments.experiment import Cell, Experiment, Result
from wsae_plugin.toy.experiments.grid import WORLDS, cell, n_features_of, sparsity_for
from wsae_plugin.toy.experiments.settings import ToySettings
from wsae_plugin.toy.experiments.words import HOW_TO_READ, cells_where, rows_of, tally

LABELS = {
    "variance": "variance",
    "kurtosis": "kurtosis",
    "interference": "interference, pilot's decoder",
    TRUE_INTERFERENCE: "interference, true W_p",
    "latent_variance": "latent variance",
}
LEARNED_SPARSITIES = (0.97, 0.99)
N_ACTIVE = (6, 2)
"""Active features on average; Top-2 has room for two."""

ARMS = (
    SAE,
    Arm("uniform", "uniform proxy", "control", proxy="uniform"),
    *(Arm(proxy, label, "weighted", proxy=proxy) for proxy, label in LABELS.items()),
    *(
        Arm(f"{proxy}_shuffled", f"{label}, shuffled", "control", 1.0, proxy, "shuffled")
        for proxy, label in LABELS.items()
    ),
    *(
        Arm(f"{proxy}_opposite", f"{LABELS[proxy]}, α = −1", "control", -1.0, proxy)
        for proxy in ("variance", "kurtosis", "latent_variance")
    ),
    *(
        Arm(f"{proxy}_input", f"SAE on Γx, {LABELS[proxy]}", "control", 1.0, proxy, "input")
        for proxy in ("variance", "kurtosis")
    ),
    Arm("constant", "Γ = cI, scale of variance", "control", treatment="constant"),
    WHITENED,
)


def cells(settings: ToySettings) -> list[Cell]:
    """Every world, with few and with many active features, for tied and untied SAEs."""
    return [
        cell(
            world,
            LEARNED_SPARSITIES[level]
            if world == "learned"
            else sparsity_for(world, n_active, settings),
            tied=tied,
            activation=top_k(2),
            d_sae=n_features_of(world, settings),
        )
        for world in WORLDS
        for tied in (True, False)
        for level, n_active in enumerate(N_ACTIVE)
    ]


def verdict(result: Result) -> list[str]:
    """For each world, what each proxy does to L_GT, beside its shuffled self."""
    sentences = [HOW_TO_READ]
    for world, description in WORLDS.items():
        chosen = cells_where(result, world=world)
        spread = max(result["cells"][i]["world_facts"]["variance_spread"] for i in chosen)
        for proxy, label in LABELS.items():
            own = tally(rows_of(result, proxy, "l_gt_scaled", chosen))
            shuffled = tally(rows_of(result, f"{proxy}_shuffled", "l_gt_scaled", chosen))
            sentences.append(
                f"World '{description}' (variances differ by {spread:.0%}), {label}, α = 1: L_GT "
                f"with fitted scales is {own}; shuffled: {shuffled}."
            )
        whitened = tally(rows_of(result, WHITENED.name, "l_gt_scaled", chosen))
        sentences.append(f"World '{description}', whitening instead of any Γ: {whitened}.")
    return sentences


PROXIES_EXPERIMENT = Experiment(
    name="proxies",
    title="Proxies for Γ, α = 1, on worlds with and without privileged axes",
    arms=ARMS,
    measures=("l_gt", "l_gt_scaled", "recovered", "reconstruction_error"),
    sparsities=LEARNED_SPARSITIES,
    cells=cells,
    verdict=verdict,
)
