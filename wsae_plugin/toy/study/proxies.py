"""Which proxy, if any: on a world whose axes mean nothing, and on worlds where they do."""

from __future__ import annotations

from functools import partial

from wsae_plugin.toy.study.arms import SAE, TRUE_INTERFERENCE, WHITENED, ToyArm
from wsae_plugin.toy.study.cells import figure_study, in_every_world
from wsae_plugin.toy.study.study import Result
from wsae_plugin.toy.study.words import HOW_TO_READ, cells_where, in_three_sentences, rows_of, tally

LABELS = {
    "variance": "variance",
    "kurtosis": "kurtosis",
    "interference": "interference, pilot's decoder",
    TRUE_INTERFERENCE: "interference, true W_p",
    "latent_variance": "latent variance",
}
N_ACTIVE = (6, 2)
"""Active features on average; Top-2 has room for two."""

ARMS = (
    SAE,
    ToyArm("uniform", "uniform proxy", "control", proxy="uniform"),
    *(ToyArm(proxy, label, "weighted", proxy=proxy) for proxy, label in LABELS.items()),
    *(
        ToyArm(f"{s}_shuffled", f"{label}, shuffled", "control", proxy=s, treatment="shuffled")
        for s, label in LABELS.items()
    ),
    *(
        ToyArm(f"{s}_opposite", f"{LABELS[s]}, α = −1", "control", alpha=-1.0, proxy=s)
        for s in ("variance", "kurtosis", "latent_variance")
    ),
    *(
        ToyArm(f"{s}_input", f"SAE on Γx, {LABELS[s]}", "control", proxy=s, treatment="input")
        for s in ("variance", "kurtosis")
    ),
    ToyArm("constant", "Γ = cI, scale of variance", "control", treatment="constant"),
    WHITENED,
)


def evidence(result: Result) -> list[str]:
    """For each world, what each proxy does to L_GT, beside its shuffled self."""
    sentences = [HOW_TO_READ]
    for world, description in result["worlds"].items():
        chosen = cells_where(result, world=world)
        spread = max(result["cells"][i]["world_facts"]["variance_spread"] for i in chosen)
        told = {
            arm.name: tally(rows_of(result, arm.name, "l_gt_scaled", chosen)) for arm in ARMS[1:]
        }
        sentences += [
            f"World '{description}' (variances differ by {spread:.0%}), {label}, α = 1: L_GT with "
            f"fitted scales is {told[proxy]}; shuffled: {told[f'{proxy}_shuffled']}."
            for proxy, label in LABELS.items()
        ]
        whitened = told[WHITENED.name]
        sentences.append(f"World '{description}', whitening instead of any Γ: {whitened}.")
    return sentences


PROXIES_STUDY = figure_study(
    name="proxies",
    title="Proxies for Γ, α = 1, on worlds with and without privileged axes",
    arms=ARMS,
    measures=("l_gt", "l_gt_scaled", "recovered", "reconstruction_error"),
    cells=partial(in_every_world, n_active=N_ACTIVE),
    figures=("proxies",),
    verdict=partial(in_three_sentences, measure="l_gt_scaled", label="L_GT with fitted scales"),
    evidence=evidence,
)
