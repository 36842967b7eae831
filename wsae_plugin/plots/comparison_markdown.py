"""The verdict and the main table as Markdown, from report.json."""

from __future__ import annotations

from typing import Any

from wsae_plugin.plots.comparison_definitions import eval_label
from wsae_plugin.plots.comparison_figures import headline, title
from wsae_plugin.plots.comparison_text import (
    control_kinds,
    counts_text,
    how_intervals_are_made,
    level_text,
    outcome_text,
    remarks,
)
from wsae_plugin.saebench.verdict import difference_text, number

Report = dict[str, Any]


def markdown(report: Report) -> str:
    """The page as text; cells hold outcome, difference with interval, and wins / ties / losses."""
    compared = report["compared"]
    labels = {arm["name"]: arm["label"] for arm in report["arms"]}
    others = [arm for arm in report["arms"] if arm["role"] != "baseline"]
    header = ["metric", labels[compared["baseline"]]]
    header += [arm["label"] + (" (control)" if arm["role"] == "control" else "") for arm in others]
    rows = [
        [
            f"{title(metric)} ({eval_label(metric['eval'])})",
            level_text(metric["baseline"]),
            *(_cell(metric, arm["name"], control_kinds(report)) for arm in others),
            *(_optional(metric[name]) for name in ("noise", "chance", "control")),
        ]
        for metric in headline(report)
    ]
    header += ["noise", "chance", "measured control"]
    lines = [
        f"# What weighting did: {compared['model_name']}",
        "",
        f"Seeds {', '.join(map(str, compared['seeds']))}; hooks "
        f"{', '.join(f'`{hook}`' for hook in compared['hook_names'])}; "
        f"{compared['n_pairs']} pairs.",
        "",
        *(f"- {sentence}" for sentence in report["verdict"]),
        "",
        _row(header),
        _row(["---"] + ["---:"] * (len(header) - 1)),
        *(_row(row) for row in rows),
        "",
        "↑ higher is better, ↓ lower is better. Baseline: mean ± standard deviation over seeds. "
        "Others: paired difference to the baseline [interval], wins / ties / losses over pairs.",
        "",
        how_intervals_are_made(report),
    ]
    for heading, entries in (
        ("Not paired", [f"{r['run']}: {r['reason']}" for r in report["refused_pairs"]]),
        ("Missing", [f"{m['what']}: {m['reason']}" for m in report["missing"]]),
    ):
        if entries:
            lines += ["", f"## {heading}", "", *(f"- {entry}" for entry in entries)]
    return "\n".join(lines) + "\n"


def _cell(metric: Report, arm: str, kinds: dict[str, str]) -> str:
    if arm not in metric["arms"]:
        return "–"
    entry = metric["arms"][arm]
    parts = [outcome_text(entry), difference_text(entry["difference"]), counts_text(entry)]
    return "<br>".join(part for part in (*parts, *remarks(entry, kinds)) if part)


def _optional(value: float | None) -> str:
    return "" if value is None else number(value, value / 10)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
