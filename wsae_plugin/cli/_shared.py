"""What several commands share: options, and how results are printed."""

from __future__ import annotations

import inspect
import json
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

JSON = Annotated[bool, typer.Option("--json", help="Print the result on stdout as JSON.")]
CONFIG = Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The config file.")]
SET = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="FIELD=VALUE", help="Set a field, such as sae.alpha=0.5. Repeatable."
    ),
]
RUN_FOLDER = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="DIR",
        help="The folder to write. By default output_path of the file, else runs/<its name>.",
    ),
]
RESUME = Annotated[
    bool,
    typer.Option(
        "--resume", help="Go on in the folder: from its newest checkpoint, if it has one."
    ),
]
KEEP_CHECKPOINTS = Annotated[
    int | None,
    typer.Option(
        "--keep-checkpoints",
        metavar="N",
        min=1,
        help="Keep the N newest checkpoints only. By default all stay.",
    ),
]
RUNS = Annotated[
    list[Path],
    typer.Argument(
        metavar="RUN...",
        help="Folders of SAEs, runs or comparisons, or hf://USER/NAME[@REVISION][/SAE].",
        callback=lambda runs: list(map(_at_hand, cast("list[Path]", runs))),
    ),
]


def _at_hand(run: Path) -> Path:
    if run.parts[:1] != ("hf:",):
        return run
    from wsae_plugin.hub.download import download  # huggingface_hub takes a second to import

    return download(run.as_posix().removeprefix("hf:/"))


DRY_RUN = Annotated[
    bool, typer.Option("--dry-run", help="Show config, steps and memory; write nothing.")
]


def help_of(command: Callable[..., None]) -> str:
    """The docstring with a line a paragraph, which the terminal wraps; `\\b` keeps lines apart."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(p if p.startswith("\b") else " ".join(p.split()) for p in paragraphs)


def command_line() -> str:
    """What the user typed, for records."""
    return shlex.join(["wsae", *sys.argv[1:]])


def run_folder(output: Path | None, values: Mapping[str, Any], config: Path) -> Path:
    """Where a training goes: `--output`, else `output_path` of the config, else by its name."""
    return output or Path(values["output_path"] or Path("runs") / config.stem)


def print_json(document: object) -> None:
    """Print `document` on stdout, for machines: no colour, no wrapping."""
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")


def print_plain(*lines: object) -> None:
    """Print lines as they are, paths for one: no markup, no colour, no wrapping."""
    for line in lines:
        Console().print(str(line), markup=False, highlight=False, soft_wrap=True)


def print_table(table: Table) -> None:
    """Print a table as wide as the terminal."""
    Console().print(table)


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
