"""`wsae optimality`: how far trained SAEs are from any optimum, and what to do about it."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Annotated, Any

import typer

from wsae_plugin.cli._shared import (
    RUNS,
    number,
    plain_table,
    print_json,
    print_plain,
    print_table,
    print_text,
    score_table,
    second_line,
)
from wsae_plugin.cli.trust import loads_models
from wsae_plugin.errors import BadInputError


@loads_models
def optimality(
    runs: RUNS,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|bundled-held-out",
            help="The held-out text, or table: a folder, a file, or a name on the Hub. By default "
            "the held-out split of what a run was trained on.",
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            "--tokens",
            help="How many tokens, or samples, in all batches. By default 4 for each latent of the "
            "widest SAE, from 2,000 to 20,000.",
        ),
    ] = None,
    batches: Annotated[int, typer.Option(help="The spread is taken over them; at least 8.")] = 16,
    seed: Annotated[
        int,
        typer.Option(min=0, max=2**63 - 1, help="Of the order of the text and the controls."),
    ] = 0,
    penalty: Annotated[
        float | None,
        typer.Option(
            help="The L1 penalty of the optimal codes. By default the one that makes them as "
            "sparse as the SAE's."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="What no file of an SAE says, such as hook_name=blocks.3.hook_resid_post. "
            "Repeatable. It is kept in config.yaml beside the SAE.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Test again what has been tested.")
    ] = False,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Write the SAE with fewer active latents: a smaller k, or larger thresholds of a "
            "JumpReLU or ReLU SAE, where that costs nothing. With --output.",
        ),
    ] = False,
    refit: Annotated[
        bool,
        typer.Option(
            "--refit",
            help="Write the SAE with a decoder that is fitted once more to its own codes. With "
            "--output.",
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="The folder that --prune and --refit write."
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print scores/optimality.json on stdout: of one SAE that object, with lines, "
            "duality_gap, and edit, what --prune and --refit did; of several a list of such "
            "objects.",
        ),
    ] = False,
) -> None:
    """Test SAEs against what any optimum of a dictionary satisfies, on held-out samples.

    Each RUN is what `wsae eval` takes: any SAE that SAELens loads, weighted or not, a run folder, a
    comparison, or hf://USER/NAME/SAE on the Hub. The folder of each gets scores/optimality.json.
    Runs that have been tested with the same settings are left alone.

    \b
      wsae optimality demo/comparison
      wsae optimality runs/mine --tokens 5000
      wsae optimality my_sae --set model_name=gpt2 --set hook_name=blocks.3.hook_resid_post
      wsae optimality runs/mine --json | jq .duality_gap
      wsae optimality runs/mine --refit --output runs/mine-refitted

    Each line of the table is a condition that an optimum meets, as a number that is small where it
    is met: mostly the share of the squared error that could be had, by better codes of the same
    dictionary (what the encoder loses), by a dictionary that is fitted once more (what training
    left), by more latents (what the width costs), or a share of the active latents. "control" is
    the same of random atoms, of which as many are active. "what to do" is empty where the line
    holds.

    A weighted SAE is tested in the space of its loss. The optimal codes are those of the
    nonnegative lasso at the SAE's own sparsity, solved to the duality gap that is printed, the
    distance from the optimum that is proven never to be exceeded.

    --prune and --refit change one SAE without training. They are fitted on every other held-out
    batch and measured on those between, and DIR is written where that gains: fewer active latents
    at no loss of unweighted explained variance, or more explained variance than noise makes, and in
    neither case a clearly worse cross-entropy. DIR holds a plain SAELens SAE, edit.json says what
    was done. Half of the held-out samples have then been fitted to: give `wsae eval DIR` others,
    with --dataset.

    Exit codes: 0 done, whatever was found; 1 failed, or an edit does not gain and DIR was not
    written; 2 the request is wrong and nothing was written.
    """
    # Imported here: SAELens takes seconds, and `wsae --help` should not.
    from wsae_plugin.measures.stated_training import stated_trainings
    from wsae_plugin.optimality.edits import to_be_edited, write_edited
    from wsae_plugin.optimality.run import OptimalitySettings, measure_optimality

    if prune + refit != (output is not None):
        raise BadInputError(
            "--prune, --refit, --output: what one of --prune and --refit makes goes into --output "
            "DIR, and nothing else does; to refit what was pruned, give its folder"
        )
    edit = "prune" if prune else "refit"
    settings = OptimalitySettings(dataset, samples, batches, seed, penalty)
    with stated_trainings(runs, overrides or []):
        of = to_be_edited(runs, edit, output) if output else None
        documents = measure_optimality(runs, settings, force)
    if not as_json:
        _show_all(documents)
        _explain(documents[0])
    if of and output:
        record = write_edited(of, edit, output, settings)
        documents = [documents[0] | {"edit": record}]
        if not as_json:
            _show_edit(record, output)
    if as_json:
        print_json(documents if len(documents) > 1 else documents[0])


_MOST_TABLES = 3
"""More SAEs are shown in one table."""


def _show_all(documents: list[dict[str, Any]]) -> None:
    """A table for each SAE, with what to do; of many one, with the control's mean."""
    if len(documents) <= _MOST_TABLES:
        for document in documents:
            _show(document)
        return
    lines = {of["run"]: {line["name"]: line for line in of["lines"]} for of in documents}
    runs = {
        run: {name: line | {"spread": line["interval"]} for name, line in found.items()}
        for run, found in lines.items()
    }
    names = [line["name"] for line in documents[0]["lines"]]
    controls = {name: [found[name]["control"] for found in lines.values()] for name in names}
    means = {
        name: None if None in each else statistics.fmean(each) for name, each in controls.items()
    }
    columns = {name: name for name in names}
    print_table(score_table("How far from an optimum", columns, runs, {"control": means}, ".3f"))
    actions = {
        line["name"]: line["action"] for of in documents for line in of["lines"] if line["action"]
    }
    for name, action in actions.items():
        n = sum(found[name]["action"] is not None for found in lines.values())
        print_text(f"{name} ({n} of {len(documents)} SAEs): {action}")


def _show(document: dict[str, Any]) -> None:
    """The lines of one SAE."""
    table = plain_table(document["run"], "line", "value", "control", "what to do")
    for column in table.columns[1:3]:
        column.justify = "right"
    for line in document["lines"]:
        spread = second_line(f"±{line['interval']:.2g}") if line["interval"] else ""
        value = number(line["value"]) + spread
        table.add_row(line["name"], value, number(line["control"]), line["action"] or "")
    print_table(table)
    of = f"{document['samples']:,} samples of {document['settings']['dataset']}"
    solved = f"penalty {document['penalty']:.4g}, duality gap {document['duality_gap']:.1g}"
    print_text(f"{of}; {solved}.", style="dim")


def _explain(document: dict[str, Any]) -> None:
    """What the lines and the columns are, once for all SAEs."""
    legend = [f"{score['metric']}: {score['definition']}" for score in document["scores"]]
    legend += [
        "±: half the 95 % interval over held-out batches; of what is fitted to half of them "
        "(dictionary, split) it is too narrow, and covers 70 to 90 % in simulations",
        "control: the same of random atoms, of which about as many are active, on at most 1,000 of "
        "the samples",
        "penalty: of the optimal codes, in units of the activations; with it they are as sparse as "
        "the SAE's, unless --penalty gave another",
        "duality gap: how far the optimal codes are from the optimum at most, as a share of the "
        "objective",
        "more: scores/optimality.json in each run folder",
    ]
    print_text(*legend, style="dim")


def _show_edit(record: dict[str, Any], output: Path) -> None:
    """What an edit changed, and where it is."""
    table = plain_table(record["edit"], "metric", "before", "after", "difference", numbers=3)
    for change in record["metrics"].values():
        half = (change["high"] - change["low"]) / 2
        difference = f"{change['difference']:+.2g}" + second_line(f"±{half:.1g}")
        table.add_row(
            change["label"],
            *(number(change[when], ".4g") for when in ("before", "after")),
            difference,
        )
    print_table(table)
    print_text(
        "On the held-out batches that it was not fitted on; ±: half the 95 % interval of the "
        "paired difference over them.",
        style="dim",
    )
    print_plain(output)
