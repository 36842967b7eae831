"""What `wsae bench` is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from wsae_plugin.compare.manifest import MANIFEST_FILENAME, ComparedRun
from wsae_plugin.errors import BadInputError
from wsae_plugin.files import refuse_links
from wsae_plugin.messages import nearest

Profile = Literal["quick", "standard"]
_OURS = ("scores.json", "records", "results", "noise", "cache")
"""What is read and written in the folder of results."""


@dataclass(frozen=True)
class Request:
    """What to measure, and how.

    Args:
        evals: Names.
        arms: Of comparisons, the only ones that are measured; empty for all.
        profile: "quick" for minutes on a small model, "standard" for SAEBench's own settings.
        seed: Of the measurement.
        noise_seed: With which baselines are measured once more; None to leave that out.
        dataset: Text for core and autointerp, as for `--dataset`.
        datasets: Folder of labelled data, as for `--datasets`.
        tasks: Of sae_probes: names, or "all-short" or "all" alone; empty for the profile's.
        judge_url: Of autointerp's judge.
        judge_model: Its name.
        judge_rate: Calls a minute at most.
        force: Measure again what is done.
        device: Where to.
    """

    evals: Sequence[str]
    arms: Sequence[str] = ()
    profile: Profile = "quick"
    seed: int = 0
    noise_seed: int | None = 1
    dataset: str | None = None
    datasets: Path | None = None
    tasks: Sequence[str] = ()
    judge_url: str | None = None
    judge_model: str | None = None
    judge_rate: float | None = None
    force: bool = False
    device: str = "cuda" if torch.cuda.is_available() else "cpu"

    def __post_init__(self) -> None:
        if self.profile not in get_args(Profile):
            raise BadInputError(
                f"--profile {self.profile}: unknown; there is {', '.join(get_args(Profile))}"
            )
        if self.noise_seed == self.seed:
            raise BadInputError(
                f"--noise-seed {self.noise_seed}: is --seed too, so it would show no noise; give "
                "another, or --no-noise"
            )
        if "autointerp" in self.evals and not self.judge_model:
            raise BadInputError(
                "--judge-model: autointerp asks a language model; name one, and its API with "
                "--judge-url unless it is OpenAI's"
            )

    def chosen(self, runs: Sequence[ComparedRun]) -> list[ComparedRun]:
        """The runs that are to be measured.

        Raises:
            BadInputError: An arm is in none of the comparisons.
        """
        there = list(dict.fromkeys(run.arm for run in runs))
        if unknown := [arm for arm in self.arms if arm not in there]:
            raise BadInputError(f"--arms {unknown[0]}: no such arm; {nearest(unknown[0], there)}")
        return [run for run in runs if not self.arms or run.arm in self.arms]


def output_folder(paths: Sequence[Path], output: Path | None) -> Path:
    """Where results go: `saebench/` in the one folder given, unless said otherwise.

    Raises:
        BadInputError: Several folders are given and no output, it is a file, or a link leads out of
            it.
    """
    if output is None:
        if len(paths) != 1:
            raise BadInputError("--output: say where results go when several folders are given")
        folder = paths[0].parent if paths[0].name == MANIFEST_FILENAME else paths[0]
        output = folder / "saebench"
    if output.exists() and not output.is_dir():
        raise BadInputError(f"--output {output}: is a file; give a folder")
    refuse_links(output, unread="cache", only=_OURS)
    return output
