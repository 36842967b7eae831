"""What several commands share: options, and how results are printed."""

from __future__ import annotations

import inspect
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from wsae_plugin.training.estimate import Sharing

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


def _at_hand(run: Path) -> Path:
    if run.parts[:1] != ("hf:",):
        return run
    from wsae_plugin.hub.download import download  # huggingface_hub takes a second to import

    # A path has one slash where an address has two.
    return download(run.as_posix().replace("hf:/", "hf://", 1))


def _all_at_hand(runs: list[Path]) -> list[Path]:
    return [_at_hand(run) for run in runs]


def one_at_hand(run: Path | None) -> Path | None:
    """The folder of what was given: where it is an address of the Hub, downloaded."""
    return run and _at_hand(run)


RUNS = Annotated[
    list[Path],
    typer.Argument(
        metavar="RUN...",
        help="Folders of SAEs, runs or comparisons, or hf://USER/NAME@REVISION/SAE on the Hub, of "
        "which @REVISION and /SAE may be left out.",
        callback=_all_at_hand,
    ),
]
BASELINE = Annotated[
    Path | None,
    typer.Option(
        "--baseline",
        metavar="RUN",
        help="The ordinary SAE, or hf://USER/NAME/SAE, beside which those are measured and shown "
        "that no comparison pairs.",
        callback=one_at_hand,
    ),
]


DRY_RUN = Annotated[
    bool, typer.Option("--dry-run", help="Show config, steps and memory; write nothing.")
]

VERBOSE = Annotated[
    bool, typer.Option("--verbose", "-v", help="With --dry-run: show every field of the config.")
]
_PIPE = 10_000
"""The width of what is no terminal."""


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


def terminal() -> Console:
    """Where results are shown: as wide as they are in a pipe, where a line is what grep finds."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _PIPE
    return console


def print_text(*lines: str, style: str | None = None) -> None:
    """Print prose, wrapped at the width of the terminal."""
    for line in lines:
        terminal().print(line, style=style, markup=False, highlight=False)


def second_line(text: str) -> str:
    """What stands below a number in its cell; beside it in a pipe."""
    return f"{' ' if terminal().width == _PIPE else chr(10)}{text}"


def print_config(values: Mapping[str, Any], cls: type[Any], verbose: bool) -> None:
    """Print a config as YAML: what differs from the defaults of `cls`, or all of it."""
    from wsae_plugin.validation import beside_defaults
    from wsae_plugin.yaml_file import to_yaml

    shown = values if verbose else beside_defaults(cls, values)
    print_plain(to_yaml(dict(shown)).rstrip())
    if shown != values:
        said = "All other fields have their defaults, in sections too; --verbose shows them."
        print_text(said, style="dim")


def print_table(table: Table) -> None:
    """Print a table so that no word and no number of it is broken.

    Where it is wider than the terminal, a table of numbers is turned if that shows more of it, and
    the last columns that still find no room are left out and named.
    """
    console = terminal()
    if table.title:
        print_text(str(table.title), style="italic")
        table.title = None
    of_numbers = all(column.justify == "right" for column in table.columns[1:])
    layouts = [table, _turned(table)] if of_numbers and table.row_count else [table]
    left_out = [_narrowed(layout, console) for layout in layouts]
    lost = [len(names) * t.row_count for names, t in zip(left_out, layouts, strict=True)]
    best = lost.index(min(lost))
    console.print(layouts[best], crop=False)
    if left_out[best]:
        names = ", ".join(left_out[best])
        where = "a wider terminal, or a pipe (| cat), has them"
        print_text(f"No room at {console.width} columns for: {names}; {where}.", style="dim")


def _turned(table: Table) -> Table:
    """The same with its columns as rows."""
    names, *columns = ([str(column.header), *column.cells] for column in table.columns)
    turned = plain_table("", "", *map(str, names[1:]), numbers=len(names) - 1)
    for column in columns:
        turned.add_row(*column)
    return turned


def _narrowed(table: Table, console: Console) -> list[str]:
    """Take away the last columns until it fits, all but two; their headings."""
    unlimited = console.options.update(width=_PIPE)
    names = [str(column.header) for column in table.columns]
    if console.measure(table, options=unlimited).maximum <= console.width:
        return []
    for place, column in enumerate(table.columns):
        if column.justify == "right" or (place == 0 and table.columns[1].justify == "left"):
            # A long heading may be wrapped; a number may not, nor a name where other text may.
            lines = [line for text in column.cells for line in str(text).splitlines()]
            width = max(map(cell_len, lines), default=1)
            heading = wrap(names[place], width, break_long_words=False, break_on_hyphens=False)
            column.header, column.no_wrap = "\n".join(heading), True
            column.min_width = max(width, *map(cell_len, heading))
    while (
        len(table.columns) > 2 and console.measure(table, options=unlimited).minimum > console.width
    ):
        table.columns.pop()
    return names[len(table.columns) :]


def plain_table(title: str, *columns: str, numbers: int = 0) -> Table:
    """An empty table; the last `numbers` columns are for numbers, to the right."""
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
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
        spread = second_line(f"±{score['spread']:.2g}") if score["spread"] else ""
        return number(score["value"], form) + spread

    table = plain_table(title, "run", *columns.values(), numbers=len(columns))
    for run, scores in runs.items():
        table.add_row(run, *(cell(scores.get(metric)) for metric in columns))
    table.add_section()
    for level, values in levels.items():
        table.add_row(level, *(number(values[metric], form) for metric in columns), style="dim")
    return table


def size(n_bytes: int) -> str:
    """Bytes as a person reads them."""
    number = float(n_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.4g} {unit}"
        number /= 1024
    return f"{number:.4g} TiB"


def lines_of_sharing(sharing: Sharing) -> list[str]:
    """How several processes share a run."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for name, ranks in sharing.ranks.items():
        groups.setdefault(ranks, []).append(name)
    n_each, n_saes = len(next(iter(groups))), len(sharing.ranks)
    whole = f"the latents of each SAE over {n_each}" if n_each > 1 else "whole SAEs"
    sent = {name: n for name, n in sharing.sent_a_step.items() if n}
    return [
        f"{sharing.n_processes} processes: {whole}"
        + (f"; {n_saes} SAEs over {len(groups)} groups of them" if len(groups) > 1 else ""),
        *(
            f"  processes {ranks[0]} to {ranks[-1]}: {', '.join(names)}"
            for ranks, names in groups.items()
            if len(groups) > 1
        ),
        f"a process sends in a step, at most: {size(sum(sent.values()))}",
        *(f"  {name.replace('_', ' ')}: {size(n)}" for name, n in sent.items()),
        f"the first process besides, while it puts the whole together: {size(sharing.checkpoint)}",
    ]
