"""`wsae gamma`: what Γ would be for a config's model, hook and data, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsae_plugin.cli import _shared
from wsae_plugin.cli.trust import loads_models

if TYPE_CHECKING:
    from wsae_plugin.training.config import RunConfig


@loads_models
def gamma(
    config: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG.yaml|RUN",
            help="A config file, or the folder of a trained SAE, or hf://USER/NAME/SAE on the Hub.",
            callback=_shared.one_at_hand,
        ),
    ],
    sae: Annotated[
        str | None,
        typer.Option("--sae", metavar="NAME", help="Which of `saes`. By default the first."),
    ] = None,
    alphas: Annotated[
        list[float] | None,
        typer.Option(
            "--alpha", help="An exponent. Repeatable. By default 0.5, 1 and the config's."
        ),
    ] = None,
    proxies: Annotated[
        list[str] | None,
        typer.Option(
            "--proxy", help="Repeatable. By default variance, kurtosis and the config's own."
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(
            "--tokens", min=1, help="How many to read. By default as many as training would."
        ),
    ] = None,
    overrides: _shared.SET = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Write gamma.json and gamma_spectrum.png there."
        ),
    ] = None,
    as_json: _shared.JSON = False,
) -> None:
    """Look at Γ before training: how uneven it would be, and on how few dimensions the loss would
    rest.

    Reads activations at the hook of a config, or of a trained SAE, as training would, and computes
    γ = s^α for several α and for the proxies s that need no SAE. In real language models a few
    outlier dimensions can hold most of the variance; with α = 1 they then take nearly all of the
    weighted loss. The table says so, and which gamma_clip would bring it under.

    \b
      wsae gamma topk.yaml
      wsae gamma topk.yaml --alpha -0.5 --alpha 2 --output gamma

    "dims" is the effective number that the weighted variance is spread over, (Σγ²s)² / Σ(γ²s)²;
    "top 1/5/10" the share of it in those that hold most; "dead" how many have s = 0 and get the
    smallest weight of the others; ± half the difference between every other batch and the rest.
    Γ = I is the unweighted loss. The proxies latent_variance and interference are made from the
    SAE's own decoder while it trains, so they cannot be shown.

    Exit codes: 0 done, 1 failed, 2 the request is wrong and nothing was written.
    """
    # Imported here: SAELens takes seconds, and `wsae --help` should not.
    from wsae_plugin.files import refuse_output
    from wsae_plugin.training import load_run_config
    from wsae_plugin.training.survey import survey_config

    if output is not None:
        refuse_output("--output", output)
    if config.is_dir():
        run_config = _config_of(config, overrides or []).alone(sae)
    else:
        run_config = load_run_config(config, overrides or []).alone(sae)
    result = survey_config(run_config, alphas, proxies, tokens)
    if output is not None:
        _write(result, output)
    if as_json:
        _shared.print_json(result)
    else:
        _show(result)


def _config_of(folder: Path, overrides: list[str]) -> RunConfig:
    """The config of the training of the one SAE in a folder, as far as its files say."""
    from wsae_plugin.compare.runs import runs_of
    from wsae_plugin.errors import BadInputError
    from wsae_plugin.measures.evaluated_run import config_for_here
    from wsae_plugin.saved_run import read_training
    from wsae_plugin.yaml_file import with_overrides

    runs = runs_of([folder])
    if len(runs) > 1:
        folders = ", ".join(str(run.path) for run in runs)
        raise BadInputError(f"{folder}: holds several SAEs; give the folder of one: {folders}")
    known = with_overrides(read_training(runs[0].path, runs[0].sae), overrides)
    return config_for_here(known, str(folder))


def _write(result: dict[str, Any], output: Path) -> None:
    from wsae_plugin.files import write_json_atomic
    from wsae_plugin.plots.gamma import gamma_spectrum
    from wsae_plugin.plots.style import save_png

    output.mkdir(parents=True, exist_ok=True)
    write_json_atomic(output / "gamma.json", result)
    save_png(gamma_spectrum(result), output / "gamma_spectrum.png")


def _show(result: dict[str, Any]) -> None:
    from wsae_plugin.gamma.proxies import needs_of
    from wsae_plugin.plots.gamma import label

    title = f"Γ at {result['hook_name']} of {result['model']}, {result['tokens']:,} tokens"
    headings = ("min γ", "median", "max", "max/med.", "dims", "top 1/5/10", "dead")
    table = _shared.plain_table(title, "Γ", *headings, numbers=len(headings))
    largest: list[str] = []
    notes: list[str] = []
    for entry in result["gammas"]:
        dead = str(entry["dead_dimensions"])
        if "unusable" in entry:
            table.add_row(label(entry), *["-"] * 6, dead)
            notes.append(f"{label(entry)}: {entry['unusable']}")
            continue
        table.add_row(label(entry), *_cells(entry), dead)
        top = entry["spectrum"]["top_dimensions"]
        shares = ", ".join(f"{part['dimension']} ({part['share']:.1%})" for part in top)
        largest.append(f"{label(entry)}: most of the weighted variance in dimensions {shares}")
        if entry["spectrum"]["concentrated"]:
            notes.append(f"WARNING {label(entry)}: {_warning(entry)}")
    if needs_of(result["config"]["gamma_proxy"]):
        notes.append(
            f"The config's own proxy, {result['config']['gamma_proxy']}, is made from the SAE's "
            "decoder while it trains, so it cannot be known before."
        )
    _shared.print_table(table)
    _shared.print_text(*largest, *notes)


def _cells(entry: dict[str, Any]) -> list[str]:
    spectrum, spread = entry["spectrum"], entry["spread"]
    share = spectrum["weighted_variance_share"]
    return [
        *(f"{spectrum['gamma'][name]:.2g}" for name in ("min", "median", "max")),
        f"{spectrum['max_over_median']:.3g}±{spread['max_over_median']:.1g}",
        f"{spectrum['effective_dimensions']:.3g}±{spread['effective_dimensions']:.1g}",
        "/".join(f"{100 * share[name]:.0f}" for name in ("top_1", "top_5", "top_10")) + " %",
    ]


def _warning(entry: dict[str, Any]) -> str:
    share, clip = entry["spectrum"]["weighted_variance_share"]["top_5"], entry["clip_that_spreads"]
    remedy = (
        "no gamma_clip changes that: it is so without any weights, or the clip cuts none"
        if clip is None
        else f"gamma_clip: {clip:g} is the largest that brings them under half"
    )
    return (
        f"five dimensions hold {share:.0%} of the weighted variance, the other "
        f"{entry['spectrum']['d_in'] - 5} the rest; {remedy}"
    )
