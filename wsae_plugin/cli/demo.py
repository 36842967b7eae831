"""`wsae demo`: compare → eval → report on the bundled model, in one command."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from wsae_plugin.cli._shared import print_json
from wsae_plugin.cli.report import show

CONFIG = Path(__file__).parents[1] / "assets" / "demo.yaml"
SEEDS, BATCHES, BATCH_SIZE_PROMPTS = 2, 16, 6

_COMMAND = "wsae demo"


def demo(
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="DIR", help="A new folder, or a former demo's to replace."
        ),
    ] = Path("wsae-demo"),
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Which initial weights and order of the data.")
    ] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print report.json on stdout, and nothing else there.")
    ] = False,
) -> None:
    """Train and compare an SAE, weighted SAEs, controls and a metric, in a minute or two, offline.

    On the small language model that comes with this package: Top-k SAEs with α = 0 (SAELens's own),
    α = 0.5 and α = 1, one with the weights of α = 1 on the wrong dimensions (shuffled), one with
    α = −0.5 (opposite), and one under the Fisher metric, whose b_dec starts at the mean. Each seed
    trains all six from one pass of the language model, on the same batches and, but for that, from
    the same initial weights. Held-out text then says what each explains under Γ and without, what
    it costs the model in cross-entropy, and how sure that is. It is `wsae compare`, `wsae eval` and
    `wsae report` in one.

    \b
      wsae demo
      wsae demo --seed 1 --output demo-1

    The folder gets report.html (one file, opens offline), report.md, report.json (every number) and
    what those commands leave: manifest.json, comparison.yaml, which repeats the training with
    `wsae compare`, and the SAEs in runs/*/sae, which plain SAELens loads. The same seed gives the
    same numbers on the same machine.

    Exit codes: 0 done, 1 failed or interrupted, 2 the folder is not free and nothing was written.
    """
    summary = run_demo(output, seed)
    if as_json:
        print_json(summary)
    else:
        show(summary, [output / f"report.{ending}" for ending in ("html", "md", "json")])


def run_demo(output: Path, seed: int, config: Path = CONFIG) -> dict[str, Any]:
    """Compare, measure and report; nothing is written before all of it is done.

    Args:
        output: Gets the comparison with its report. What a former demonstration left is replaced,
            other files are left alone.
        seed: Which seeds are used: the first is `seed * SEEDS`.
        config: Of the comparison.

    Returns:
        What report.json holds.

    Raises:
        BadInputError: `output` is not free.
        RunFailedError: The training failed or was interrupted.
    """
    # Imported here: SAELens takes seconds, and `wsae --help` should not.
    from wsae_plugin.compare.plan import load_comparison_config
    from wsae_plugin.compare.run import run_comparison
    from wsae_plugin.errors import RunFailedError
    from wsae_plugin.measures.evaluate import EvalSettings, evaluate_runs
    from wsae_plugin.report.page import write_report
    from wsae_plugin.threads import torch_threads
    from wsae_plugin.training import TrainingInterruptedError

    _refuse_unless_ours(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    seeds = [*range(seed * SEEDS, (seed + 1) * SEEDS)]
    comparison = load_comparison_config(config, [f"seeds={seeds}"])
    with (
        torch_threads(1),
        tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as name,
    ):
        made = Path(name) / "demo"
        try:
            run_comparison(comparison, made, command=f"{_COMMAND} --seed {seed}")
        except TrainingInterruptedError:
            raise RunFailedError(f"interrupted while training; {output} is as it was") from None
        except RunFailedError as error:
            # What went wrong, without the folder that is about to be removed.
            cause = error.__cause__ or error
            raise RunFailedError(f"the demo's training failed: {cause}") from error
        shutil.rmtree(made / "groups")
        evaluate_runs([made], EvalSettings(batches=BATCHES, batch_size_prompts=BATCH_SIZE_PROMPTS))
        summary, _ = write_report([made], made)
        output.mkdir(exist_ok=True)
        for path in made.iterdir():
            if path.is_dir():
                shutil.rmtree(output / path.name, ignore_errors=True)
            os.replace(path, output / path.name)
    return summary


def _refuse_unless_ours(output: Path) -> None:
    """Refuse a folder that holds anything but a former demonstration, or a link out of it."""
    from wsae_plugin.errors import BadInputError
    from wsae_plugin.files import refuse_links

    if output.exists() and not output.is_dir():
        raise BadInputError(f"--output {output}: is a file; give a folder")
    if not output.exists() or not any(output.iterdir()):
        return
    refuse_links(output)
    manifest = output / "manifest.json"
    try:
        is_ours = json.loads(manifest.read_text(encoding="utf-8"))["command"].startswith(_COMMAND)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        is_ours = False
    if not is_ours:
        raise BadInputError(
            f"--output {output}: is not empty and holds no former demonstration (a {manifest.name} "
            f"of `{_COMMAND}`); choose another folder"
        )
