"""The folder of a comparison: its manifest, and a run folder an SAE, each whole or not there."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsae_plugin.compare.config import ComparisonConfig
from wsae_plugin.compare.manifest import MANIFEST_FILENAME, VERSION, Comparison
from wsae_plugin.compare.plan import Group, PlannedRun, load_comparison_config
from wsae_plugin.errors import BadInputError
from wsae_plugin.files import (
    folder_written_whole,
    refuse_links,
    write_json_atomic,
    write_text_atomic,
)
from wsae_plugin.provenance import git_revision, versions
from wsae_plugin.sources.opening import published_model_name
from wsae_plugin.training.config import RunConfig
from wsae_plugin.training.output_folder import not_writable, refuse_unless_free
from wsae_plugin.training.run_folder import RunFolder, refuse_other_config
from wsae_plugin.validation import convert
from wsae_plugin.yaml_file import to_yaml

_COPIED = ("model_class_name", "dataset_path", "context_size", "seeds", "baseline")
"""Fields of the config that the manifest says on its own, too."""
_OF_ARMS = ("name", "label", "role", "alpha", "proxy", "control", "of")
_OF_RUNS = ("hook_name", "layer", "sparsity", "seed", "pair")


@dataclass(frozen=True)
class ComparisonFolder:
    """The files of one comparison.

    Args:
        path: The folder. It need not exist yet.
    """

    path: Path

    @property
    def config_file(self) -> Path:
        """The resolved config, itself accepted by `wsae compare`."""
        return self.path / "comparison.yaml"

    @property
    def manifest_file(self) -> Path:
        return self.path / MANIFEST_FILENAME

    def working(self, group: Group) -> RunFolder:
        """Where a group is trained."""
        return RunFolder(self.path / "groups" / group.name)

    def refuse_if_used(self) -> None:
        """Refuse a folder that a new comparison would mix with something else.

        Raises:
            BadInputError: It holds a comparison, or files that are none of ours, or it is a file.
        """
        status = Comparison.read(self.path).status if self.manifest_file.exists() else None
        refuse_unless_free(self.path, "comparison", status)

    def check_resumable(self, config: ComparisonConfig) -> None:
        """Refuse to go on where there is nothing to go on with.

        Raises:
            BadInputError: There is no comparison, it is finished, `config` differs from its own
                in what is computed, or a link would have files read or written elsewhere.
        """
        refuse_links(self.path)
        if not self.manifest_file.is_file() or not self.config_file.is_file():
            raise BadInputError(
                f"--resume: {self.path} holds no comparison; start one without --resume, or name "
                "its folder with --output"
            )
        comparison = Comparison.read(self.path)
        if comparison.status == "finished":
            raise BadInputError(
                f"--resume: the comparison in {self.path} is finished; nothing is left"
            )
        before = convert(comparison.manifest.get("config"), dict, f"{self.manifest_file}: config")
        for now in (load_comparison_config(self.config_file), config):
            refuse_other_config(f"comparison in {self.path}", before, now.values)

    def start(self, config: ComparisonConfig, command: str) -> None:
        """Write down what is about to be compared; the folder's first files.

        Raises:
            BadInputError: They cannot be written; then there is none.
        """
        manifest = {
            "comparison": VERSION,
            "status": "running",
            "model_name": published_model_name(config.values["model_name"]),
            **{name: config.values[name] for name in _COPIED},
            "arms": [{name: getattr(arm, name) for name in _OF_ARMS} for arm in config.arms],
            "runs": [],
            "config": config.values,
            "versions": versions(),
            "git_revision": git_revision(),
            "command": command,
            "wall_clock_seconds": {},
        }
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_text_atomic(self.config_file, to_yaml(config.values))
            write_json_atomic(self.manifest_file, manifest)
        except OSError as error:
            self.config_file.unlink(missing_ok=True)
            raise not_writable(self.path, error) from error

    def has(self, group: Group) -> bool:
        """Whether the manifest already lists the group's runs."""
        listed = {run.run for run in Comparison.read(self.path).runs}
        return all(run.run in listed for run in group.runs)

    def add(self, group: Group, config: RunConfig, seconds: float) -> None:
        """Split a trained group into run folders and list them; its working copies go."""
        folder = self.working(group)
        for run in group.runs:
            self._add_run(run, folder, config)
        manifest = Comparison.read(self.path).manifest
        self._update(
            runs=[*manifest["runs"], *map(_entry, group.runs)],
            wall_clock_seconds=manifest["wall_clock_seconds"] | {group.name: round(seconds, 1)},
        )
        self.tidy(group)

    def tidy(self, group: Group) -> None:
        """Remove what a listed group no longer needs."""
        folder = self.working(group)
        for path in (folder.checkpoints, folder.path / "saes"):
            shutil.rmtree(path, ignore_errors=True)

    def finish(self) -> None:
        """Write down that every group is there."""
        self._update(status="finished")

    def _update(self, **changes: Any) -> None:
        write_json_atomic(self.manifest_file, {**Comparison.read(self.path).manifest, **changes})

    def _add_run(self, run: PlannedRun, folder: RunFolder, config: RunConfig) -> None:
        final = self.path / _path(run)
        if final.exists():
            return
        alone = config.alone(run.sae)
        with folder_written_whole(final) as path:
            partial = RunFolder(path)
            shutil.copytree(folder.exports(config)[run.sae], partial.export(alone))
            write_text_atomic(partial.config_file, to_yaml(alone.values))
            record = json.loads(folder.run_file.read_text(encoding="utf-8"))
            write_json_atomic(partial.run_file, record | {"config": alone.values})
            write_text_atomic(partial.metrics_file, _metrics(folder, run.sae))


def _path(run: PlannedRun) -> str:
    return f"runs/{run.run}"


def _entry(run: PlannedRun) -> dict[str, Any]:
    place = {"run": run.run, "path": _path(run), "arm": run.arm.name, "role": run.arm.role}
    return place | {name: getattr(run, name) for name in _OF_RUNS}


def _metrics(folder: RunFolder, sae: str) -> str:
    """The lines of one SAE, as if it had been trained alone."""
    records = map(json.loads, folder.metrics_file.read_text(encoding="utf-8").splitlines())
    return "".join(
        json.dumps(record | {"sae": "sae"}) + "\n" for record in records if record["sae"] == sae
    )
