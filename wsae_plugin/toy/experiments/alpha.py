"""How strong, and which sign: α from −1 to 2."""

from __future__ import annotations

from wsae_plugin.toy.batched import top_k
from wsae_plugin.toy.experiments.arms import SAE, WHITENED, Arm
from wsae_plugin.toy.experiments.experiment import Cell, Experiment, Result
from wsae_plugin.toy.experiments.grid import WORLDS, cell, n_features_of, sparsity_for
from wsae_plugin.toy.experiments.settings import ToySettings
from wsae_plugin.toy.experiments.words import cells_where, rows_of, score, signed

ALPHAS = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)
CONTROL_ALPHAS = (-1.0, 1.0, 2.0)
PROXIES = ("variance", "kurtosis")
LEARNED_SPARSITY = 0.99
N_ACTIVE = 2


def arm_name(proxy: str, alpha: float, treatment: str = "weights") -> str:
    """The name of an arm of this experiment; at α = 0 the plain SAE's."""
    if alpha == 0:
        return SAE.name
    suffix = "" if treatment == "weights" else f"_{treatment}"
    return f"{proxy}{suffix}_{alpha:g}"


ARMS = (
    SAE,
    *(
        Arm(arm_name(proxy, alpha), f"{proxy}, α = {alpha:g}", "weighted", alpha, proxy)
        for proxy in PROXIES
        for alpha in ALPHAS
        if alpha != 0
    ),
    *(
        Arm(
            arm_name(proxy, alpha, treatment),
            f"{proxy}, {treatment}, α = {alpha:g}",
            "control",
            alpha,
            proxy,
            treatment,
        )
        for proxy in PROXIES
        for treatment in ("shuffled", "input", "constant")
        for alpha in CONTROL_ALPHAS
    ),
    WHITENED,
)


def cells(settings: ToySettings) -> list[Cell]:
    """Every world, for tied and untied SAEs."""
    return [
        cell(
            world,
            LEARNED_SPARSITY if world == "learned" else sparsity_for(world, N_ACTIVE, settings),
            tied=tied,
            activation=top_k(2),
            d_sae=n_features_of(world, settings),
        )
        for world in WORLDS
        for tied in (True, False)
    ]


def verdict(result: Result) -> list[str]:
    """For each world and proxy the best α, and whether it is clearly better than α = 0."""
    sentences: list[str] = []
    for number, facts in enumerate(result["cells"]):
        for proxy in PROXIES:
            sentences.append(_sentence(result, number, facts, proxy))
    better = [
        row
        for alpha in ALPHAS
        if alpha > 0
        for row in rows_of(result, arm_name("variance", alpha), "l_gt_scaled", cells_where(result))
    ]
    clear = sum(row["clear"] and row["mean"] < 0 for row in better)
    worse = sum(row["clear"] and row["mean"] > 0 for row in better)
    sentences.append(
        f"Of {len(better)} cells with the paper's proxy (variance) and α > 0, L_GT with fitted "
        f"scales is clearly lower than at α = 0 in {clear} and clearly higher in {worse}."
    )
    return sentences


def _sentence(result: Result, number: int, facts: Result, proxy: str) -> str:
    means = {
        alpha: facts["scores"][arm_name(proxy, alpha)]["l_gt_scaled"]["mean"] for alpha in ALPHAS
    }
    best = min(means, key=lambda alpha: means[alpha])
    where = f"{WORLDS[facts['world']]}, {'tied' if facts['tied'] else 'untied'}, {proxy}"
    plain = score(result, number, SAE.name, "l_gt_scaled")
    if best == 0:
        return f"{where}: no α has a lower L_GT (fitted scales) than α = 0 ({plain})."
    (row,) = rows_of(result, arm_name(proxy, best), "l_gt_scaled", [number])
    clear = "clearly lower" if row["clear"] else "not clearly different"
    return (
        f"{where}: L_GT (fitted scales) is lowest at α = {best:g}, "
        f"{score(result, number, arm_name(proxy, best), 'l_gt_scaled')} against {plain} at α = 0, "
        f"{clear} ({signed(row['mean'])})."
    )


ALPHA = Experiment(
    name="alpha",
    title="The exponent α, on worlds with and without privileged axes",
    arms=ARMS,
    measures=("l_gt", "l_gt_scaled", "recovered", "reconstruction_error"),
    sparsities=(LEARNED_SPARSITY,),
    cells=cells,
    verdict=verdict,
)
