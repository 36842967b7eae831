"""What several commands share: options, and how results are printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from inspect import cleandoc
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

JSON = Annotated[bool, typer.Option("--json", help="Print the result on stdout as JSON.")]


def flowing(doc: str | None) -> str:
    """A docstring as help: each paragraph on one line, which is wrapped to the terminal's width."""
    paragraphs = cleandoc(doc or "").split("\n\n")
    return "\n\n".join(p if p.startswith("\b") else " ".join(p.split()) for p in paragraphs)


def print_json(document: object) -> None:
    """Print `document` on stdout, for machines: no colour, no wrapping."""
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")


def print_plain(*lines: object) -> None:
    """Print lines as they are, paths for one: no markup, no colour, no wrapping."""
    for line in lines:
        Console().print(str(line), markup=False, highlight=False, soft_wrap=True)


def plain_table(title: str, *columns: str, numbers: int = 0, **options: Any) -> Table:
    """An empty table; the last `numbers` columns are for numbers, to the right."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, **options)
    for place, column in enumerate(columns):
        is_number = place >= len(columns) - numbers
        table.add_column(column, justify="right" if is_number else "left", overflow="fold")
    return table


def number(value: float | None, form: str = ".3f") -> str:
    """A number in a table; a hyphen where there is none."""
    return "-" if value is None else format(value, form)


def score_table(
    title: str,
    columns: Mapping[Any, str],
    runs: Mapping[str, Mapping[Any, dict[str, Any]]],
    levels: Mapping[str, Mapping[Any, float | None]],
    form: str,
) -> Table:
    """The scores of runs, and below them the levels that they have to be seen beside.

    Args:
        title: Of the table.
        columns: Metric → its heading.
        runs: Run → metric → score, as a file of scores has it.
        levels: Name of a level → metric → value.
        form: Of the numbers.
    """

    def cell(score: dict[str, Any] | None) -> str:
        if score is None:
            return number(None)
        spread = f"\n±{score['spread']:.2g}" if score["spread"] else ""
        return number(score["value"], form) + spread

    shape: dict[str, Any] = {"padding": (0, 1, 0, 0), "pad_edge": False}
    table = plain_table(title, "run", *columns.values(), numbers=len(columns), **shape)
    for run, scores in runs.items():
        table.add_row(run, *(cell(scores.get(metric)) for metric in columns))
    table.add_section()
    for level, values in levels.items():
        table.add_row(level, *(number(values[metric], form) for metric in columns), style="dim")
    for column in table.columns[1:]:
        # A long heading may be wrapped, a number may not.
        lines = [line for text in column.cells for line in str(text).splitlines()]
        column.min_width = max(map(len, lines))
    return table
