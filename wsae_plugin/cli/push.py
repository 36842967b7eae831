"""`wsae push`: trained SAEs onto the Hub, in one commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from wsae_plugin.cli._shared import JSON, plain_table, print_json, print_plain
from wsae_plugin.cli.card import Author, Baseline, Language, License, Runs, not_measured, render
from wsae_plugin.cli.trust import loads_models

if TYPE_CHECKING:
    from wsae_plugin.hub.bundle import Bundle

_MOST_LISTED = 12
"""Of more SAEs than this the folders are listed, not the files."""

# Paragraphs on one line each: the help is wrapped to the terminal's width.
_HELP = "\n\n".join(
    (
        "Publish trained and measured SAEs on the Hugging Face Hub, so that "
        "SAE.from_pretrained(REPO, RUN) loads them with SAELens alone.",
        "Before anything is sent, every SAE is loaded as a reader would load it, and measured "
        "again if its language model is at hand; training checkpoints are refused. Weights, Γ, "
        "scores, configs, figures, the card and a root config.json with all hashes go up in one "
        "commit: all or nothing. An upload that broke off sends only the rest when run again.",
        "Each RUN is a run folder of `wsae train` or a comparison folder of `wsae compare`, all of "
        "whose SAEs are published. No path of this machine goes up: of a held-out text that is a "
        "file here, its name.",
        "\b\n  wsae push runs/topk runs/weighted --repo me/my-saes --dry-run\n"
        "  wsae push comparison --repo me/my-saes --private\n"
        "  wsae verify me/my-saes",
        "The token is the one of `hf auth login` or HF_TOKEN; it is written nowhere. A file that "
        "would hold a credential, and a run with a link out of its folder, are rejected.",
        "Exit codes: 0 done, 1 the Hub refused or cannot be reached, 2 the request is wrong.",
    )
)


@loads_models
def push(
    runs: Runs,
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
    baseline: Baseline = None,
    as_json: JSON = False,
) -> None:
    # Imported here: SAELens takes seconds, and `wsae --help` should not.
    from wsae_plugin.hub.bundle import check_records, make_bundle, saebench_of
    from wsae_plugin.hub.publish import check_repo_name, publish
    from wsae_plugin.hub.records import read_records

    check_repo_name(repo)
    records = read_records(runs)
    saebench = saebench_of(records)
    options = {"repo": repo, "author": author, "license": license_, "language": language}
    text, figures = render(runs, records, baseline, options, saebench)
    bundle = make_bundle(records, text, figures, saebench, check_records(records))
    names = ", ".join(record.sae_id for record in records[:3])
    more = f" and {len(records) - 3} more" if len(records) > 3 else ""
    commit = None
    if not dry_run:
        commit = publish(
            bundle,
            repo,
            private=private,
            revision=revision,
            force=force,
            message=f"Upload {names}{more}",
        )
    if as_json:
        print_json(
            {
                "repo": repo,
                "commit": commit,
                "saes": [record.sae_id for record in records],
                "files": {name: bundle.size(name) for name in bundle.files},
                "not_measured_again": dict(bundle.unchecked),
            }
        )
        return
    done = "would be published" if dry_run else f"published as {commit}"
    table = plain_table(f"{repo}: {done}", "file", "bytes", numbers=1)
    for name, size in _rows(bundle, len(records)):
        table.add_row(name, f"{size:,}")
    Console().print(table)
    print_plain(*not_measured(bundle.unchecked))


push.__doc__ = _HELP


def _rows(bundle: Bundle, n_saes: int) -> list[tuple[str, int]]:
    """Every file; of many SAEs, one row a folder."""
    if n_saes <= _MOST_LISTED:
        return [(name, bundle.size(name)) for name in bundle.files]
    folders: dict[str, list[int]] = {}
    for name in bundle.files:
        folder, _, rest = name.partition("/")
        folders.setdefault(f"{folder}/" if rest else folder, []).append(bundle.size(name))
    return [
        (f"{name} ({len(sizes)} files)" if name.endswith("/") else name, sum(sizes))
        for name, sizes in folders.items()
    ]
