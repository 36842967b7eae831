"""`wsae gamma`: what Γ would be for a config's model, hook and data, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from wsae_plugin.cli._shared import print_json
from wsae_plugin.cli.trust import loads_models

if TYPE_CHECKING:
    from wsae_plugin.training import RunConfig

# What SAELens batches Γ is estimated over where a config does not say.
_FREEZE_STEP = 100

# Paragraphs on one line each: the help is wrapped to the terminal's width.
_HELP = "\n\n".join(
    (
        "Look at Γ before training: how uneven it would be, and on how few dimensions the loss "
        "would rest.",
        "Reads activations at the config's hook, as training would, and computes γ = s^α for "
        "several α and for the proxies s that need no SAE. In real language models a few "
        "outlier dimensions can hold most of the variance; with α = 1 they then take nearly all "
        "of the weighted loss. The table says so, and which gamma_clip would bring it under.",
        "\b\n  wsae gamma topk.yaml\n  wsae gamma topk.yaml --alpha -0.5 --alpha 2 --output gamma",
        '"dims" is the effective number that the weighted variance is spread over, '
        '(Σγ²s)² / Σ(γ²s)²; "top 1/5/10" the share of it in those that hold most; "dead" '
        "how many have s = 0 and get the smallest weight of the others; ± half the difference "
        "between every other batch and the rest. Γ = I is the unweighted loss. The proxies "
        "latent_variance and interference are made from the SAE's own decoder while it trains, "
        "so they cannot be shown.",
        "Exit codes: 0 done, 1 failed, 2 the request is wrong and nothing was written.",
    )
)


@loads_models
def gamma(
    config: Annotated[
        Path,
        typer.Argument(metavar="CONFIG.yaml", help="A config of `wsae train` on a model."),
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
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Set a field, as for `wsae train`."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Write gamma.json and gamma_spectrum.png there."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print gamma.json on stdout, and nothing else there.")
    ] = False,
) -> None:
    # Imported here: SAELens takes seconds, and `wsae --help` should not.
    from wsae_plugin.errors import BadInputError
    from wsae_plugin.training import load_run_config

    if output is not None and output.exists() and not output.is_dir():
        raise BadInputError(f"--output {output}: is a file; give a folder")
    result = _survey(load_run_config(config, overrides or []), sae, alphas, proxies, tokens)
    if output is not None:
        _write(result, output)
    if as_json:
        print_json(result)
    else:
        _show(result)


gamma.__doc__ = _HELP


def _survey(
    config: RunConfig,
    name: str | None,
    alphas: list[float] | None,
    proxies: list[str] | None,
    tokens: int | None,
) -> dict[str, Any]:
    from itertools import islice

    import torch
    from jinja2 import TemplateError
    from tqdm.auto import tqdm

    from wsae_plugin.errors import BadInputError
    from wsae_plugin.gamma import PROXIES
    from wsae_plugin.gamma.spectrum import check_needs_no_sae, halves_of, survey
    from wsae_plugin.training import activations_of

    if config.is_synthetic:
        raise BadInputError(
            f"{config.source}: wsae gamma looks at a hook of a language model, and a synthetic run "
            "has none; give a config with 'model_name:'"
        )
    config = config.alone(name)
    for proxy in proxies or []:
        check_needs_no_sae(proxy)
    sae = config.values["sae"]
    own_proxy, own_alpha = sae.get("gamma_proxy", "variance"), sae.get("alpha")
    shown = proxies or [
        "variance",
        "kurtosis",
        *([] if PROXIES[own_proxy].needs else [own_proxy]),
    ]
    n_batches = sae.get("gamma_freeze_step") or _FREEZE_STEP
    if tokens is not None:
        n_batches = -(-tokens // config.batch_size)
    runner_config: Any = config.runner_config()
    batches = activations_of(runner_config)
    torch.manual_seed(config.seed)
    # Two at least: the spread is the difference between halves.
    n_batches = max(2, n_batches)
    bar = tqdm(islice(batches, n_batches), "Activations", total=n_batches, unit="batch")
    try:
        halves = halves_of(bar, sae["d_in"])
    except TemplateError as error:
        raise BadInputError(
            f"model_name = {runner_config.model_name!r}: its tokenizer's chat template: {error}"
        ) from error
    result = survey(
        halves,
        alphas or [0.5, 1.0, *([] if own_alpha is None else [own_alpha])],
        shown,
        normalization=sae.get("gamma_normalization", "mean_square"),
        clip=sae.get("gamma_clip"),
        file=sae.get("gamma_file"),
        seed=sae.get("gamma_seed", 0),
    )
    return {
        "model": runner_config.model_name,
        "hook_name": runner_config.hook_name,
        "dataset": runner_config.dataset_path,
        "config": {
            "alpha": own_alpha,
            "gamma_proxy": own_proxy,
            "gamma_clip": sae.get("gamma_clip"),
        },
        **result,
    }


def _write(result: dict[str, Any], output: Path) -> None:
    from wsae_plugin.files import write_json_atomic
    from wsae_plugin.plots.gamma import gamma_spectrum
    from wsae_plugin.plots.style import save_png

    output.mkdir(parents=True, exist_ok=True)
    write_json_atomic(output / "gamma.json", result)
    save_png(gamma_spectrum(result), output / "gamma_spectrum.png")


def _show(result: dict[str, Any]) -> None:
    from wsae_plugin.plots.gamma import label

    console = Console()
    table = Table(
        title=f"Γ at {result['hook_name']} of {result['model']}, {result['tokens']:,} tokens",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("Γ", no_wrap=True)
    for heading in ("min γ", "median", "max", "max/med.", "dims", "top 1/5/10", "dead"):
        table.add_column(heading, justify="right", no_wrap=True)
    for entry in result["gammas"]:
        table.add_row(label(entry), *_cells(entry))
    console.print(table)
    for line in (*_top_dimensions(result), *_notes(result)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _cells(entry: dict[str, Any]) -> list[str]:
    if "unusable" in entry:
        return [*["-"] * 6, str(entry["dead_dimensions"])]
    spectrum, spread = entry["spectrum"], entry["spread"]
    share = spectrum["weighted_variance_share"]
    return [
        *(f"{spectrum['gamma'][name]:.2g}" for name in ("min", "median", "max")),
        f"{spectrum['max_over_median']:.3g}±{spread['max_over_median']:.1g}",
        f"{spectrum['effective_dimensions']:.3g}±{spread['effective_dimensions']:.1g}",
        "/".join(f"{100 * share[name]:.0f}" for name in ("top_1", "top_5", "top_10")) + " %",
        str(entry["dead_dimensions"]),
    ]


def _top_dimensions(result: dict[str, Any]) -> list[str]:
    """The dimensions that hold most of the weighted variance, a line for each Γ."""
    from wsae_plugin.plots.gamma import label

    return [
        f"{label(entry)}: most of the weighted variance in dimensions "
        + ", ".join(
            f"{top['dimension']} ({top['share']:.1%})"
            for top in entry["spectrum"]["top_dimensions"]
        )
        for entry in result["gammas"]
        if "spectrum" in entry
    ]


def _notes(result: dict[str, Any]) -> list[str]:
    """What is to be said beside the table: warnings, and what could not be shown."""
    from wsae_plugin.gamma import PROXIES
    from wsae_plugin.plots.gamma import label

    notes: list[str] = []
    for entry in result["gammas"]:
        if "unusable" in entry:
            notes.append(f"{label(entry)}: {entry['unusable']}")
        elif entry["spectrum"]["concentrated"]:
            share = entry["spectrum"]["weighted_variance_share"]["top_5"]
            clip = entry["clip_that_spreads"]
            remedy = (
                "no gamma_clip changes that: it is so without any weights, or the clip cuts none"
                if clip is None
                else f"gamma_clip: {clip:g} is the largest that brings them under half"
            )
            notes.append(
                f"WARNING {label(entry)}: five dimensions hold {share:.0%} of the weighted "
                f"variance, the other {entry['spectrum']['d_in'] - 5} the rest; {remedy}"
            )
    if PROXIES[result["config"]["gamma_proxy"]].needs:
        notes.append(
            f"The config's own proxy, {result['config']['gamma_proxy']}, is made from the SAE's "
            "decoder while it trains, so it cannot be known before."
        )
    return notes
