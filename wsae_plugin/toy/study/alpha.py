"""How strong, and which sign: α from −1 to 2."""

from __future__ import annotations

from functools import partial

from wsae_plugin.toy.study.arms import SAE, WHITENED, ToyArm
from wsae_plugin.toy.study.cells import figure_study, in_every_world
from wsae_plugin.toy.study.study import Result
from wsae_plugin.toy.study.words import counts, in_three_sentences, rows_of, score, signed

ALPHAS = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)
CONTROL_ALPHAS = (-1.0, 1.0, 2.0)
PROXIES = ("variance", "kurtosis")
METRIC = "l_gt_scaled"

ARMS = (
    SAE,
    *(
        ToyArm(f"{proxy}_{alpha:g}", f"{proxy}, α = {alpha:g}", "weighted", None, alpha, proxy)
        for proxy in PROXIES
        for alpha in ALPHAS
        if alpha != 0
    ),
    *(
        ToyArm(
            f"{proxy}_{treatment}_{alpha:g}",
            f"{proxy}, {treatment}, α = {alpha:g}",
            "control",
            alpha=alpha,
            proxy=proxy,
            treatment=treatment,
        )
        for proxy in PROXIES
        for treatment in ("shuffled", "input", "constant")
        for alpha in CONTROL_ALPHAS
    ),
    WHITENED,
)


def evidence(result: Result) -> list[str]:
    """For each world and proxy the best α, and whether it is clearly better than α = 0."""
    numbers = range(len(result["cells"]))
    better = [
        row
        for alpha in ALPHAS
        if alpha > 0
        for row in rows_of(result, f"variance_{alpha:g}", METRIC, numbers)
    ]
    lower, higher = counts(better)
    return [
        *(_sentence(result, number, proxy) for number in numbers for proxy in PROXIES),
        f"Of {len(better)} cells with the paper's proxy (variance) and α > 0, L_GT with fitted "
        f"scales is clearly lower than at α = 0 in {lower} and clearly higher in {higher}.",
    ]


def _sentence(result: Result, number: int, proxy: str) -> str:
    cell = result["cells"][number]
    arms = {alpha: f"{proxy}_{alpha:g}" if alpha else SAE.name for alpha in ALPHAS}
    best = min(ALPHAS, key=lambda alpha: cell["scores"][arms[alpha]][METRIC]["mean"])
    where = f"{result['worlds'][cell['world']]}, {'tied' if cell['tied'] else 'untied'}, {proxy}"
    plain = score(result, number, SAE.name, METRIC)
    if best == 0:
        return f"{where}: no α has a lower L_GT (fitted scales) than α = 0 ({plain})."
    (row,) = rows_of(result, arms[best], METRIC, [number])
    clear = "clearly lower" if row["clear"] else "not clearly different"
    return (
        f"{where}: L_GT (fitted scales) is lowest at α = {best:g}, "
        f"{score(result, number, arms[best], METRIC)} against {plain} at α = 0, "
        f"{clear} ({signed(row['mean'])})."
    )


ALPHA = figure_study(
    name="alpha",
    title="The exponent α, on worlds with and without privileged axes",
    arms=ARMS,
    measures=("l_gt", METRIC, "recovered", "reconstruction_error"),
    cells=partial(in_every_world, n_active=(2,)),
    figures=("alpha",),
    verdict=partial(in_three_sentences, measure=METRIC, label="L_GT with fitted scales"),
    evidence=evidence,
)
