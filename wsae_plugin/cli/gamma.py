"""`wsae gamma`: what Γ would be for a config's model, hook and data, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsae_plugin.cli import _shared
from wsae_plugin.cli.trust import loads_models

if TYPE_CHECKING:
    from wsae_plugin.compare.manifest import ComparedRun
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
            "--tokens",
            min=1,
            help="How many to read. By default as many as training would, for Γ or for a metric.",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            metavar="NAME",
            help="Look at a full-matrix metric instead: fisher, rotated_fisher or covariance; of a "
            "trained SAE also at what it says of the SAE's errors.",
        ),
    ] = None,
    overrides: _shared.SET = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Write gamma.json and gamma_spectrum.png there; with --metric its own two files.",
        ),
    ] = None,
    as_json: _shared.JSON = False,
) -> None:
    """Look at Γ before training: how uneven it would be, and on how few dimensions the loss would
    rest.

    Reads activations at the hook of a config, or of a trained SAE, or rows of its table, as
    training would, and computes γ = s^α for several α and for the proxies s that need no SAE. In
    real language models a few outlier dimensions can hold most of the variance; with α = 1 they
    then take nearly all of the weighted loss. The table says so, and which gamma_clip would bring
    it under.

    \b
      wsae gamma topk.yaml
      wsae gamma topk.yaml --alpha -0.5 --alpha 2 --output gamma
      wsae gamma runs/topk --metric fisher --output fisher

    "dims" is the effective number that the weighted variance is spread over, (Σγ²s)² / Σ(γ²s)²;
    "top 1/5/10" the share of it in those that hold most; "dead" how many have s = 0 and get the
    smallest weight of the others; ± half the difference between every other batch and the rest.
    Γ = I is the unweighted loss. The proxies latent_variance and interference are made from the
    SAE's own decoder while it trains, so they cannot be shown.

    With --metric: how the metric's eigenvalues are spread, on how many directions half of it lies,
    and how far its axes are those of the covariance. For a trained SAE also gate 0, the rank
    correlation of what the metric says of an error with the KL divergence that the error causes,
    beside ‖δ‖² and two guesses that know the position; a metric that orders errors no better than
    ‖δ‖² may still say in which directions all of them cost. --output keeps metric.json and
    metric.safetensors, for `metric_file`.

    Exit codes: 0 done, 1 failed, 2 the request is wrong and nothing was written.
    """
    # Imported here: SAELens takes seconds, and `wsae --help` should not.
    from wsae_plugin.errors import BadInputError
    from wsae_plugin.files import refuse_output
    from wsae_plugin.training import load_run_config
    from wsae_plugin.training.survey import survey_config

    if output is not None:
        refuse_output("--output", output)
    trained = _run_of(config) if config.is_dir() else None
    if trained is not None:
        run_config = _config_of(trained, overrides or []).alone(sae)
    else:
        run_config = load_run_config(config, overrides or []).alone(sae)
    if metric is not None:
        for option, given in (("--alpha", alphas), ("--proxy", proxies)):
            if given:
                raise BadInputError(
                    f"{option}: is of Γ, and with --metric there is none: leave it out"
                )
        _look_at_metric(run_config, metric, trained, tokens, output, as_json)
        return
    result = survey_config(run_config, alphas, proxies, tokens)
    if output is not None:
        _write(result, output)
    if as_json:
        _shared.print_json(result)
    else:
        _show(result)


def _look_at_metric(
    config: RunConfig,
    metric: Any,
    trained: ComparedRun | None,
    tokens: int | None,
    output: Path | None,
    as_json: bool,
) -> None:
    from wsae_plugin.files import write_json_atomic
    from wsae_plugin.measures.metric_survey import survey_metric

    file = output and output / "metric.safetensors"
    result = survey_metric(config, metric, tokens, file, trained)
    if output is not None:
        write_json_atomic(output / "metric.json", result)
    if as_json:
        _shared.print_json(result)
    else:
        _show_metric(result)


def _show_metric(result: dict[str, Any]) -> None:
    values = result["eigenvalues"]
    places = sorted({1, 5, 10, len(values) // 2, len(values)} & {*range(1, len(values) + 1)})
    title = f"{result['metric']} at {result['hook_name']} of {result['model']}"
    table = _shared.plain_table(title, "eigenvalue", "× the mean", numbers=1)
    for place in places:
        table.add_row(f"number {place} of {len(values)}", f"{values[place - 1]:.3g}")
    _shared.print_table(table)
    _shared.print_text(
        f"Half of it lies on {result['directions_that_hold_half']} of {len(values)} directions. "
        f"The largest entry of its diagonal is {result['diagonal_max_over_median']:.2g} times the "
        "median one.",
        f"Its axes and the covariance's: correlation of the logarithms {result['alignment']:.2f}. "
        f"Its top five directions hold {result['mean_in_top']:.0%} of the mean activation.",
        f"Estimated from {result['gradients']:,} gradients at {result['tokens']:,} tokens.",
    )
    if "gate" in result:
        title = "Gate 0: rank correlation with the KL divergence that an error causes"
        gate = _shared.plain_table(title, "what is said of an error δ", "Spearman", numbers=1)
        for name, correlation in result["gate"].items():
            gate.add_row(name, f"{correlation:.2f}")
        _shared.print_table(gate)


def _run_of(folder: Path) -> ComparedRun:
    from wsae_plugin.compare.runs import runs_of
    from wsae_plugin.errors import BadInputError

    runs = runs_of([folder])
    if len(runs) > 1:
        folders = ", ".join(str(run.path) for run in runs)
        raise BadInputError(f"{folder}: holds several SAEs; give the folder of one: {folders}")
    return runs[0]


def _config_of(run: ComparedRun, overrides: list[str]) -> RunConfig:
    """The config of the training of an SAE, as far as its files say."""
    from wsae_plugin.measures.evaluated_run import config_for_here
    from wsae_plugin.saved_run import read_training
    from wsae_plugin.yaml_file import with_overrides

    return config_for_here(
        with_overrides(read_training(run.path, run.sae), overrides), str(run.path)
    )


def _write(result: dict[str, Any], output: Path) -> None:
    from wsae_plugin.files import write_json_atomic
    from wsae_plugin.plots.gamma import gamma_spectrum
    from wsae_plugin.plots.style import save_png

    output.mkdir(parents=True, exist_ok=True)
    write_json_atomic(output / "gamma.json", result)
    save_png(gamma_spectrum(result), output / "gamma_spectrum.png")


def _show(result: dict[str, Any]) -> None:
    from wsae_plugin.gamma.proxies import needs_sae
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
    if needs_sae(result["config"]["gamma_proxy"]):
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
