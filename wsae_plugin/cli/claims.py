"""`wsae claims`: the papers' statements, each checked, with the numbers that decide it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from wsae_plugin.cli._shared import JSON, print_json, print_text, second_line, terminal
from wsae_plugin.errors import BadInputError


def claims(
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="ID", help="Check this claim. Repeatable; default all."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="JSON", help="Write the ledger there."),
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", metavar="PATH", help="Write the page made from it there."),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Check what the papers state: theorems, examples, counter-examples.

    All that is public of arXiv 2506.15963, both versions, and the conditions of
    optimal dictionaries that the abstract of arXiv 2606.02385 tells of. Each statement is
    tried as it is printed, in exact or float64 arithmetic, and by search where
    it claims an optimum or that there is only one. A verdict is computed from
    numbers: holds; holds under a stated extra condition; refuted as printed,
    with what is true instead; cannot be decided as printed (only a title
    or an abstract is public). Under two minutes on one core; the same numbers every time.

    \b
      wsae claims
      wsae claims --only v1-theorem-2 --only v1-theorem-3
      wsae claims --output claims.json --markdown claims.md

    The JSON has all the numbers, with their meaning and what each would have to
    be; the Markdown page is made from it.

    Exit codes: 0 whatever the verdicts, 1 a check crashed, 2 an unknown claim
    or a path that cannot be written.
    """
    # Imported here: SAELens takes seconds, and `wsae --help` should not.
    from wsae_plugin.files import write_json_atomic, write_text_atomic
    from wsae_plugin.toy.claims import check_claims, ledger_markdown

    for option, path in (("--output", output), ("--markdown", markdown)):
        if path is not None and path.is_dir():
            raise BadInputError(f"{option} {path}: is a folder; give a file")
        if path is not None and not path.parent.is_dir():
            raise BadInputError(f"{option} {path}: there is no folder {path.parent}; make it first")
    ledger = check_claims(only or [])
    if output is not None:
        write_json_atomic(output, ledger)
    if markdown is not None:
        write_text_atomic(markdown, ledger_markdown(ledger))
    if as_json:
        print_json(ledger)
    else:
        _show(ledger)


def _show(ledger: dict[str, Any]) -> None:
    print_text(f"{', '.join(ledger['papers'])}: what was found", style="bold")
    console = terminal()
    # The counts name all verdicts, from the best to the one that says least.
    colours = dict(zip(ledger["counts"], ("green", "yellow", "red", "blue"), strict=True))
    for claim in ledger["claims"]:
        verdict = Text(f"{claim['id']}: {claim['verdict']}", style=colours[claim["verdict"]])
        told = second_line(f"States: {claim['statement']}") + second_line(f"Found: {claim['why']}")
        # In a pipe a claim is a line.
        console.print(verdict + Text(told))
    counts = ", ".join(f"{number} {name}" for name, number in ledger["counts"].items())
    print_text(f"{len(ledger['claims'])} claims: {counts}.")
