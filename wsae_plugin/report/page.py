"""The report: one self-contained page and a Markdown page, from report.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from wsae_plugin.errors import BadInputError
from wsae_plugin.files import write_json_atomic, write_text_atomic
from wsae_plugin.local_paths import without_local_paths
from wsae_plugin.report import text
from wsae_plugin.report.figures import FIGURES, drawable
from wsae_plugin.report.galleries import read_galleries
from wsae_plugin.report.inputs import read_inputs
from wsae_plugin.report.summary import summarize
from wsae_plugin.report.svg import inline_svg
from wsae_plugin.report.text import Report
from wsae_plugin.templates import filled


def write_report(
    folders: Sequence[Path], target: Path, baseline: Path | None = None
) -> tuple[Report, list[Path]]:
    """Summarize the scores in `folders`, and write three files into `target`; see `read_inputs`.

    Returns:
        What report.json holds, and the files.

    Raises:
        BadInputError: The target is a file, or see `read_inputs`.
    """
    if target.exists() and not target.is_dir():
        raise BadInputError(f"--output {target}: is a file; give a folder")
    # A report is for others too, as a card is.
    inputs = read_inputs(*folders, baseline=baseline)
    report: Report = without_local_paths(summarize(inputs)) | {"gallery": read_galleries(inputs)}
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
    """The page as HTML."""
    figures = {
        name: Markup(inline_svg(FIGURES[name](report), name, (FIGURES[name].__doc__ or "")))
        for name in drawable(report)
    }
    return _filled("page.html.j2", report, figures=figures)


def markdown(report: Report) -> str:
    """The page as Markdown: the verdict, the main table and what is missing."""
    return _filled("page.md.j2", report, filters={"cell": _cell})


def _cell(label: str) -> str:
    return " ".join(label.splitlines()).replace("|", r"\|")


def _filled(template: str, report: Report, **further: Any) -> str:
    return filled(
        Path(__file__).with_name(template),
        report=report,
        compared=report["compared"],
        arms=[arm for arm in report["arms"] if arm["role"] != "baseline"],
        labels={arm["name"]: arm["label"] for arm in report["arms"]},
        metrics=text.headline(report),
        kinds=text.control_kinds(report),
        text=text,
        **further,
    )
