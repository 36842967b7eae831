"""The application `wsae`, and what every command shares: exit codes, `-q`, quiet libraries."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console
from tqdm import tqdm
from wrapt import when_imported

from wsae_plugin.cli._shared import help_of, print_plain
from wsae_plugin.cli.bench import bench
from wsae_plugin.cli.card import card
from wsae_plugin.cli.claims import claims
from wsae_plugin.cli.compare import compare
from wsae_plugin.cli.demo import demo
from wsae_plugin.cli.embed import embed
from wsae_plugin.cli.eval import eval_
from wsae_plugin.cli.gamma import gamma
from wsae_plugin.cli.identify import identify
from wsae_plugin.cli.optimality import optimality
from wsae_plugin.cli.push import push
from wsae_plugin.cli.report import report
from wsae_plugin.cli.saelens import saelens
from wsae_plugin.cli.toy import toy
from wsae_plugin.cli.train import train
from wsae_plugin.cli.verify import verify
from wsae_plugin.credentials import redacting, refuse_credentials
from wsae_plugin.distributed.launch import are_several, is_later, is_silent
from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.messages import one_line
from wsae_plugin.remote_code import guarded

app = typer.Typer(
    name="wsae",
    help=(
        "Train, test and compare weighted sparse autoencoders (WSAE) on top of SAELens.\n\n"
        "A weighted SAE multiplies the squared reconstruction error of input dimension q by γ_q², "
        "γ = s^α, where s is a proxy of how monosemantic the dimension is (arXiv 2506.15963). "
        "α = 0 is the ordinary SAE."
    ),
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (
    *(demo, embed, gamma, train, compare, eval_, bench),
    *(report, card, push, verify, identify, optimality, claims),
):
    app.command(name=_command.__name__.rstrip("_"), help=help_of(_command))(_command)
app.add_typer(toy)
app.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    }
)(saelens)

_DISTRIBUTED = ("train", "compare")

# An unknown option, a missing argument: the base of typer's errors, which it does not export.
_UsageError: Any = typer.BadParameter.__bases__[0]


def _show_versions(asked: bool) -> None:
    if asked:
        from wsae_plugin.provenance import versions

        print_plain(*(f"{name} {version}" for name, version in versions().items()))
        raise typer.Exit


@app.callback()
def _settings(
    context: typer.Context,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress bars, warnings only.")
    ] = False,
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_versions, is_eager=True, help="Show versions and exit."
        ),
    ] = False,
) -> None:
    if are_several() and context.invoked_subcommand not in _DISTRIBUTED:
        raise BadInputError(
            f"wsae {context.invoked_subcommand}: runs in one process; start it without torchrun "
            f"(several make {' and '.join(_DISTRIBUTED)})"
        )
    if later := is_later():
        # Of several processes that do one work, the first reports it.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        warnings.simplefilter("ignore")
    quiet = quiet or later
    logging.basicConfig(
        level=logging.ERROR if later else logging.WARNING if quiet else logging.INFO,
        format="%(message)s",
        force=True,
    )
    # A line a request, with signed addresses in it.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if quiet:
        # SAELens draws its bars without asking, and tqdm's own switch is read at import only.
        tqdm.__init__ = _draw_nothing


_DRAW: Callable[..., None] = tqdm.__init__


def _draw_nothing(*args: Any, **kwargs: Any) -> None:
    _DRAW(*args, **kwargs | {"disable": True})


def main() -> None:
    """Entry point: 0 done, 1 a failure with its cause, 2 wrong usage; no traceback for either."""
    when_imported("matplotlib")(_without_latex)
    with redacting(), guarded():
        code = _run(sys.argv[1:] or ["--help"])
    sys.exit(code if isinstance(code, int) else 0)


def _without_latex(matplotlib: Any) -> None:
    # A matplotlibrc in the working directory could have LaTeX read any file into a figure.
    matplotlib.rcParams["text.usetex"] = False


def _run(arguments: list[str]) -> Any:
    try:
        refuse_credentials(arguments, "the command line")
        return app(args=arguments, prog_name="wsae", standalone_mode=False)
    except _UsageError as error:
        command = error.ctx.command_path if error.ctx else "wsae"
        if not is_silent():
            _refuse(f"{' '.join(error.format_message().split())} See '{command} --help'.")
        return 2
    except (BadInputError, RunFailedError) as error:
        if not is_silent():
            _refuse(str(error))
        return 2 if isinstance(error, BadInputError) else 1
    except OSError as error:
        # A disk that is full, or a folder that became read-only: whatever was being written.
        place = f"{error.filename}: " if error.filename else ""
        _refuse(place + (one_line(error.strerror or error) or type(error).__name__))
        return 1
    except Exception:
        # Ours to mend; shown here, where no credential is shown.
        traceback.print_exc()
        return 1


def _refuse(message: str) -> None:
    Console(stderr=True).print(f"wsae: {message}", markup=False, highlight=False, soft_wrap=True)
