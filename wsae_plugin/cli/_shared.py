"""What several commands share: options, and how results are printed."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

JSON = Annotated[bool, typer.Option("--json", help="Print the result on stdout as JSON.")]


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
