"""What a comparison's numbers say, in sentences that hold for whatever they are."""

from __future__ import annotations

from typing import Any

from wsae_plugin.report.text import number, signed

Summary = dict[str, Any]

_NAMED = 3
_ENOUGH_SEEDS = 5
_NO_MATTER = {
    "shuffled": "no evidence, there, that it matters which dimensions are weighted",
    "constant": "no evidence, there, that uneven weights matter rather than the loss's scale",
}


def verdict(summary: Summary) -> list[str]:
    """What weighting did, whether its controls do it too, and what stands against it.

    Args:
        summary: report.json but for `verdict`.
    """
    few = summary["statistics"]["n_seeds"] < 2
    weighted = [arm for arm in summary["arms"] if arm["role"] == "weighted" and not few]
    return [
        *([_too_few_seeds(summary)] if few else []),
        *_mismatches(summary),
        *(sentence for arm in weighted for sentence in _arm(summary, arm)),
        *_controls_alone(summary),
        *_power(summary),
        *_over_batches(summary),
        *_sparsity(summary),
        *_gaps(summary),
    ]


def tested(summary: Summary, arm: str) -> list[tuple[Summary, Summary]]:
    """(metric, the arm's entry) of every headline metric in which the arm was tested."""
    return [
        (metric, metric["arms"][arm])
        for metric in summary["metrics"]
        if arm in metric["arms"] and "outcome" in metric["arms"][arm]["difference"]
    ]


def _arm(summary: Summary, arm: Summary) -> list[str]:
    cells = tested(summary, arm["name"])
    if not cells:
        return [f"{arm['label']}: no headline metric was measured in two seeds or more."]
    better, worse, same = (
        [cell for cell in cells if cell[1]["difference"]["outcome"] == outcome]
        for outcome in ("better", "worse", "same")
    )
    n = _count(len(cells), "metric")
    if len(same) == len(cells):
        return [f"{arm['label']}: no clear difference in any of {n}{_leaning(summary, same)}."]
    parts = [
        f"clearly {word} in {len(group)} ({_list(summary, group)})" if group else f"{word} in none"
        for word, group in (("better", better), ("worse", worse))
    ]
    rest = f"; no clear difference in {len(same)}{_leaning(summary, same)}" if same else ""
    sentence = f"{arm['label']}: of {n}, {', '.join(parts)}{rest}."
    return [sentence, *_beside_controls(summary, arm, better + worse)]


def _beside_controls(
    summary: Summary, arm: Summary, clear: list[tuple[Summary, Summary]]
) -> list[str]:
    """Whether the arm's clear effects are more than those of its controls."""
    sentences: list[str] = []
    kinds = {each["name"]: each["control"] for each in summary["arms"]}
    if arm["alpha"] and "shuffled" not in [kinds[control] for control in arm["controls"]]:
        sentences.append(
            f"{arm['label']} has no shuffled control, so it is open whether it matters for these "
            "effects which dimensions are weighted."
        )
    for control in arm["controls"]:
        found: dict[str, list[str]] = {}
        for metric, entry in clear:
            if control in entry["against_controls"]:
                outcome = entry["against_controls"][control]["outcome"]
                found.setdefault(outcome, []).append(_name(summary, metric))
        moves = [
            text.format("; ".join(found[outcome]))
            for outcome, text in (("as much", "as much in {}"), ("more", "further in {}"))
            if outcome in found
        ]
        parts: list[str] = []
        if "beyond" in found:
            parts.append(f"clearly beyond it in {'; '.join(found['beyond'])}.")
        if moves:
            parts.append(
                f"The {kinds[control]} control moves {', and '.join(moves)}: "
                f"{_NO_MATTER[kinds[control]]}."
            )
        if "undecided" in found:
            parts.append(
                f"It moves less, but is not told apart, in {'; '.join(found['undecided'])}."
            )
        if parts:
            sentences.append(f"{arm['label']} beside {_label(summary, control)}: {' '.join(parts)}")
    return sentences


def _leaning(summary: Summary, same: list[tuple[Summary, Summary]]) -> str:
    """`, leaning better in 1 (…)`: what would be clear if nothing else had been tested."""
    parts: list[str] = []
    for lean in ("better", "worse"):
        group = [cell for cell in same if cell[1]["difference"]["lean"] == lean]
        if group:
            parts.append(f"{lean} in {len(group)} ({_list(summary, group)})")
    return f", leaning {' and '.join(parts)}" if parts else ""


def _controls_alone(summary: Summary) -> list[str]:
    counts: list[str] = []
    for arm in summary["arms"]:
        outcomes = [e["difference"]["outcome"] for _, e in tested(summary, arm["name"])]
        if arm["role"] == "control" and outcomes:
            better, worse = outcomes.count("better"), outcomes.count("worse")
            moved = f"better in {better}, worse in {worse}" if better + worse else "clear in none"
            counts.append(f"{arm['label']} {moved} of {len(outcomes)}")
    return [f"Controls against the baseline: {'; '.join(counts)}."] if counts else []


def _power(summary: Summary) -> list[str]:
    n_seeds, sds = (summary["statistics"][n] for n in ("n_seeds", "sds_to_be_clear"))
    if n_seeds >= _ENOUGH_SEEDS or sds is None:
        return []
    return [
        f"{n_seeds} seeds are few: a difference is called clear only from about {sds:.0f} of its "
        "standard deviations over seeds on, so “no clear difference” does not mean that there is "
        "none."
    ]


def _over_batches(summary: Summary) -> list[str]:
    """What few seeds say as they are: differences beyond the spread over held-out batches."""
    sentences: list[str] = []
    for arm in summary["arms"]:
        found = [
            f"{_name(summary, metric)} {signed(entry['difference']['mean'], half)} ± "
            f"{number(half, half)}"
            for metric in summary["metrics"]
            if metric["headline"] and (entry := metric["arms"].get(arm["name"]))
            if (half := entry["over_batches"]) is not None
            and abs(entry["difference"]["mean"]) > half
        ]
        if found and arm["role"] == "weighted":
            sentences.append(f"{arm['label']} {'; '.join(found)}")
    if not sentences or summary["statistics"]["n_seeds"] >= _ENOUGH_SEEDS:
        return []
    return [
        "Of these seeds alone, by more than half the 95 % interval over held-out batches (another "
        "seed may say otherwise, and of twenty differences that are none, about one would be "
        "named): "
        f"{'. '.join(sentences)}."
    ]


def _mismatches(summary: Summary) -> list[str]:
    tolerance = f"{100 * summary['statistics']['l0_tolerance']:g} %"
    baseline = next(arm for arm in summary["arms"] if arm["role"] == "baseline")
    return [
        f"Caution: {arm['label']} is not matched in sparsity: its L0 is {arm['l0']['mean']:.1f} "
        f"against {baseline['l0']['mean']:.1f} (mean |ΔL0| / L0 "
        f"{_percent(arm['l0']['relative_difference'])}, over {tolerance}), and most metrics follow "
        "sparsity."
        for arm in summary["arms"]
        if arm["role"] != "baseline" and arm["l0"] is not None and arm["l0"]["mismatch"]
    ]


def _sparsity(summary: Summary) -> list[str]:
    others = [arm for arm in summary["arms"] if arm["role"] != "baseline"]
    relative = [arm["l0"]["relative_difference"] for arm in others if arm["l0"] is not None]
    sentences: list[str] = []
    if relative and max(relative) <= summary["statistics"]["l0_tolerance"]:
        sentences.append(
            f"L0 is matched: within {_percent(max(relative))} of the baseline's in every arm."
        )
    for match in summary["l0_matching"]:
        sentences.append(
            f"{match['sae']}: {match['field']} {match['found']:.4g} in place of "
            f"{match['written']:.4g}, searched for as what gives its baseline's L0 in short "
            f"trainings ({match['l0']:.1f}, and {match['baseline_l0']:.1f})."
        )
    unmeasured = [arm["label"] for arm in others if arm["l0"] is None]
    if unmeasured:
        sentences.append(f"L0 was not measured, so not matched, for {'; '.join(unmeasured)}.")
    return sentences


def _gaps(summary: Summary) -> list[str]:
    sentences: list[str] = []
    if n := len(summary["refused_pairs"]):
        sentences.append(
            f"{_count(n, 'run')} could not be paired with a baseline and "
            f"{'is' if n == 1 else 'are'} left out (each is named with the reason)."
        )
    if summary["missing"]:
        missing = "Not everything has been measured (what is missing is named with the reason)."
        sentences.append(missing)
    return sentences


def _too_few_seeds(summary: Summary) -> str:
    if summary["statistics"]["n_seeds"] == 0:
        return "No run could be paired with a baseline, so nothing is compared."
    return (
        "One seed: the differences are shown without intervals, and none can be called clear; at "
        "least two seeds are needed, five are better."
    )


def _list(summary: Summary, cells: list[tuple[Summary, Summary]]) -> str:
    """The metrics with their differences, the surest first."""
    ordered = sorted(cells, key=lambda cell: cell[1]["difference"]["p"])
    named = [
        f"{_name(summary, metric)} "
        f"{signed(entry['difference']['mean'], entry['difference']['mean'])}"
        for metric, entry in ordered[:_NAMED]
    ]
    more = len(cells) - len(named)
    return "; ".join(named) + (f"; {more} more" if more > 0 else "")


def _name(summary: Summary, metric: Summary) -> str:
    """The metric's label, with its eval if another headline metric has the same one."""
    labels = [each["label"] for each in summary["metrics"] if each["headline"]]
    whose = "" if labels.count(metric["label"]) < 2 else f" ({metric['eval'].split('/')[-1]})"
    return f"{metric['label']}{whose}"


def _label(summary: Summary, arm: str) -> str:
    return next(each["label"] for each in summary["arms"] if each["name"] == arm)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
