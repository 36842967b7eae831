"""`wsae identify`: do two or more SAEs have the same latents?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from wsae_plugin.cli._shared import (
    JSON,
    RUNS,
    number,
    plain_table,
    print_json,
    print_plain,
    print_table,
)


def identify(
    runs: RUNS,
    threshold: Annotated[
        float, typer.Option("--threshold", help="The cosine above which latents are the same.")
    ] = 0.9,
    largest_assignment: Annotated[
        int,
        typer.Option(
            "--assign-up-to",
            metavar="LATENTS",
            min=1,
            help="Match one to one up to this width: time grows as its cube, memory as its square "
            "(24,576: 5 GB). Beyond it, best matches alone.",
        ),
    ] = 4096,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="JSON", help="Write the result there.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="PNG", help="Draw the pairs and the sorted matches there."),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Ask whether SAEs trained apart, say with different seeds, found the same directions.

    Each RUN is a run folder of `wsae train` or a folder in which SAELens saved one SAE. Runs of
    several SAEs are compared name by name. d_in has to be the same, d_sae need not be.

    \b
      wsae train topk.yaml --set seed=0 --output runs/seed-0
      wsae train topk.yaml --set seed=1 --output runs/seed-1
      wsae identify runs/seed-0 runs/seed-1 --plot agreement.png

    "same" is the share of latents whose one-to-one partner (the assignment with the largest sum of
    |cosine|) exceeds the threshold, "|cos|" the mean over the partners. "best" and "MMCS" let
    several latents share a partner, from the first run to the second and back: the share above the
    threshold, and the mean, of the largest cosine.

    Chance is not zero: "random" is the same measured against random directions, "rotated" against a
    rotated copy of the second SAE, which keeps the angles between its latents.

    Exit codes: 0 done, 1 failed, 2 the request is wrong and nothing was written.
    """
    # Imported here: SAELens takes seconds, and `wsae --help` should not.
    from wsae_plugin.files import refuse_output, write_json_atomic
    from wsae_plugin.measures.identify import identify as compare

    for option, path in (("--output", output), ("--plot", plot)):
        if path is not None:
            refuse_output(option, path, is_folder=False)
    result = compare(runs, threshold, largest_assignment)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(output, result)
    if plot is not None:
        from wsae_plugin.plots.identify import agreement_figure
        from wsae_plugin.plots.style import save_png

        plot.parent.mkdir(parents=True, exist_ok=True)
        save_png(agreement_figure(result), plot)
    if as_json:
        print_json(result)
        return
    for sae in result["saes"]:
        print_table(_table(sae, threshold))
    print_plain(*_notes(result))


def _table(sae: dict[str, Any], threshold: float) -> Table:
    title = f"{sae['name']}: latents that agree (d_in = {sae['d_in']}, same: > {threshold:g})"
    headings = ("d_sae", "same", "|cos|", "best", "MMCS")
    table = plain_table(title, "runs", *headings, numbers=len(headings))
    members = sae["members"]
    for pair in sae["pairs"]:
        first, second = members[pair["first"]], members[pair["second"]]
        widths = ", ".join(dict.fromkeys(str(member["d_sae"]) for member in (first, second)))
        table.add_row(f"{first['run']}, {second['run']}", widths, *_cells(pair["agreement"]))
        for control in ("random", "rotated"):
            table.add_row(f"  {control}", "", *_cells(pair[control]), style="dim")
    if len(sae["pairs"]) > 1:
        table.add_section()
        for label, key in (("mean", "agreement"), ("  random", "random"), ("  rotated", "rotated")):
            table.add_row(label, "", *map(number, sae["mean"][key].values()))
    return table


def _cells(agreement: dict[str, Any]) -> list[str]:
    assignment = agreement["assignment"] or {"share": None, "mean_cosine": None}
    there, back = agreement["forward"], agreement["backward"]
    return [
        *(number(assignment[key]) for key in ("share", "mean_cosine")),
        *(f"{number(there[key])} → {number(back[key])} ←" for key in ("share", "mmcs")),
    ]


def _notes(result: dict[str, Any]) -> list[str]:
    """Which number is which run, and what is to be said beside the table."""
    runs = result["runs"]
    notes = [
        f"run {index}: {run['path']}" + ("" if run["seed"] is None else f" (seed {run['seed']})")
        for index, run in enumerate(runs)
    ]
    seeds = [run["seed"] for run in runs if run["seed"] is not None]
    if len(set(seeds)) < len(seeds):
        notes.append(
            "WARNING runs of the same seed may share their initial weights and batches: their "
            "agreement does not say that the data determines the latents"
        )
    notes += [
        f"{sae['name']}: more than {result['largest_assignment']:,} latents, so no one-to-one "
        "assignment; --assign-up-to allows it"
        for sae in result["saes"]
        if any(pair["agreement"]["assignment"] is None for pair in sae["pairs"])
    ]
    left_out = result["left_out"]
    return notes + [f"left out: {one['name']} is in run {one['run']} only" for one in left_out]
