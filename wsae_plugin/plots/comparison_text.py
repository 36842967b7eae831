"""The words and numbers that the page, the Markdown and the terminal share."""

from __future__ import annotations

from typing import Any

from wsae_plugin.saebench.verdict import number

Report = dict[str, Any]

OUTCOMES = {"better": "✓ better", "worse": "✗ worse", "same": "· no clear difference"}
_LEANS = {"better": "leans better", "worse": "leans worse"}
_BESIDE = {
    "beyond": "beyond {}",
    "as much": "{} as much",
    "more": "{} further",
    "undecided": "{} undecided",
}


def outcome_text(entry: Report) -> str:
    """`✓ better`; empty for what was not tested."""
    return OUTCOMES.get(entry["difference"].get("outcome"), "")


def remarks(entry: Report, kinds: dict[str, str]) -> list[str]:
    """Where an unclear difference leans, and how a clear one stands to the controls'.

    Args:
        entry: Of an arm in a metric.
        kinds: Control → `shuffled` or `constant`.
    """
    difference = entry["difference"]
    if difference.get("lean"):
        return [_LEANS[difference["lean"]]]
    if difference.get("outcome", "same") == "same":
        return []
    return [
        _BESIDE[cell["outcome"]].format(kinds[control])
        for control, cell in entry["against_controls"].items()
    ]


def control_kinds(report: Report) -> dict[str, str]:
    """Control → its kind, for `remarks`."""
    return {arm["name"]: arm["control"] for arm in report["arms"] if arm["control"]}


def counts_text(entry: Report) -> str:
    """`12 / 3 / 5` wins, ties and losses; empty for what has no better way."""
    if entry["wins"] is None:
        return ""
    return f"{entry['wins']} / {entry['ties']} / {entry['losses']}"


def level_text(level: Report) -> str:
    """`0.861 ± 0.002`: mean and standard deviation over seeds."""
    if level["mean"] is None:
        return "–"
    if level["sd"] is None:
        return number(level["mean"])
    return f"{number(level['mean'], level['sd'])} ± {number(level['sd'], level['sd'])}"


def how_intervals_are_made(report: Report) -> str:
    """One sentence or two on the unit, the interval and the test."""
    found = report["statistics"]
    n = found["n_seeds"]
    if n < 2:
        return "One seed: no intervals and no tests."
    return (
        "Differences are taken within pairs (same data in the same order; SAEs of one architecture "
        "and size also start from the same weights) and averaged over layers and sparsities within "
        "each seed, because runs of one seed share their data. Brackets hold Student's 95 % "
        f"interval of the mean over the {n} seeds, whose standard deviation is taken to be no "
        "smaller than the smallest step between two runs' values of the metric. Better or worse is "
        "said only if Student's paired test over seeds stays below 0.05 after Holm's correction "
        f"({_tests(found['n_tests'])}) and the difference is larger than the measurement's noise; "
        "“leans” drops the correction." + _needed(found["sds_to_be_clear"])
    )


def _needed(sds: float | None) -> str:
    if sds is None:
        return ""
    shown = f"{sds:.0f}" if sds >= 10 else f"{sds:.1f}"
    return f" To pass, the surest must be about {shown} of its standard deviations over seeds."


def _tests(n_tests: dict[str, int]) -> str:
    """`11 metrics × 2 weighted arms` would be wrong where a metric is missing in an arm."""
    named = {
        "weighted": "weighted arms",
        "control": "controls",
        "against controls": "arm − control",
    }
    return ", ".join(f"{n} tests of {named[name]}" for name, n in n_tests.items() if n)
