"""What a comparison's numbers say, in sentences that hold for whatever they are."""

from __future__ import annotations

from typing import Any

from wsae_plugin.report.text import name, number, signed
from wsae_plugin.scores import OPTIMALITY

Summary = dict[str, Any]

_NAMED = 3
_ENOUGH_SEEDS = 5
_NO_MATTER = {
    "shuffled": "no evidence, there, that it matters which dimensions are weighted",
    "constant": "no evidence, there, that uneven weights matter rather than the loss's scale",
}


_TOPICS = {
    **dict.fromkeys(("explained_variance", "ce_loss_recovered", "kl_divergence"), "reconstruction"),
    "core": "reconstruction",
    **dict.fromkeys(("sparse_probing", "sae_probes"), "probing scores"),
    OPTIMALITY: "the distance from an optimum",
}
"""Metric, or the last part of its eval's name → what several of them measure together."""
_MOVES = {"better": "made {} better", "worse": "made {} worse"}
_MOVES_OF = {
    "dead latents": {"better": "left fewer latents dead", "worse": "left more latents dead"},
    _TOPICS[OPTIMALITY]: {
        "better": "moved the SAEs nearer to an optimum",
        "worse": "moved the SAEs farther from an optimum",
    },
}
"""Topic → what is said of it in place of better and worse."""


def verdict(summary: Summary) -> list[str]:
    """One plain sentence on what weighting did; then for every arm, beside its controls, the tests
    that it is made from, and what stands against it.

    Args:
        summary: report.json but for `verdict`.
    """
    few = summary["statistics"]["n_seeds"] < 2
    weighted = [arm for arm in summary["arms"] if arm["role"] == "weighted" and not few]
    return [
        _too_few_seeds(summary) if few else _in_one_sentence(summary, weighted),
        *_unmatched(summary),
        *_mismatches(summary),
        *(sentence for arm in weighted for sentence in _arm(summary, arm)),
        *_controls_alone(summary),
        *_power(summary),
        *_over_batches(summary),
        *_sparsity(summary),
        *_gaps(summary),
    ]


def _unmatched(summary: Summary) -> list[str]:
    """In what SAEs that nobody planned to compare were trained differently, run by run alike."""
    told: dict[str, list[str]] = {}
    for run, differing in summary["unmatched"].items():
        said = (
            f"{name} ({' and '.join('not known' if v is None else str(v) for v in both)})"
            for name, both in differing.items()
        )
        told.setdefault(", ".join(said), []).append(run)
    return [
        f"Not matched: {_some(runs)} and what it is compared with differ in {what}, so "
        "weighting need not be what makes a difference."
        for what, runs in told.items()
    ]


def tested(summary: Summary, arm: str) -> list[tuple[Summary, Summary]]:
    """(metric, the arm's entry) of every headline metric in which the arm was tested."""
    return [
        (metric, metric["arms"][arm])
        for metric in summary["metrics"]
        if arm in metric["arms"] and "outcome" in metric["arms"][arm]["difference"]
    ]


def _in_one_sentence(summary: Summary, weighted: list[Summary]) -> str:
    """`Weighting by the variance made reconstruction worse, with no clear change in dead latents.`

    A topic's move is that of its clear metrics, which are named one by one where they disagree; how
    many arms share it is said where not all do.
    """
    arms = [arm for arm in weighted if tested(summary, arm["name"])]
    if not arms:
        return "No weighted arm has a headline metric that was measured in two seeds or more."
    cells = [(arm["name"], *cell) for arm in arms for cell in tested(summary, arm["name"])]
    n_seeds = min(len(entry["seeds"]) for *_, entry in cells)
    clear = {(_topic(summary, metric), e["difference"]["outcome"]) for _, metric, e in cells}
    found: dict[str, dict[str, list[tuple[str, Summary]]]] = {}
    for arm, metric, entry in cells:
        topic = _topic(summary, metric)
        agrees = not {(topic, "better"), (topic, "worse")} <= clear
        moves = found.setdefault(topic if agrees else name(summary, metric), {})
        moves.setdefault(entry["difference"]["outcome"], []).append((arm, entry))
    changes: dict[str, str] = {}
    for topic, moves in found.items():
        n_measured = len({arm for entries in moves.values() for arm, _ in entries})
        for outcome, text in _MOVES_OF.get(topic, _MOVES).items():
            if moved := moves.get(outcome):
                n = len({arm for arm, _ in moved})
                share = "" if n == n_measured else f" in {n} of {n_measured} arms"
                changes[f"{text.format(topic)}{share}"] = _not_beyond_shuffled(summary, moved)
    (note, *others) = set(changes.values()) or {""}
    if note and not others and len(changes) > 1:
        told = f"{_and([*changes])}, each {note}"
    else:
        told = _and([f"{text} ({note})" if note else text for text, note in changes.items()])
    same = [topic for topic, moves in found.items() if set(moves) == {"same"}]
    if not changes:
        n_metrics = len({(metric["eval"], metric["metric"]) for _, metric, _ in cells})
        told = f"changed none of {_count(n_metrics, 'tested score')} clearly"
    elif same:
        told = f"{told}, with no clear change in {_and(same, 'or')}"
    sentence = f"{_subject(summary, arms)} {told}"
    if n_seeds < _ENOUGH_SEEDS:
        sentence = f"{sentence}, as far as {n_seeds} seeds can tell"
    if any(arm["l0"] and arm["l0"]["mismatch"] for arm in arms):
        sentence = f"{sentence}; but L0 is not matched"
    if summary["unmatched"]:
        sentence = f"{sentence}; but the trainings are not matched"
    return f"{sentence[:1].upper()}{sentence[1:]}."


def _subject(summary: Summary, arms: list[Summary]) -> str:
    if not all(arm["alpha"] for arm in arms):
        baseline = _label(summary, summary["compared"]["baseline"])
        return arms[0]["label"] if len(arms) == 1 else f"the {len(arms)} arms beside {baseline}"
    (proxy, *others) = {arm["proxy"] for arm in arms}
    is_word = proxy and proxy != "file" and proxy.replace("_", "").isalpha()
    # A negative exponent weights by the inverse.
    is_word = is_word and not others and all(arm["alpha"] > 0 for arm in arms)
    return f"weighting by the {proxy.replace('_', ' ')}" if is_word else "weighting"


def _topic(summary: Summary, metric: Summary) -> str:
    whole = name(summary, metric)
    return _TOPICS.get(metric["metric"]) or _TOPICS.get(metric["eval"].split("/")[-1]) or whole


def _not_beyond_shuffled(summary: Summary, cells: list[tuple[str, Summary]]) -> str:
    """What stands against a change: that nowhere is it clearly more than a shuffled control's."""
    shuffled = {arm["name"] for arm in summary["arms"] if arm["control"] == "shuffled"}
    outcomes = {
        (arm, against["outcome"])
        for arm, entry in cells
        for control, against in entry["against_controls"].items()
        if control in shuffled
    }
    if not outcomes or "beyond" in {outcome for _, outcome in outcomes}:
        return ""
    everywhere = {arm for arm, _ in outcomes} == {arm for arm, _ in cells}
    where = "" if everywhere else " where they were tried"
    return f"not clearly beyond what shuffled weights did{where}"


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
                found.setdefault(outcome, []).append(name(summary, metric))
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
    fewest = {
        arm["label"]: min(len(entry["seeds"]) for _, entry in cells)
        for arm in summary["arms"]
        if (cells := tested(summary, arm["name"]))
    }
    fewer = [f"{label} in as few as {n}" for label, n in fewest.items() if n < n_seeds]
    told = [f"Not every score was measured in all {n_seeds} seeds: {'; '.join(fewer)}."]
    if n_seeds < _ENOUGH_SEEDS and sds is not None:
        told.append(
            f"{n_seeds} seeds are few: a difference is called clear only from about {sds:.0f} of "
            "its standard deviations over seeds on, so “no clear difference” does not mean that "
            "there is none."
        )
    return told if fewer else told[1:]


def _over_batches(summary: Summary) -> list[str]:
    """What few seeds say as they are: differences beyond the spread over held-out batches."""
    sentences: list[str] = []
    for arm in summary["arms"]:
        found = [
            f"{name(summary, metric)} {signed(entry['difference']['mean'], half)} ± "
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
    unmeasured = [arm["label"] for arm in others if arm["l0"] is None]
    sentences: list[str] = []
    if relative and max(relative) <= summary["statistics"]["l0_tolerance"]:
        sentences.append(
            f"L0 is matched: within {_percent(max(relative))} of the baseline's in every "
            f"{'other ' if unmeasured else ''}arm."
        )
    if unmeasured:
        which = "; ".join(unmeasured)
        sentences.insert(0, f"No pair has an L0, so it is not known to be matched, for {which}.")
    for match in summary["l0_matching"]:
        sentences.append(
            f"{match['sae']}: {match['field']} {match['found']:.4g} in place of "
            f"{match['written']:.4g}, searched for as what gives its baseline's L0 in short "
            f"trainings ({match['l0']:.1f}, and {match['baseline_l0']:.1f})."
        )
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
        f"{name(summary, metric)} "
        f"{signed(entry['difference']['mean'], entry['difference']['mean'])}"
        for metric, entry in ordered[:_NAMED]
    ]
    return "; ".join([*named, *_more(cells)])


def _some(names: list[str]) -> str:
    """`a, b, c, 7 more`."""
    return ", ".join([*names[:_NAMED], *_more(names)])


def _more(all_of_them: list[Any]) -> list[str]:
    n = len(all_of_them) - _NAMED
    return [f"{n} more"] if n > 0 else []


def _label(summary: Summary, arm: str) -> str:
    return next(each["label"] for each in summary["arms"] if each["name"] == arm)


def _and(parts: list[str], word: str = "and") -> str:
    """`a, b and c`."""
    return f" {word} ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
