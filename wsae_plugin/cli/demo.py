"""`wsae demo`: the whole comparison on the bundled model, and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from wsae_plugin.cli.train import print_json

# Paragraphs on one line each: the help is wrapped to the terminal's width.
_HELP = "\n\n".join(
    (
        "Train and compare an SAE, two weighted SAEs and two controls, in a minute or two, "
        "offline.",
        "On the small language model that comes with this package: Top-k SAEs with α = 0 "
        "(SAELens's own), α = 0.5 and α = 1, one with the weights of α = 1 on the wrong "
        "dimensions (shuffled), and one with α = −0.5 (opposite). Each seed trains all five "
        "from one pass of the language model, on the same batches and from the same initial "
        "weights. Held-out text then says what each explains under every Γ, what it costs the "
        "model in cross-entropy, and how sure that is.",
        "\b\n  wsae demo\n  wsae demo --seed 1 --output demo-1",
        "The folder gets report.html (one file, opens offline), demo.json (every number), PNG "
        "figures, and the SAEs in saes/, which plain SAELens loads; config.yaml repeats the "
        "training with `wsae train`. The same seed gives the same numbers on the same machine.",
        "Exit codes: 0 done, 1 failed or interrupted, 2 the folder is not free and nothing was "
        "written.",
    )
)


def demo(
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="DIR", help="A new folder, or a former demo's to replace."
        ),
    ] = Path("wsae-demo"),
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Which initial weights and order of the data.")
    ] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print demo.json on stdout, and nothing else there.")
    ] = False,
) -> None:
    # Imported here: SAELens takes seconds, and `wsae --help` should not.
    from wsae_plugin.demo.run import run_demo
    from wsae_plugin.plots.report import write_report

    result = run_demo(output, seed)
    report = write_report(output)
    if as_json:
        print_json(result)
    else:
        _show(result, report)


demo.__doc__ = _HELP


def _show(result: dict[str, Any], report: Path) -> None:
    from wsae_plugin.plots.report import columns
    from wsae_plugin.plots.verdict import headline, sparsity

    console = Console()
    table = Table(
        title="On held-out text", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column("SAE", min_width=11)
    for heading, _ in columns(result):
        table.add_column(heading, justify="right", no_wrap=True)
    for arm in result["arms"]:
        cells = [_cell(arm, path) for _, path in columns(result)]
        table.add_row(arm["label"].replace(", ", ",\n"), *cells)
    console.print(table)
    console.print(
        "EV: explained variance. CE: cross-entropy. ±: half the 95 % interval, over held-out "
        "batches or over seeds, whichever is wider. Second line: paired difference to the SAE, * "
        "if larger than its ±; of twenty that are none, one would be.",
        style="dim",
        highlight=False,
    )
    for sentence in (*headline(result), sparsity(result)):
        console.print(f"• {sentence}", markup=False, highlight=False)
    console.print(f"report: {report}", markup=False, highlight=False, soft_wrap=True)


def _cell(arm: dict[str, Any], path: tuple[str, ...]) -> str:
    from wsae_plugin.plots.verdict import is_clear, signed

    score, difference = arm["scores"], arm["difference"]
    for name in path:
        score, difference = score[name], difference[name]
    value = f"{score['value']:.4f}±{score['spread']:.4f} "
    if arm["role"] == "baseline":
        return value
    paired = signed(difference).replace(" ", "")
    return f"{value}\n{paired}{'*' if is_clear(difference) else ' '}"
