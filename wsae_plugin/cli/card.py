"""`wsae card`: a complete model card from what the runs say of themselves."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsae_plugin.cli._shared import print_json, print_plain

if TYPE_CHECKING:
    from wsae_plugin.hub.records import SAERecord

# Paragraphs on one line each: the help is wrapped to the terminal's width.
_HELP = "\n\n".join(
    (
        "Write the model card of trained and measured SAEs: what `wsae push` would publish.",
        "Each RUN is a run folder of `wsae train` or a comparison folder of `wsae compare`, "
        "measured by `wsae eval`. The card has the loss, how to load each SAE with SAELens alone, "
        "a table of the SAEs and one of their scores beside ordinary SAEs at matched L0, Γ with "
        "its spectrum, data, procedure, SAEBench's scores if there are any, limits and citation; "
        "of a whole comparison, also what `wsae report` says. Many SAEs are shown by variant, with "
        "the mean over hooks and seeds, and one by one where the page is unfolded. A field that is "
        "missing is an error that names it.",
        "\b\n  wsae eval runs/topk runs/weighted\n"
        "  wsae card runs/weighted --baseline runs/topk --repo me/my-saes --output card/README.md\n"
        "  wsae card comparison --output card/README.md",
        "Figures are written beside the card. A card that was edited by hand is not overwritten.",
        "Exit codes: 0 done, 1 failed, 2 the request is wrong and nothing was written.",
    )
)

Runs = Annotated[
    list[Path], typer.Argument(metavar="RUN...", help="Run folders or comparison folders.")
]
Author = Annotated[
    str | None, typer.Option("--author", help="Of the SAEs. By default the repository's owner.")
]
License = Annotated[str, typer.Option("--license", help="Of the weights, by its id on the Hub.")]
Language = Annotated[
    str, typer.Option("--language", help="Of the text: ISO 639 codes or 'code', by commas.")
]
Baseline = Annotated[
    Path | None,
    typer.Option(
        "--baseline",
        metavar="RUN",
        help="The ordinary SAE to show beside weighted ones; in a comparison the pair's own.",
    ),
]


def card(
    runs: Runs,
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
    baseline: Baseline = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print which files were written, as JSON.")
    ] = False,
) -> None:
    # Imported here: SAELens takes seconds, and `wsae --help` should not.
    from wsae_plugin.errors import BadInputError
    from wsae_plugin.files import write_text_atomic
    from wsae_plugin.hub.bundle import saebench_of
    from wsae_plugin.hub.marker import is_untouched
    from wsae_plugin.hub.publish import check_repo_name
    from wsae_plugin.hub.records import read_records

    if output.is_dir():
        raise BadInputError(f"--output {output}: is a folder; give a file, such as README.md")
    if output.exists() and not is_untouched(output.read_text(encoding="utf-8", errors="replace")):
        raise BadInputError(f"--output {output}: was written or edited by hand; name another file")
    if repo is not None:
        check_repo_name(repo)
    records = read_records(runs)
    options = {"repo": repo, "author": author, "license": license_, "language": language}
    text, figures = render(runs, records, baseline, options, saebench_of(records))
    output.parent.mkdir(parents=True, exist_ok=True)
    for name, png in figures.items():
        (output.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (output.parent / name).write_bytes(png)
    write_text_atomic(output, text)
    written = [str(output), *(str(output.parent / name) for name in figures)]
    if as_json:
        print_json({"card": str(output), "files": written})
    else:
        print_plain(*written)


card.__doc__ = _HELP


def render(
    runs: Sequence[Path],
    records: Sequence[SAERecord],
    baseline: Path | None,
    options: Mapping[str, Any],
    saebench: Mapping[str, Any] | None,
) -> tuple[str, dict[str, bytes]]:
    """The card and its figures: path beside the card → PNG."""
    from wsae_plugin.hub.card import CardOptions, figure_path, render_card
    from wsae_plugin.hub.gamma_summary import for_figure, gamma_summaries
    from wsae_plugin.hub.records import read_records
    from wsae_plugin.hub.saebench_section import saebench_section
    from wsae_plugin.plots.gamma import gamma_spectrum

    other = None if baseline is None else read_records([baseline])[0]
    gammas = gamma_summaries(records)
    text = render_card(
        records,
        CardOptions(**options, baseline=other, report=_report(runs)),
        gammas,
        saebench_section(saebench, records),
    )
    figures: dict[str, bytes] = {}
    for hook, summary in gammas.items():
        png = io.BytesIO()
        figure = gamma_spectrum(for_figure(summary))
        # Without matplotlib's version in it, equal figures are equal files.
        figure.savefig(png, format="png", dpi=150, facecolor="white", metadata={"Software": None})
        figures[figure_path(hook)] = png.getvalue()
    return text, figures


def not_measured(reasons: Mapping[str, str]) -> list[str]:
    """sae_id → reason, as a line a reason."""
    saes: dict[str, list[str]] = {}
    for sae_id, reason in reasons.items():
        saes.setdefault(reason, []).append(sae_id)
    return [
        f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}: "
        f"scores not measured again: {reason}"
        for reason, names in saes.items()
    ]


def _report(runs: Sequence[Path]) -> Mapping[str, Any] | None:
    """What `wsae report` would say, where the SAEs are those of one comparison."""
    from wsae_plugin.compare.manifest import MANIFEST_FILENAME
    from wsae_plugin.local_paths import without_local_paths
    from wsae_plugin.report.inputs import read_inputs
    from wsae_plugin.report.summary import summarize

    (first, *others) = runs
    is_comparison = first.is_file() or (first / MANIFEST_FILENAME).is_file()
    if others or not is_comparison:
        return None
    return without_local_paths(summarize(read_inputs(first)))
