"""`wsae report`: what a comparison found, as a page, a Markdown table and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from wsae_plugin.cli._shared import (
    BASELINE,
    RUNS,
    plain_table,
    print_json,
    print_plain,
    print_table,
    print_text,
    second_line,
)


def report(
    folders: RUNS,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Where the report goes; default: into DIR."
        ),
    ] = None,
    baseline: BASELINE = None,
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
    """Print the verdict, the differences, what is missing, and where the files are."""
    from wsae_plugin.report import text

    first, *evidence = summary["verdict"]
    print_text(first, style="bold")
    others = [arm for arm in summary["arms"] if arm["role"] != "baseline"]
    if summary["compared"]["n_pairs"]:
        baseline = next(arm for arm in summary["arms"] if arm["role"] == "baseline")
        labels = [arm["label"] for arm in (baseline, *others)]
        table = plain_table("", "metric", *labels, numbers=len(labels))
        for metric in text.headline(summary):
            entries = [metric["arms"].get(arm["name"]) for arm in others]
            cells = [
                text.level_text(metric["baseline"]),
                *(e and text.short_text(e) for e in entries),
            ]
            lines = [cell and cell.replace(" ±", second_line("±")) for cell in cells]
            table.add_row(text.title(metric, summary), *lines)
        print_table(table)
        legend = "Others: mean paired difference, ± half its 95 % interval over held-out batches."
        print_text(legend, style="dim")
    print_text(*(f"• {sentence}" for sentence in evidence))
    if how := text.how_tests_are_made(summary):
        print_text(how, style="dim")
    for name, entries in (("not paired", "refused_pairs"), ("missing", "missing")):
        for entry in summary[entries]:
            what = entry.get("run") or entry["what"]
            print_text(f"{name}: {what}: {entry['reason']}")
    print_plain(*files)
