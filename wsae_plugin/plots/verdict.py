"""What the numbers of `wsae demo` say, in sentences that hold for whatever they are."""

from __future__ import annotations

from typing import Any

Result = dict[str, Any]

_EXPLAINED = ("explained_variance",)
_RECOVERED = ("ce_loss_recovered",)
_LOSS = ("ce_loss_with_sae",)


def is_clear(difference: Result) -> bool:
    """Whether a paired difference is larger than its spread (over batches, and over seeds)."""
    return abs(difference["value"]) > difference["spread"]


def headline(result: Result) -> list[str]:
    """The baseline, and whether weighting did what it is for, in a sentence or two each."""
    baseline = result["arms"][0]
    weighted = [arm for arm in result["arms"] if arm["role"] == "weighted"]
    n = len(weighted)
    held_out = result["held_out"]
    return [
        f"The unweighted SAE explains {_score(baseline, _EXPLAINED)} of the variance of held-out "
        "activations. With its reconstruction in place the model's cross-entropy is "
        f"{_score(baseline, _LOSS)} nats per token, against {held_out['ce_loss']:.4f} without it "
        f"and {held_out['ce_loss_with_ablation']:.4f} with the activations set to 0.",
        f"Under their own Γ, {_clearly(weighted, _own, 1)} of {n} weighted SAEs explain more than "
        f"the unweighted one by more than the spread, and {_clearly(weighted, _own, -1)} less "
        f"({_differences(weighted, _own)}).",
        f"Unweighted, {_clearly(weighted, _plain, 1)} of {n} explain more by more than the spread, "
        f"and {_clearly(weighted, _plain, -1)} less ({_differences(weighted, _plain)}).",
        f"{_clearly(weighted, _loss, -1)} of {n} lower the cross-entropy that the reconstruction "
        f"costs by more than the spread, and {_clearly(weighted, _loss, 1)} raise it "
        f"({_differences(weighted, _loss)} nats per token).",
    ]


def verdict(result: Result) -> list[str]:
    """The headline, then every arm in turn, Γ, and the sparsity."""
    baseline, *others = result["arms"]
    weighted = [arm for arm in others if arm["role"] == "weighted"]
    return [
        *headline(result),
        *(_arm(arm, weighted[-1], baseline) for arm in others),
        *(_concentration(arm) for arm in weighted),
        sparsity(result),
    ]


def sparsity(result: Result) -> str:
    """How many latents are active on a token, and how many never are."""
    counts = "; ".join(
        f"{arm['label']}: L0 {arm['scores']['l0']['value']:.1f}, dead "
        f"{' and '.join(map(str, arm['dead_latents']))}"
        for arm in result["arms"]
    )
    return (
        "Latents active on a held-out token (L0), and how many of "
        f"{result['settings']['d_sae']} never fired on any, seed by seed: {counts}."
    )


def _arm(arm: Result, strongest: Result, baseline: Result) -> str:
    def change(path: tuple[str, ...]) -> str:
        return _change(arm, baseline, path)

    judged = ""
    if arm["role"] == "control":
        path = ("weighted_explained_variance", strongest["name"])
        judged = f"Under the Γ of {strongest['label']} it {change(path)}. "
    return (
        f"{arm['label']}{', a control' if judged else ''}: under its own Γ the explained variance "
        f"{change(_own(arm))}. {judged}Unweighted it {change(_EXPLAINED)}: in the quarter of the "
        f"dimensions that {strongest['label']} weights most it "
        f"{change(('explained_variance_by_weight', 'largest_quarter'))}, in the quarter that it "
        f"weights least it {change(('explained_variance_by_weight', 'smallest_quarter'))}. The "
        f"cross-entropy recovered {change(_RECOVERED)}."
    )


def _concentration(arm: Result) -> str:
    spectrum = arm["spectrum"]
    top = spectrum["weighted_variance_share"]["top_5"]
    spread = (
        f"Γ of {arm['label']}: the largest weight is {spectrum['max_over_median']:.2f} times the "
        f"median, and the weighted variance lies on {spectrum['effective_dimensions']:.0f} "
        f"effective dimensions of {spectrum['d_in']}, the top 5 holding {top:.0%}."
    )
    if spectrum["concentrated"]:
        return spread + (
            " Caution: a handful of dimensions holds more than half of this loss; gamma_clip or a "
            "smaller alpha spreads it."
        )
    return spread


def _change(arm: Result, baseline: Result, path: tuple[str, ...]) -> str:
    """`rose from 0.81 to 0.83 (+0.02 ± 0.01, more than the spread)`."""
    before, after = _at(baseline["scores"], path), _at(arm["scores"], path)
    difference = _at(arm["difference"], path)
    values = f"from {before['value']:.4f} to {after['value']:.4f}"
    if not is_clear(difference):
        return f"went {values} ({signed(difference)}, within the spread)"
    verb = "rose" if difference["value"] > 0 else "fell"
    return f"{verb} {values} ({signed(difference)}, more than the spread)"


def signed(difference: Result) -> str:
    """`+0.0200 ± 0.0100`, with a true minus."""
    value = f"{difference['value']:+.4f}".replace("-", "−")
    return f"{value} ± {difference['spread']:.4f}"


def _clearly(arms: list[Result], path: Any, sign: int) -> int:
    differences = [_at(arm["difference"], path(arm)) for arm in arms]
    return sum(is_clear(d) and d["value"] * sign > 0 for d in differences)


def _differences(arms: list[Result], path: Any) -> str:
    return "; ".join(
        f"α = {arm['alpha']:g}: {signed(_at(arm['difference'], path(arm)))}" for arm in arms
    )


def _own(arm: Result) -> tuple[str, ...]:
    return ("weighted_explained_variance", arm["name"])


def _plain(_: Result) -> tuple[str, ...]:
    return _EXPLAINED


def _loss(_: Result) -> tuple[str, ...]:
    return _LOSS


def _score(arm: Result, path: tuple[str, ...]) -> str:
    score = _at(arm["scores"], path)
    return f"{score['value']:.4f} ± {score['spread']:.4f}"


def _at(scores: Result, path: tuple[str, ...]) -> Result:
    for name in path:
        scores = scores[name]
    return scores
