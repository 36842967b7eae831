"""The words and numbers that the page, the Markdown, the terminal and the verdict share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

Report = dict[str, Any]

ARROWS = {"up": "↑", "down": "↓", "none": ""}

OUTCOMES = {"better": "✓ better", "worse": "✗ worse", "same": "· no clear difference"}
_LEANS = {"better": "leans better", "worse": "leans worse"}
_BESIDE = {
    "beyond": "beyond {}",
    "as much": "{} as much",
    "more": "{} further",
    "undecided": "{} undecided",
}


def signed(value: float, scale: float | None = None) -> str:
    """A difference with its sign, a true minus, and two digits of `scale`."""
    return number(value, scale, sign="+")


def number(value: float, scale: float | None = None, sign: str = "") -> str:
    """`value` to as many decimals as show two digits of `scale` (None: four of the value)."""
    if scale is None or scale == 0:
        text = format(value, f"{sign}.4g")
    else:
        decimals = min(max(1 - int(f"{abs(scale):e}".split("e")[1]), 0), 8)
        # What rounds to 0 has no sign.
        text = format(round(value, decimals) + 0.0, f"{sign},.{decimals}f")
    return text.replace("-", "−")


def optional(value: float | None) -> str:
    """Three digits of a noise, chance or control; empty where there is none."""
    return "" if value is None else number(value, value / 10)


def difference_text(difference: Report) -> str:
    """`+0.021 [0.015, 0.027]`; without the interval for one seed."""
    mean, interval = interval_text(difference)
    return f"{mean} {interval}".rstrip()


def interval_text(difference: Report) -> tuple[str, str]:
    """`+0.021` and `[0.015, 0.027]`; the latter empty for one seed."""
    mean = difference["mean"]
    if "low" not in difference:
        return signed(mean, mean), ""
    half = (difference["high"] - difference["low"]) / 2
    low, high = (number(difference[name], half) for name in ("low", "high"))
    return signed(mean, half), f"[{low}, {high}]"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table of cells that are Markdown already.

    Args:
        headings: of the columns.
        rows: one cell a column.
        left: how many columns, from the first, are aligned to the left; the others to the right.
    """
    rule = [":--" if column < left else "--:" for column in range(len(headings))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows))


def eval_label(name: str) -> str:
    """`SAEBench absorption` for `saebench/absorption`."""
    if name == "held_out":
        return "held-out data"
    kind, _, eval_name = name.partition("/")
    shown = {"saebench": f"SAEBench {eval_name}", "corrected": f"{eval_name}, corrected"}
    return shown.get(kind, name).replace("_", " ")


def headline(report: Report) -> list[Report]:
    """The metrics of the main table: those that were measured in a pair, if there are pairs."""
    n_pairs = report["compared"]["n_pairs"]
    return [
        metric
        for metric in report["metrics"]
        if metric["headline"] and (metric["baseline"]["mean"] is not None or not n_pairs)
    ]


def title(metric: Report, report: Report | None = None) -> str:
    """`absorption ↓`; with a report, told apart from its other metrics as by `name`."""
    shown = name(report, metric) if report else metric["label"]
    return f"{shown} {ARROWS[metric['direction']]}".strip()


def name(report: Report, metric: Report) -> str:
    """The metric's label, with its eval if another headline metric has the same one."""
    labels = [each["label"] for each in report["metrics"] if each["headline"]]
    is_one = labels.count(metric["label"]) < 2
    return metric["label"] if is_one else f"{metric['label']} ({eval_label(metric['eval'])})"


def kind_of_hook(hook: str) -> str:
    """The hook's name without numbers: the same at every layer."""
    return re.sub(r"\d+", "", hook)


def is_by_layer(report: Report) -> bool:
    """Whether all hooks are one place in different layers, so that the layer alone names them."""
    hooks, layers = report["compared"]["hook_names"], report["compared"]["layers"]
    return len(hooks) == len(layers) and len(set(map(kind_of_hook, hooks))) == 1


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


def compared_text(entry: Report, kinds: dict[str, str]) -> str:
    """A cell of a Markdown table: all that is said of an arm beside the baseline.

    Args:
        entry: Of an arm in a metric.
        kinds: As for `remarks`.
    """
    parts = [
        outcome_text(entry),
        difference_text(entry["difference"]),
        batches_text(entry),
        counts_text(entry),
        *remarks(entry, kinds),
    ]
    return "<br>".join(filter(None, parts))


def control_kinds(report: Report) -> dict[str, str]:
    """Control → its kind, for `remarks`."""
    return {arm["name"]: arm["control"] for arm in report["arms"] if arm["control"]}


def batches_text(entry: Report) -> str:
    """`± 0.0012 over batches`: half the interval that batches alone give; empty without them."""
    half = entry["over_batches"]
    return f"± {number(half, half)} over batches" if half is not None else ""


def short_text(entry: Report) -> str:
    """`+0.021 ±0.003`: the mean difference, and what batches alone say of it."""
    mean, half = entry["difference"]["mean"], entry["over_batches"]
    return signed(mean, half or mean) + ("" if half is None else f" ±{number(half, half)}")


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


def line_text(entry: Report) -> str:
    """`0.151 ± 0.008, control 0.027, not met in 2 of 5`: an arm in a line of optimality."""
    return ", ".join(filter(None, line_parts(entry)))


def line_parts(entry: Report) -> tuple[str, str, str]:
    """The parts of `line_text`; empty for what there is not.

    ± is over seeds, and of one SAE over held-out batches.
    """
    scale = entry["spread"] if entry["sd"] is None else entry["sd"]
    control, unmet = entry["control"], entry["n_unmet"]
    of_several = f" in {unmet} of {entry['n_runs']}" if entry["n_runs"] > 1 else ""
    return (
        level_text({"mean": entry["mean"], "sd": scale}),
        "" if control is None else f"control {number(control, scale or control)}",
        f"not met{of_several}" if unmet else "",
    )


def how_optimality_is_measured(report: Report) -> str:
    """A few sentences on the lines of optimality: samples, λ, the gap, the tolerance, the control.

    Args:
        report: With scores of optimality.
    """
    found = report["optimality"]
    samples, penalty = (
        " to ".join(dict.fromkeys(each))
        for each in (
            [f"{n:,}" for n in found["samples"]],
            [number(value, value) for value in found["penalty"]],
        )
    )
    rule = "where they are as sparse as the SAE's" if found["is_matched"] else "as it was asked for"
    return (
        f"On {samples} held-out samples of each SAE, in the space of its own loss, so of a "
        "weighted SAE under its own weights. Optimal codes are those of the L1 penalty "
        f"λ = {penalty}, {rule}; the largest duality gap is {found['duality_gap']:.1e} of the "
        "objective. ± is the standard deviation over seeds, of one SAE half the 95 % interval over "
        "held-out batches, which is too narrow for what is fitted to half of them (dictionary, "
        "split). Control: the same line of random atoms, of which about as many are active as the "
        "SAE has, on at most 1,000 of the samples. A line that is not met is above its tolerance. "
        "Measured by `wsae optimality` (conditions of arXiv 2606.02385)."
    )


def value_text(metric: Report, run: str) -> str:
    """`0.861 ± 0.002` of one run: its value, and half its 95 % interval over held-out batches."""
    value, spread = metric["values"].get(run), metric["spreads"].get(run)
    return level_text({"mean": value, "sd": spread})


def how_intervals_are_made(report: Report) -> str:
    """One sentence or two on the unit, the interval and the test."""
    found = report["statistics"]
    n = found["n_seeds"]
    if n < 2:
        return "One seed: no intervals and no tests." if n else ""
    return (
        "Differences are taken within pairs (same data in the same order; SAEs of one architecture "
        "and size also start from the same weights) and averaged over layers and sparsities within "
        "each seed, because runs of one seed share their data. Brackets hold Student's 95 % "
        f"interval of the mean over the {n} seeds, whose standard deviation is taken to be no "
        "smaller than the smallest step between two paired runs' values of the metric. "
        + how_tests_are_made(report)
    ).rstrip()


def how_tests_are_made(report: Report) -> str:
    """What has to be so for better, worse or clear to be said; empty where nothing was tested."""
    found = report["statistics"]
    if found["n_seeds"] < 2 or not any(found["n_tests"].values()):
        return ""
    return (
        "Better or worse is said only if Student's paired test over seeds stays below 0.05 after "
        f"Holm's correction ({_tests(found['n_tests'])}) and the difference is larger than the "
        "measurement's noise; “leans” drops the correction." + _needed(found["sds_to_be_clear"])
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
