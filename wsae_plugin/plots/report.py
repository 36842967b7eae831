"""The report of `wsae demo`: figures and one self-contained page, drawn from demo.json alone."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from wsae_plugin.files import write_text_atomic
from wsae_plugin.plots.demo import FIGURES, objectives
from wsae_plugin.plots.style import save_png
from wsae_plugin.plots.verdict import headline, is_clear, signed, verdict

Result = dict[str, Any]


def write_report(folder: Path) -> Path:
    """Draw the demo.json of `folder` as PNG files and as report.html beside it.

    Returns:
        The page. It embeds its pictures and loads nothing.
    """
    result: Result = json.loads((folder / "demo.json").read_text(encoding="utf-8"))
    figures: dict[str, str] = {}
    for name, draw in FIGURES.items():
        path = folder / f"{name}.png"
        save_png(draw(result), path)
        figures[name] = base64.b64encode(path.read_bytes()).decode("ascii")
    page = folder / "report.html"
    write_text_atomic(page, render(result, figures))
    return page


def render(result: Result, figures: dict[str, str]) -> str:
    """The page as text.

    Args:
        result: what demo.json holds.
        figures: name → PNG in base64.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("report.html.j2").render(
        result=result,
        figures=figures,
        columns=columns(result),
        headline=headline(result),
        details=verdict(result)[len(headline(result)) :],
        is_clear=is_clear,
        signed=signed,
        concentrated=[arm for arm in result["arms"] if arm["spectrum"]["concentrated"]],
    )


def columns(result: Result) -> list[tuple[str, tuple[str, ...]]]:
    """(heading, path into an arm's scores) of the main table."""
    under = [
        (f"EV, Γ: {label}", ("weighted_explained_variance", name))
        for name, label in objectives(result)
    ]
    return [*under, ("CE recovered", ("ce_loss_recovered",))]
