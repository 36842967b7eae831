"""`wsae verify`: is what is on the Hub what it says it is?"""

from __future__ import annotations

from typing import Annotated

import typer

from wsae_plugin.cli._shared import JSON, plain_table, print_json, print_plain, print_table
from wsae_plugin.cli.trust import loads_models


@loads_models
def verify(
    source: Annotated[
        str,
        typer.Argument(
            metavar="REPO_OR_FOLDER", help="user/name, hf://user/name@revision, or a folder."
        ),
    ],
    revision: Annotated[
        str | None, typer.Option("--revision", help="A branch, tag or commit of the repository.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            metavar="PATH",
            help="The held-out text, if it was a local folder or file.",
        ),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Download a publication of `wsae push` again, into a fresh cache, and compare.

    Every file is compared with the sha256 in the root config.json, every SAE is loaded as plain
    SAELens does, and, where its model is at hand, its explained variance and L0 are measured again
    and compared with its record. What could not be measured, and why, is said. A folder on this
    machine is compared in the same way. An SAE whose training.yaml says otherwise than its
    cfg.json, of the model for one, is not measured.

    \b
      wsae verify me/my-saes
      wsae verify me/my-saes --revision v1 --json
      wsae verify hf://me/my-saes@v1
      wsae verify downloaded/ --dataset my-held-out.jsonl

    Where the SAEs were measured on a text of one's own, the publication has its name and no more:
    --dataset says where it is.

    Exit codes: 0 all is as recorded, 1 something differs (a table says what) or the Hub refused, 2
    the request is wrong.
    """
    # Imported here: SAELens takes seconds, and `wsae --help` should not.
    from dataclasses import asdict

    from wsae_plugin.errors import RunFailedError
    from wsae_plugin.hub.remeasure import not_measured
    from wsae_plugin.hub.verify import verify as compare

    result = compare(source, revision, dataset)
    if as_json:
        print_json(asdict(result))
    else:
        if result.differences:
            title = f"{source}: what differs"
            table = plain_table(title, "SAE", "what", "recorded", "found")
            for difference in result.differences:
                table.add_row(*asdict(difference).values())
            print_table(table)
        print_plain(*not_measured(result.not_measured))
    if result.differences:
        raise RunFailedError(f"{source}: {len(result.differences)} things are not as recorded")
    if not as_json:
        print_plain(
            f"{source}: {result.files} files and {len(result.measured)} SAEs are as recorded"
        )
