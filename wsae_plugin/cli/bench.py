"""`wsae bench`: SAEBench on runs of `wsae compare` and `wsae train`, repeatable and offline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from wsae_plugin.cli.train import print_json
from wsae_plugin.cli.trust import loads_models

if TYPE_CHECKING:
    from wsae_plugin.saebench.estimate import Cost

# Paragraphs on one line each: the help is wrapped to the terminal's width.
_HELP = "\n\n".join(
    (
        "Measure SAEs with SAEBench (0.6.0, installed apart: `make saebench`).",
        "Each RUN is a comparison folder of `wsae compare` or a run folder of `wsae train`. Evals: "
        "core, sparse_probing, sae_probes, absorption, scr, tpp, meta_structure, autointerp. TPP "
        "and SCR failed an audit of SAEBench's metrics (arXiv 2605.18229): they are measured when "
        "asked for, and nothing is concluded from them.",
        "\b\n  wsae bench runs/comparison --evals core,sparse_probing,sae_probes\n"
        "  wsae bench runs/comparison --evals core,absorption --dry-run\n"
        "  wsae bench runs/a runs/b --evals core --output bench --dataset pile.jsonl",
        "Every SAE is measured alone in a seeded call, so the same command gives the same numbers; "
        "what is done is kept, and a second call goes on. One baseline of each hook is measured "
        "once more with --noise-seed: a difference below that noise is none.",
        "quick takes minutes on a small model; standard has SAEBench's settings (its own seed is "
        "42). The bundled model needs no network: its text and labelled data are the source of "
        "Python's standard library, and sae_probes brings its own. Of absorption it says little.",
        "autointerp asks a language model: --judge-model, and --judge-url for any API that speaks "
        "OpenAI's protocol; the key is read from OPENAI_API_KEY. Its answers are kept, so that no "
        "question is paid for twice. Chance is 0.714.",
        "sparse_probing with SAEBench's own data sets in the standard profile reads "
        "codeparrot/github-code, which comes as a script: it needs --trust-remote-code.",
        "Writes scores.json, results/<eval>/ (SAEBench's own files) and cache/, which may be "
        "deleted, into saebench/ of the folder.",
        "Exit codes: 0 done, 1 an eval failed, 2 the request is wrong and nothing was measured.",
    )
)


@loads_models
def bench(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="As said above.")],
    evals: Annotated[
        str, typer.Option("--evals", metavar="NAME,...", help="What to measure.")
    ] = "core,sparse_probing,sae_probes",
    arms: Annotated[
        str | None,
        typer.Option("--arms", metavar="NAME,...", help="Of a comparison. By default all."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="By default RUN/saebench."),
    ] = None,
    profile: Annotated[
        str, typer.Option("--profile", metavar="quick|standard", help="How much to measure.")
    ] = "quick",
    seed: Annotated[int, typer.Option("--seed", help="Of the measurement.")] = 0,
    noise_seed: Annotated[
        int, typer.Option("--noise-seed", help="Of the baselines' second measurement.")
    ] = 1,
    no_noise: Annotated[bool, typer.Option("--no-noise", help="Leave it out.")] = False,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            metavar="PATH",
            help="Text for core and autointerp: a file, a folder, or a data set of the Hub.",
        ),
    ] = None,
    datasets: Annotated[
        Path | None,
        typer.Option(
            "--datasets",
            metavar="DIR",
            help="Labelled data for sparse_probing, scr and tpp: folders of parquet named as "
            "SAEBench's (LabHC/bias_in_bios), or own ones with columns text, label, attribute.",
        ),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            "--tasks",
            metavar="NAME,...",
            help="Of sae_probes. By default two short ones; all-short: 20; all: 113.",
        ),
    ] = None,
    judge_url: Annotated[
        str | None, typer.Option("--judge-url", metavar="URL", help="The judge's API.")
    ] = None,
    judge_model: Annotated[
        str | None, typer.Option("--judge-model", metavar="NAME", help="The judge.")
    ] = None,
    judge_rate: Annotated[
        float | None,
        typer.Option("--judge-rate", metavar="CALLS", help="Calls a minute, at most."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Measure again what is done.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would take; measure nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print scores.json on stdout, and nothing else there.")
    ] = False,
) -> None:
    # Imported here: SAELens takes seconds, and `wsae --help` should not.
    from wsae_plugin.saebench.estimate import estimate
    from wsae_plugin.saebench.request import Request, output_folder

    request = Request(
        evals=_names(evals),
        arms=_names(arms or ""),
        profile=profile,  # pyright: ignore[reportArgumentType] - Request refuses others
        seed=seed,
        noise_seed=None if no_noise else noise_seed,
        dataset=dataset,
        datasets=datasets,
        tasks=_names(tasks or ""),
        judge_url=judge_url,
        judge_model=judge_model,
        judge_rate=judge_rate,
        force=force,
    )
    folder = output_folder(runs, output)
    if dry_run:
        _show_cost(estimate(runs, folder, request), folder, as_json)
        return
    from wsae_plugin.saebench.bench import bench as run

    document = run(runs, folder, request)
    if as_json:
        print_json(document)
    else:
        _show(document, folder)


bench.__doc__ = _HELP


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _show_cost(cost: Cost, folder: Path, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        print_json({"output": str(folder), **asdict(cost)})
        return
    table = Table(title=f"{folder} (nothing is written)", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("eval", "SAEs", "for the noise", "done before", "minutes, about"):
        table.add_column(heading, justify="left" if heading == "eval" else "right")
    for row in cost.evals:
        minutes = "unknown" if row.seconds is None else f"{row.seconds / 60:.1f}"
        table.add_row(row.eval, str(row.saes), str(row.noise), str(row.done), minutes)
    console = Console()
    console.print(table)
    if cost.judge_calls:
        console.print(
            f"The judge: {cost.judge_calls:,} calls, about {cost.judge_tokens:,} tokens of "
            "prompts and answers."
        )


def _show(document: dict[str, Any], folder: Path) -> None:
    headlines = [score for score in document["scores"] if score["headline"]]
    columns = list(dict.fromkeys((s["eval"], s["metric"], s["label"]) for s in headlines))
    values = {(s["run"], s["eval"], s["metric"]): s for s in headlines}
    arrows = {"up": " ↑", "down": " ↓", "none": ""}
    table = Table(title="SAEBench", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("run", overflow="fold")
    for evaluation, metric, label in columns:
        direction = next(
            s["direction"] for s in headlines if (s["eval"], s["metric"]) == (evaluation, metric)
        )
        table.add_column(label + arrows[direction], justify="right")
    for run in dict.fromkeys(score["run"] for score in headlines):
        table.add_row(run, *(_cell(values.get((run, *column[:2]))) for column in columns))
    table.add_section()
    table.add_row("noise", *(_noise(values, column) for column in columns), style="dim")
    console = Console()
    console.print(table)
    for note in dict.fromkeys(f"{s['label']}: {s['note']}" for s in headlines if s["note"]):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"All scores: {folder / 'scores.json'}", markup=False, highlight=False, soft_wrap=True
    )


def _cell(score: dict[str, Any] | None) -> str:
    return "-" if score is None or score["value"] is None else f"{score['value']:.3f}"


def _noise(values: dict[tuple[str, str, str], dict[str, Any]], column: tuple[str, ...]) -> str:
    found = [
        score["noise"]
        for (_, *key), score in values.items()
        if key == list(column[:2]) and score["noise"] is not None
    ]
    return f"{max(found):.3f}" if found else "-"
