"""What a person says of the training of SAEs whose files do not, in config.yaml beside each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wsae_plugin.compare.manifest import ComparedRun
from wsae_plugin.compare.runs import runs_of
from wsae_plugin.errors import BadInputError
from wsae_plugin.files import write_text_atomic
from wsae_plugin.measures.evaluated_run import config_for_here
from wsae_plugin.messages import nearest
from wsae_plugin.saved_run import CONFIG, read_training
from wsae_plugin.sources import runner_config_of
from wsae_plugin.validation import hints_of
from wsae_plugin.yaml_file import read_yaml, to_yaml, with_overrides


def state_trainings(paths: Sequence[Path], overrides: Sequence[str]) -> None:
    """Write config.yaml beside all SAEs, or beside none.

    Args:
        paths: See `runs_of`.
        overrides: As `--set` gives them, such as `hook_name=blocks.3.hook_resid_post`.

    Raises:
        BadInputError: A field is none, its value is of another kind, or a file says otherwise.
    """
    stated = {run.path / CONFIG: _stated(run, overrides) for run in runs_of(paths)}
    for file, values in stated.items():
        write_text_atomic(file, to_yaml(values))


def _stated(run: ComparedRun, overrides: Sequence[str]) -> dict[str, Any]:
    if (run.path / "run.json").is_file():
        raise BadInputError(
            f"--set {overrides[0]}: {run.path} is a run of `wsae train`, whose {CONFIG} says all"
        )
    file, known = run.path / CONFIG, read_training(run.path, run.sae)
    before = read_yaml(file) if file.is_file() else {}
    stated = with_overrides(before, overrides)
    for name in stated.keys() - before.keys():
        if known.get(name) not in (None, stated[name]):
            raise BadInputError(
                f"--set {name}={stated[name]}: the files of {run.path} say {known[name]!r}"
            )
    fields = hints_of(runner_config_of(known | stated))
    for name in (override.partition("=")[0] for override in overrides):
        if name not in fields:
            raise BadInputError(f"--set {name}: unknown field; {nearest(name, fields)}")
    config_for_here(known | stated, f"{run.path} (--set)")
    return stated
