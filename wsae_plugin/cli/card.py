"""`wsae card`: a complete model card from what the runs say of themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wsae_plugin.cli._shared import BASELINE, RUNS, print_json, print_plain

Author = Annotated[
    str | None, typer.Option("--author", help="Of the SAEs. By default the repository's owner.")
]
License = Annotated[str, typer.Option("--license", help="Of the weights, by its id on the Hub.")]
Language = Annotated[
    str, typer.Option("--language", help="Of the text: ISO 639 codes or 'code', by commas.")
]
BaseModel = Annotated[
    str | None,
    typer.Option(
        "--base-model", metavar="USER/NAME", help="What a model that was a folder is on the Hub."
    ),
]
DatasetName = Annotated[
    str | None,
    typer.Option(
        "--dataset-name", metavar="USER/NAME", help="The same of the text that was trained on."
    ),
]


def card(
    runs: RUNS,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="README.md", help="Write the card there.")
    ] = Path("README.md"),
    author: Author = None,
    license_: License = "mit",
    language: Language = "en",
    repo: Annotated[
        str | None,
        typer.Option("--repo", metavar="USER/NAME", help="Where it will be, for the snippet."),
    ] = None,
    baseline: BASELINE = None,
    base_model: BaseModel = None,
    dataset_name: DatasetName = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print which files were written, as JSON.")
    ] = False,
) -> None:
    """Write the model card of trained and measured SAEs: what `wsae push` would publish.

    Each RUN is what `wsae eval` has measured: SAEs of a comparison, of a run, or of a script of
    one's own. The card has the loss, how to load each SAE with SAELens alone, a table of the SAEs
    and one of their scores, of weighted ones beside ordinary SAEs, what `wsae report` says of the
    difference, Γ with its spectrum, data, procedure, SAEBench's scores if there are any, limits and
    citation. Many SAEs are shown by variant, with the mean over hooks and seeds, and one by one
    where the page is unfolded. A field that is missing is an error that names it. Of SAEs on a
    synthetic model the card says which, how to draw it, and their scores against its true features.

    \b
      wsae eval runs/topk runs/weighted
      wsae card runs/weighted --baseline runs/topk --repo me/my-saes --output card/README.md
      wsae card comparison --output card/README.md

    Figures are written beside the card. A card that was edited by hand is not overwritten.

    Exit codes: 0 done, 1 failed, 2 the request is wrong and nothing was written.
    """
    # Imported here: SAELens takes seconds, and `wsae --help` should not.
    from wsae_plugin.hub.card import CardOptions, write_card

    options = CardOptions(repo, author, license_, language, baseline, base_model, dataset_name)
    written = write_card(runs, output, options)
    if as_json:
        print_json({"card": str(output), "files": list(map(str, written))})
    else:
        print_plain(*written)
