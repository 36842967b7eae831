"""`wsae toy`: the toy studies, SAEs against features that are known."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from wsae_plugin.cli._shared import JSON, help_of, print_json, print_plain, print_text

Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="DIR", help="The folder. By default toy-<name>."),
]
Seeds = Annotated[int, typer.Option("--seeds", help="Repetitions of every SAE, 2 or more.")]
Steps = Annotated[int, typer.Option("--steps", help="Adam steps of all that is trained.")]
NFeatures = Annotated[int, typer.Option("--n-features", help="n, features of a world.")]
DIn = Annotated[int, typer.Option("--d-in", help="Input dimensions.")]

toy = typer.Typer(name="toy", no_args_is_help=True, pretty_exceptions_enable=False)


def about() -> None:
    """Train many small SAEs at once where the true features are known, and say what weighting did.

    Every seed has its own world; all SAEs of a seed share data and initial weights. Each weighted
    SAE stands beside its controls: Γ = I, Γ = cI at the same scale, Γ shuffled, the opposite α, a
    plain SAE on Γx, whitening. Differences are paired over seeds, with intervals and Holm's
    correction; the verdict may be that there is none.

    \b
      wsae toy fig3
      wsae toy fig3 --seeds 4 --steps 300 --output quick-look
      wsae toy alpha --n-features 100 --d-in 16 --output alpha-100

    The folder gets <name>.md (the verdict, and what it rests on), <name>.json (every number), PNG
    figures, config.json and cells/. An interrupted command goes on where it stopped when it is
    given again; other options need another folder.
    """


toy.callback(help=help_of(about))(about)


def _figure_command(study: Callable[[], None]) -> None:
    """Make a command of the study of this name, with this docstring as its help."""
    name = study.__name__

    @toy.command(name, help=help_of(study))
    def command(  # pyright: ignore[reportUnusedFunction]
        output: Output = None,
        seeds: Seeds = 8,
        steps: Steps = 1000,
        n_features: NFeatures = 200,
        d_in: DIn = 20,
        threads: Annotated[
            int | None,
            typer.Option("--threads", min=1, help="By default as many as torch takes."),
        ] = None,
        as_json: JSON = False,
    ) -> None:
        # Imported here: SAELens takes seconds, and `wsae --help` should not.
        from wsae_plugin.toy.study import ToySettings

        settings = ToySettings(n_features=n_features, d_in=d_in, n_seeds=seeds, n_steps=steps)
        _run(name, settings, output, as_json, threads=threads)


@_figure_command
def fig2() -> None:
    """Figure 2 of arXiv 2506.15963: how many features activate a latent.

    Over the sparsity S, the activation (none, JumpReLU 0.1, Top-2) and the hidden width (d_in to
    n_features), on the learned world, tied as in the paper and untied as in practice. The same SAE
    before training is the control: with Top-k the count is bounded by k·n/d_sae but for the biases,
    whatever was learned.

    Exit codes: 0 done, 1 failed, 2 the request is wrong and nothing was written.
    """


@_figure_command
def fig3() -> None:
    """Figure 3 of arXiv 2506.15963: SAE and WSAE on the learned world, over the sparsity S.

    L_GT after Hungarian alignment, L_GT on the non-zero dimensions, reconstruction of x_p, variance
    of the latents; tied with ReLU and Top-2 as in the theory, untied with Top-2 as in practice.

    Exit codes: 0 done, 1 failed, 2 the request is wrong and nothing was written.
    """


@_figure_command
def proxies() -> None:
    """Which proxy s makes the better Γ: variance, kurtosis, interference, latent variance.

    On the learned world, whose axes mean nothing, and on worlds in which some input dimensions
    carry one feature and others several; with few and with many active features.

    Exit codes: 0 done, 1 failed, 2 the request is wrong and nothing was written.
    """


@_figure_command
def alpha() -> None:
    """How strong, and which sign: γ = s^α for α from −1 to 2.

    For the variance and the kurtosis, on the learned world and on worlds with privileged axes.

    Exit codes: 0 done, 1 failed, 2 the request is wrong and nothing was written.
    """


def gba_study(
    output: Output = None,
    seeds: Seeds = 3,
    steps: Steps = 2500,
    lr: Annotated[
        list[float] | None,
        typer.Option("--lr", help="Learning rate; given again, every arm is trained at each."),
    ] = None,
    n_features: NFeatures = 128,
    d_in: DIn = 42,
    d_sae: Annotated[int, typer.Option("--d-sae", help="Latents.")] = 1024,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", min=1, help="SAEs at a time, one thread each. By default one a core."
        ),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Who recovers the features of X = HV: Group Bias Adaptation beside Top-k, L1, weighted forms.

    Group Bias Adaptation is of arXiv 2506.14002. Three worlds: balanced, imbalanced as printed
    (half of the samples with 3 features, half with 20), and one whose features differ in frequency.
    Every arm is a training class of this package (α = 0: SAELens's own) in SAELens's trainer, 3
    seeds on one dictionary; the printed numbers stand beside. About an hour of one core; --seeds 2
    --steps 500 for a look.

    The folder gets gba.md (the verdict, tables), gba.json (every number), PNG figures, config.json
    and cells/.
    An interrupted study goes on where it stopped when it is given again.

    Exit codes: 0 done, 1 failed, 2 the request is wrong and nothing was written.
    """
    from wsae_plugin.toy.study import GBASettings

    settings = GBASettings(
        n_features, d_in, d_sae, n_steps=steps, n_seeds=seeds, rates=tuple(lr or GBASettings.rates)
    )
    _run("gba", settings, output, as_json, threads=1, jobs=jobs or os.cpu_count() or 1)


toy.command("gba", help=help_of(gba_study))(gba_study)


def _run(
    name: str, settings: Any, output: Path | None, as_json: bool, threads: int | None, jobs: int = 1
) -> None:
    from wsae_plugin.plots.style import save_png
    from wsae_plugin.plots.toy import FIGURES
    from wsae_plugin.toy.study import STUDIES, run_study

    folder = output or Path(f"toy-{name}")
    result = run_study(STUDIES[name], settings, folder, threads, jobs)
    for figure_name, figure in FIGURES[name](result).items():
        save_png(figure, folder / f"{figure_name}.png")
    if as_json:
        print_json(result)
        return

    print_text(result["title"], style="bold")
    print_text(*result["verdict"])
    print_plain(f"What it rests on, with the figures: {folder / name}.md")
