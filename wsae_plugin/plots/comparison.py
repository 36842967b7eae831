"""The report of a comparison: one self-contained page and a Markdown page, from report.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from wsae_plugin.files import write_text_atomic
from wsae_plugin.plots.comparison_definitions import definition, eval_label
from wsae_plugin.plots.comparison_figures import ARROWS, drawable, headline
from wsae_plugin.plots.comparison_markdown import markdown
from wsae_plugin.plots.comparison_svg import inline_svg
from wsae_plugin.plots.comparison_text import (
    control_kinds,
    counts_text,
    how_intervals_are_made,
    level_text,
    outcome_text,
    remarks,
)
from wsae_plugin.saebench.verdict import difference_text, interval_text, number, signed

Report = dict[str, Any]

_ALTERNATIVES = {
    "differences": "Differences of every arm to the baseline against the layer, for every metric",
    "levels": "Scores of every arm against the layer, for every metric",
    "pareto": "Scores of every arm against L0, for every metric",
    "trade": "Change in explained variance of the input dimensions against their weight",
}


def write_comparison_report(folder: Path) -> tuple[Path, Path]:
    """Draw the report.json of `folder` as report.html and report.md beside it.

    Returns:
        Both files. The page embeds its pictures and loads nothing.
    """
    report: Report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    page, table = folder / "report.html", folder / "report.md"
    write_text_atomic(page, render(report))
    write_text_atomic(table, markdown(report))
    return page, table


def render(report: Report) -> str:
    """The page as text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures = {
        name: Markup(inline_svg(draw(report), name, _ALTERNATIVES[name]))
        for name, draw in drawable(report).items()
    }
    labels = {arm["name"]: arm["label"] for arm in report["arms"]}
    return environment.get_template("comparison.html.j2").render(
        report=report,
        compared=report["compared"],
        arms=[arm for arm in report["arms"] if arm["role"] != "baseline"],
        labels=labels,
        metrics=headline(report),
        figures=figures,
        arrows=ARROWS,
        definition=definition,
        eval_label=eval_label,
        level_text=level_text,
        outcome_text=outcome_text,
        kinds=control_kinds(report),
        remarks=remarks,
        counts_text=counts_text,
        difference_text=difference_text,
        interval_text=interval_text,
        number=number,
        signed=signed,
        intervals=how_intervals_are_made(report),
    )
