"""`wsae report`: what a comparison found, as a page, a Markdown table and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from wsae_plugin.cli._shared import RUNS, plain_table, print_json


def report(
    folders: RUNS,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Where the report goes; default: into DIR."
        ),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            "--baseline", metavar="DIR", help="The ordinary SAE that others are compared with."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print report.json on stdout, and nothing else there.")
    ] = False,
) -> None:
    """Say what weighting did: a comparison folder's scores, paired, tested and drawn.

    Reads manifest.json and scores/*.json of every run (held_out.json of `wsae eval`, saebench.json
    of `wsae bench`); one of them is enough, and what is missing is named. Every arm is compared
    with the baseline that saw the same data from the same initial weights. The seed is the unit:
    layers are averaged within it. Pairs that differ in model, hook, d_sae, sparsity or held-out
    text are refused and listed.

    SAEs that were not planned as a comparison are given by their folders, of any script: each is
    compared with the ordinary SAE of its hook, width, sparsity and seed, or with --baseline, and
    the report says in what they are not matched. Of an SAE that is compared with nothing, it shows
    the scores themselves.

    \b
      wsae report comparison
      wsae report weighted_topk topk --baseline topk --output report
      wsae report comparison --output site --json

    Writes report.html (one file, opens offline, prints, dark and light), report.md and report.json
    (every number); former ones are replaced.

    Exit codes: 0 done, whatever was found; 1 failed; 2 no such folder, or no scores.
    """
    from wsae_plugin.errors import BadInputError
    from wsae_plugin.report.page import write_report

    if output is None and len(folders) > 1:
        raise BadInputError("--output: say where the report goes when several folders are given")
    first = folders[0]
    target = output or (first.parent if first.is_file() else first)
    summary, files = write_report(folders, target, baseline)
    if as_json:
        print_json(summary)
    else:
        show(summary, files)


def show(summary: dict[str, Any], files: list[Path]) -> None:
    """Print the differences, the verdict, what is missing, and where the files are."""
    from wsae_plugin.report import text

    console = Console()
    others = [arm for arm in summary["arms"] if arm["role"] != "baseline"]
    if summary["compared"]["n_pairs"]:
        baseline = next(arm for arm in summary["arms"] if arm["role"] == "baseline")
        labels = [arm["label"] for arm in (baseline, *others)]
        shape: dict[str, Any] = {"padding": (0, 1, 0, 0), "pad_edge": False}
        table = plain_table("", "metric", *labels, numbers=len(labels), **shape)
        for metric in text.headline(summary):
            entries = [metric["arms"].get(arm["name"]) for arm in others]
            cells = [entry and text.short_text(entry) for entry in entries]
            table.add_row(text.title(metric), text.level_text(metric["baseline"]), *cells)
        console.print(table)
        legend = "Others: mean paired difference, ± half its 95 % interval over held-out batches."
        console.print(legend, style="dim", highlight=False)
    for sentence in summary["verdict"]:
        console.print(f"• {sentence}", markup=False, highlight=False)
    for name, entries in (("not paired", "refused_pairs"), ("missing", "missing")):
        for entry in summary[entries]:
            what = entry.get("run") or entry["what"]
            console.print(f"{name}: {what}: {entry['reason']}", markup=False, highlight=False)
    for file in files:
        console.print(str(file), markup=False, highlight=False, soft_wrap=True)
