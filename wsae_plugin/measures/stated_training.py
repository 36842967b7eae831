"""What a person says of the training of SAEs whose files do not, in config.yaml beside each."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wsae_plugin.compare.manifest import ComparedRun
from wsae_plugin.compare.runs import runs_of
from wsae_plugin.errors import BadInputError
from wsae_plugin.files import write_text_atomic
from wsae_plugin.measures.evaluated_run import config_for_here
from wsae_plugin.messages import nearest
from wsae_plugin.saved_run import CONFIG, TRAINING, read_training
from wsae_plugin.sources import runner_config_of
from wsae_plugin.validation import hints_of
from wsae_plugin.yaml_file import read_yaml, to_yaml, with_overrides


@contextmanager
def stated_trainings(paths: Sequence[Path], overrides: Sequence[str]) -> Generator[None]:
    """Write config.yaml beside all SAEs, or beside none.

    It stays as it was if what is done with it is refused, such as a hook that the model lacks.

    Args:
        paths: See `runs_of`.
        overrides: As `--set` gives them, such as `hook_name=blocks.3.hook_resid_post`.

    Raises:
        BadInputError: A field is none, its value is of another kind, or a file says otherwise.
    """
    runs = runs_of(paths) if overrides else []
    stated = {run.path / CONFIG: _stated(run, overrides) for run in runs}
    before = {file: file.read_bytes() if file.is_file() else None for file in stated}
    for file, values in stated.items():
        write_text_atomic(file, to_yaml(values))
    try:
        yield
    except BadInputError:
        for file, content in before.items():
            if content is None:
                file.unlink()
            else:
                file.write_bytes(content)
        raise


def _stated(run: ComparedRun, overrides: Sequence[str]) -> dict[str, Any]:
    if (run.path / "run.json").is_file():
        said = TRAINING if (run.path / TRAINING).is_file() else CONFIG
        raise BadInputError(
            f"--set {overrides[0]}: {run.path} is a run of `wsae train` or was published by "
            f"`wsae push`, so its {said} says all"
        )
    file, known = run.path / CONFIG, read_training(run.path, run.sae, stated=False)
    stated = with_overrides(read_yaml(file) if file.is_file() else {}, overrides)
    names = {override.partition("=")[0].partition(".")[0] for override in overrides}
    for name in names:
        said = known.get(name)
        if said is not None and said != _like(said, stated[name]):
            raise BadInputError(
                f"--set {name}={stated[name]}: the files of {run.path} say {said!r}"
            )
    fields = hints_of(runner_config_of(known | stated))
    for name in (override.partition("=")[0] for override in overrides):
        if name not in fields:
            raise BadInputError(f"--set {name}: unknown field; {nearest(name, fields)}")
    config = config_for_here(known | stated, f"{run.path} (--set)")
    for name in names:
        read = config.values.get(name)
        if isinstance(stated[name], str) and isinstance(read, int | float):
            stated[name] = read
    return stated


def _like(other: Any, value: Any) -> Any:
    """A number where YAML reads text, as of 1e-3, and the other is one."""
    try:
        is_number = isinstance(value, str) and isinstance(other, int | float)
        return float(value) if is_number else value
    except ValueError:
        return value
