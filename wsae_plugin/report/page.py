"""The report: one self-contained page and a Markdown page, from report.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from wsae_plugin.errors import BadInputError
from wsae_plugin.files import write_json_atomic, write_text_atomic
from wsae_plugin.local_paths import without_local_paths
from wsae_plugin.report import text
from wsae_plugin.report.figures import FIGURES, drawable
from wsae_plugin.report.inputs import read_inputs
from wsae_plugin.report.summary import summarize
from wsae_plugin.report.svg import inline_svg
from wsae_plugin.report.text import Report


def write_report(folder: Path, target: Path) -> tuple[Report, list[Path]]:
    """Summarize the scores in `folder`, and write three files into `target`.

    Returns:
        What report.json holds, and the files.

    Raises:
        BadInputError: The target is a file, or see `read_inputs`.
    """
    if target.exists() and not target.is_dir():
        raise BadInputError(f"--output {target}: is a file; give a folder")
    # A report is for others too, as a card is.
    report: Report = without_local_paths(summarize(read_inputs(folder)))
    return report, write_pages(target, report)


def write_pages(folder: Path, report: Report) -> list[Path]:
    """Write report.json, and drawn from it report.html and report.md, into `folder`.

    Returns:
        The three files. The page embeds its pictures and loads nothing.
    """
    files = [folder / f"report.{ending}" for ending in ("html", "md", "json")]
    folder.mkdir(parents=True, exist_ok=True)
    write_json_atomic(files[2], report)
    # As a reader of the file will have it.
    report = json.loads(files[2].read_text(encoding="utf-8"))
    write_text_atomic(files[0], render(report))
    write_text_atomic(files[1], markdown(report))
    return files


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
        name: Markup(inline_svg(FIGURES[name](report), name, (FIGURES[name].__doc__ or "")))
        for name in drawable(report)
    }
    return environment.get_template("page.html.j2").render(
        report=report,
        compared=report["compared"],
        arms=[arm for arm in report["arms"] if arm["role"] != "baseline"],
        labels={arm["name"]: arm["label"] for arm in report["arms"]},
        metrics=text.headline(report),
        figures=figures,
        kinds=text.control_kinds(report),
        text=text,
    )


def markdown(report: Report) -> str:
    """The page as text; cells hold outcome, difference with interval, and wins / ties / losses."""
    compared = report["compared"]
    labels = {arm["name"]: arm["label"] for arm in report["arms"]}
    others = [arm for arm in report["arms"] if arm["role"] != "baseline"]
    names = [arm["label"] + (" (control)" if arm["role"] == "control" else "") for arm in others]
    if compared["n_pairs"]:
        names.insert(0, labels[compared["baseline"]])
    else:
        names = list(labels.values())
    rows = [
        [
            f"{text.title(metric)} ({text.eval_label(metric['eval'])})".replace("|", r"\|"),
            *_cells(report, metric, others),
            *(_optional(metric[name]) for name in ("noise", "chance", "control")),
        ]
        for metric in text.headline(report)
    ]
    headings = ["metric", *(name.replace("|", r"\|") for name in names)]
    lines = [
        f"# What weighting did: {compared['model_name']}",
        "",
        f"Seeds {', '.join(map(str, compared['seeds']))}; hooks "
        f"{', '.join(f'`{hook}`' for hook in compared['hook_names'])}; "
        f"{compared['n_pairs']} pairs.",
        "",
        *(f"- {sentence}" for sentence in report["verdict"]),
        "",
        text.table([*headings, "noise", "chance", "measured control"], rows),
        "",
        "↑ higher is better, ↓ lower is better. Baseline: mean ± standard deviation over seeds. "
        "Others: paired difference to the baseline [interval], wins / ties / losses over pairs.",
        "",
        text.how_intervals_are_made(report),
    ]
    for heading, entries in (
        ("Not paired", [f"{r['run']}: {r['reason']}" for r in report["refused_pairs"]]),
        ("Missing", [f"{m['what']}: {m['reason']}" for m in report["missing"]]),
    ):
        if entries:
            lines += ["", f"## {heading}", "", *(f"- {entry}" for entry in entries)]
    return "\n".join(lines) + "\n"


def _cells(report: Report, metric: Report, others: list[Report]) -> list[str]:
    if not report["compared"]["n_pairs"]:
        return [text.value_text(metric, arm["name"]) for arm in report["arms"]]
    kinds = text.control_kinds(report)
    cells = [text.level_text(metric["baseline"])]
    for arm in others:
        entry: Any = metric["arms"].get(arm["name"])
        cells.append(text.compared_text(entry, kinds) if entry else "–")
    return cells


def _optional(value: float | None) -> str:
    return "" if value is None else text.number(value, value / 10)
