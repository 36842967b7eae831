"""`wsae push`: trained SAEs onto the Hub, in one commit."""

from __future__ import annotations

from typing import Annotated

import typer

from wsae_plugin.cli._shared import (
    BASELINE,
    JSON,
    RUNS,
    plain_table,
    print_json,
    print_plain,
    print_table,
)
from wsae_plugin.cli.card import (
    Author,
    BaseModel,
    DatasetName,
    Language,
    License,
)
from wsae_plugin.cli.trust import loads_models


@loads_models
def push(
    runs: RUNS,
    repo: Annotated[str, typer.Option("--repo", metavar="USER/NAME", help="The repository.")],
    private: Annotated[
        bool, typer.Option("--private", help="Create the repository private.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option("--revision", help="A branch, made if need be. Default: main.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, show the files, send nothing.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Overwrite a card edited by hand; drop SAEs not given."),
    ] = False,
    author: Author = None,
    license_: License = "mit",
    language: Language = "en",
    baseline: BASELINE = None,
    base_model: BaseModel = None,
    dataset_name: DatasetName = None,
    as_json: JSON = False,
) -> None:
    """Publish trained and measured SAEs on the Hugging Face Hub, for SAELens alone to load.

    Before anything is sent, every SAE is loaded as SAE.from_pretrained(REPO, RUN) will load it, and
    measured again if its model is at hand; of a training checkpoint, what plain SAELens loads of it
    is published. Weights, Γ, scores, configs, figures, the card and a root config.json with all
    hashes go up in one commit: all or nothing. An upload that broke off sends only the rest when
    run again.

    Each RUN is what `wsae eval` has measured; all of its SAEs are published. No path of this
    machine goes up: of a held-out text that is a file here, its name; of a model or a data set that
    is a folder here, what --base-model and --dataset-name say.

    \b
      wsae push runs/topk runs/weighted --repo me/my-saes --dry-run
      wsae push comparison --repo me/my-saes --private
      wsae verify me/my-saes

    The token is the one of `hf auth login` or HF_TOKEN; it is written nowhere. A file that would
    hold a credential, and a run with a link out of its folder, are rejected.

    Exit codes: 0 done, 1 the Hub refused or cannot be reached, 2 the request is wrong.
    """
    # Imported here: SAELens takes seconds, and `wsae --help` should not.
    from wsae_plugin.hub.bundle import bundle_of
    from wsae_plugin.hub.card import CardOptions
    from wsae_plugin.hub.names import check_repo_name
    from wsae_plugin.hub.publish import publish
    from wsae_plugin.hub.remeasure import not_measured

    check_repo_name(repo)
    options = CardOptions(repo, author, license_, language, baseline, base_model, dataset_name)
    bundle = bundle_of(runs, options)
    commit = None
    if not dry_run:
        commit = publish(bundle, repo, private=private, revision=revision, force=force)
    if as_json:
        print_json(
            {
                "repo": repo,
                "commit": commit,
                "saes": bundle.saes,
                "files": bundle.sizes,
                "not_measured_again": dict(bundle.unchecked),
            }
        )
        return
    done = "would be published" if dry_run else f"published as {commit}"
    table = plain_table(f"{repo}: {done}", "file", "bytes", numbers=1)
    for name, size in bundle.listed().items():
        table.add_row(name, f"{size:,}")
    print_table(table)
    print_plain(*not_measured(bundle.unchecked))
