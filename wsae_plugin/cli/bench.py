"""`wsae bench`: SAEBench on runs of `wsae compare` and `wsae train`, repeatable and offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from wsae_plugin.cli._shared import (
    RUNS,
    plain_table,
    print_json,
    print_plain,
    print_table,
    score_table,
)
from wsae_plugin.cli.trust import loads_models


@loads_models
def bench(
    runs: RUNS,
    evals: Annotated[
        str, typer.Option(metavar="NAME,...", help="What to measure.")
    ] = "core,sparse_probing,sae_probes",
    arms: Annotated[
        str, typer.Option(metavar="NAME,...", help="Of a comparison. By default all.")
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="By default RUN/saebench."),
    ] = None,
    profile: Annotated[
        str, typer.Option(metavar="quick|standard", help="How much to measure.")
    ] = "quick",
    seed: Annotated[int, typer.Option(help="Of the measurement.")] = 0,
    noise_seed: Annotated[int, typer.Option(help="Of the baselines' second measurement.")] = 1,
    no_noise: Annotated[bool, typer.Option("--no-noise", help="Leave it out.")] = False,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Text for core and autointerp: a file, a folder, or a data set of the Hub.",
        ),
    ] = None,
    datasets: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Labelled data for sparse_probing, scr and tpp: folders of parquet named as "
            "SAEBench's (LabHC/bias_in_bios), or own ones with columns text, label, attribute.",
        ),
    ] = None,
    tasks: Annotated[
        str,
        typer.Option(
            metavar="NAME,...",
            help="Of sae_probes. By default two short ones; all-short: 20; all: 113.",
        ),
    ] = "",
    judge_url: Annotated[str | None, typer.Option(metavar="URL", help="The judge's API.")] = None,
    judge_model: Annotated[str | None, typer.Option(metavar="NAME", help="The judge.")] = None,
    judge_rate: Annotated[
        float | None, typer.Option(metavar="CALLS", help="Calls a minute, at most.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Measure again what is done.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would take; measure nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print scores.json on stdout, and nothing else there.")
    ] = False,
) -> None:
    """Measure SAEs with SAEBench (0.6.0, installed apart: without it this says how).

    Each RUN is what `wsae eval` takes, but for SAEs without a language model. Evals: core,
    sparse_probing, sae_probes, absorption, scr, tpp, meta_structure, autointerp. TPP and SCR failed
    an audit of SAEBench's metrics (arXiv 2605.18229): they are measured when asked for, and nothing
    is concluded from them.

    \b
      wsae bench runs/comparison --evals core,sparse_probing,sae_probes
      wsae bench runs/comparison --evals core,absorption --dry-run
      wsae bench runs/a runs/b --evals core --output bench --dataset pile.jsonl

    Every SAE is measured alone in a seeded call, so the same command gives the same numbers; what
    is done is kept, and a second call goes on. One baseline of each hook is measured once more with
    --noise-seed: a difference below that noise is none.

    quick takes minutes on a small model; standard has SAEBench's settings (its own seed is 42). The
    bundled model needs no network: its text and labelled data are the source of Python's standard
    library, and sae_probes brings its own. Of absorption it says little.

    autointerp asks a language model: --judge-model, and --judge-url for any API that speaks
    OpenAI's protocol; the key is read from OPENAI_API_KEY. Its answers are kept, so that no
    question is paid for twice. Chance is 0.714.

    sparse_probing with SAEBench's own data sets in the standard profile reads
    codeparrot/github-code, which comes as a script: it needs --trust-remote-code.

    Writes scores/saebench.json into every run's folder, which `wsae report` reads, and into
    saebench/ of the folder, or --output: scores.json of all runs, results/<eval>/ (SAEBench's own
    files) and cache/, which may be deleted.

    Exit codes: 0 done, 1 an eval failed, 2 the request is wrong and nothing was measured.
    """
    # Imported here: SAELens takes seconds, and `wsae --help` should not.
    from wsae_plugin.saebench.bench import bench as measure
    from wsae_plugin.saebench.bench import estimate
    from wsae_plugin.saebench.request import Request, output_folder

    request = Request(
        evals=_names(evals),
        arms=_names(arms),
        profile=profile,  # pyright: ignore[reportArgumentType] - Request refuses others
        seed=seed,
        noise_seed=None if no_noise else noise_seed,
        dataset=dataset,
        datasets=datasets,
        tasks=_names(tasks),
        judge_url=judge_url,
        judge_model=judge_model,
        judge_rate=judge_rate,
        force=force,
    )
    folder = output_folder(runs, output)
    if dry_run:
        result = {"output": str(folder), **estimate(runs, folder, request)}
    else:
        result = measure(runs, folder, request)
    if as_json:
        print_json(result)
    elif dry_run:
        _show_cost(result)
    else:
        _show(result, folder)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _show_cost(cost: dict[str, Any]) -> None:
    headings = ("eval", "SAEs", "for the noise", "done before", "minutes, about")
    table = plain_table(f"{cost['output']} (nothing is written)", *headings, numbers=4)
    for row in cost["evals"]:
        minutes = "unknown" if row["seconds"] is None else f"{row['seconds'] / 60:.1f}"
        table.add_row(row["eval"], *(str(row[n]) for n in ("saes", "noise", "done")), minutes)
    print_table(table)
    if cost["judge_calls"]:
        print_plain(
            f"The judge: {cost['judge_calls']:,} calls, about {cost['judge_tokens']:,} tokens of "
            "prompts and answers."
        )


def _show(document: dict[str, Any], folder: Path) -> None:
    headlines = [score for score in document["scores"] if score["headline"]]
    arrows = {"up": " ↑", "down": " ↓", "none": ""}
    columns: dict[tuple[str, str], str] = {}
    runs: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}
    noise: dict[tuple[str, str], list[float]] = {}
    for score in headlines:
        metric = score["eval"], score["metric"]
        columns.setdefault(metric, score["label"] + arrows[score["direction"]])
        runs.setdefault(score["run"], {})[metric] = score
        noise.setdefault(metric, [])
        if score["noise"] is not None:
            noise[metric].append(score["noise"])
    levels = {"noise": {metric: max(found, default=None) for metric, found in noise.items()}}
    print_table(score_table("SAEBench", columns, runs, levels, ".3f"))
    notes = dict.fromkeys(f"{s['label']}: {s['note']}" for s in headlines if s["note"])
    print_plain(*notes, f"All scores: {folder / 'scores.json'}")
