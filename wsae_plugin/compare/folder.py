"""The folder of a comparison: its manifest, and a run folder an SAE, each whole or not there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from typing_extensions import override

from wsae_plugin.compare.config import ComparisonConfig
from wsae_plugin.compare.manifest import MANIFEST_FILENAME, VERSION, ComparedRun, Comparison
from wsae_plugin.compare.plan import Group, load_comparison_config
from wsae_plugin.files import folder_written_whole, write_json_atomic, write_text_atomic
from wsae_plugin.provenance import git_revision, versions
from wsae_plugin.sources.opening import published_model_name
from wsae_plugin.training.config import RunConfig
from wsae_plugin.training.output_folder import TrainingFolder
from wsae_plugin.training.run_folder import RunFolder
from wsae_plugin.yaml_file import to_yaml

_COPIED = ("seeds", "baseline")
"""Fields of the config that the manifest says on its own, too."""
_OF_ARMS = ("name", "label", "role", "alpha", "proxy", "control", "of")


@dataclass(frozen=True)
class ComparisonFolder(TrainingFolder):
    """The files of one comparison."""

    kind = "comparison"
    config_name = "comparison.yaml"
    record_name = MANIFEST_FILENAME

    def working(self, group: Group) -> RunFolder:
        """Where a group is trained."""
        return RunFolder(self.path / "groups" / group.name)

    @override
    def load_config(self) -> ComparisonConfig:
        return load_comparison_config(self.config_file)

    @override
    def read_record(self) -> dict[str, Any]:
        Comparison.read(self.path)
        return super().read_record()

    def start(self, config: ComparisonConfig, command: str) -> None:
        """Write down what is about to be compared; the folder's first files.

        Raises:
            BadInputError: They cannot be written; then there is none.
        """
        manifest = {
            "comparison": VERSION,
            "status": "running",
            **_read_from(config.values),
            **{name: config.values[name] for name in _COPIED},
            "arms": [{name: getattr(arm, name) for name in _OF_ARMS} for arm in config.arms],
            "runs": [],
            "config": config.values,
            "versions": versions(),
            "git_revision": git_revision(),
            "command": command,
            "wall_clock_seconds": {},
        }
        self.write_first(manifest, config)

    def has(self, group: Group) -> bool:
        """Whether the manifest already lists the group's runs."""
        listed = {run.run for run in Comparison.read(self.path).runs}
        return all(run.run in listed for run in group.runs.values())

    def add(self, group: Group, config: RunConfig, seconds: float) -> None:
        """Split a trained group into run folders and list them; its working copies go."""
        folder = self.working(group)
        for sae, run in group.runs.items():
            self._add_run(sae, run, folder, config)
        entries = [asdict(run) | {"path": run.path.as_posix()} for run in group.runs.values()]
        manifest = self.read_record()
        self.update_record(
            runs=[*manifest["runs"], *entries],
            wall_clock_seconds=manifest["wall_clock_seconds"] | {group.name: round(seconds, 1)},
        )
        self.tidy(group)

    def tidy(self, group: Group) -> None:
        """Remove what a listed group no longer needs."""
        folder = self.working(group)
        for path in (folder.checkpoints, folder.path / "saes"):
            shutil.rmtree(path, ignore_errors=True)

    def _add_run(self, sae: str, run: ComparedRun, folder: RunFolder, config: RunConfig) -> None:
        final = self.path / run.path
        if final.exists():
            return
        alone = config.alone(sae)
        with folder_written_whole(final) as path:
            partial = RunFolder(path)
            shutil.copytree(folder.exports(config)[sae], partial.export(alone))
            write_text_atomic(partial.config_file, to_yaml(alone.values))
            record = json.loads(folder.record_file.read_text(encoding="utf-8"))
            write_json_atomic(partial.record_file, record | {"config": alone.values})
            write_text_atomic(partial.metrics_file, _metrics(folder, sae))


def _read_from(values: Mapping[str, Any]) -> dict[str, Any]:
    """What the SAEs are trained on, as the manifest says it."""
    if "activations" in values:
        said = values["model_name"], values["dataset_path"] or values["activations"]
        return dict(zip(("model_name", "dataset_path"), said, strict=True))
    names = ("model_class_name", "dataset_path", "context_size")
    return {"model_name": published_model_name(values["model_name"])} | {
        name: values[name] for name in names
    }


def last_l0(run: Path) -> float:
    """L0 of the last batch that a run folder's metrics hold."""
    lines = RunFolder(run).metrics_file.read_text(encoding="utf-8").splitlines()
    return json.loads(lines[-1])["metrics/l0"] or 0.0


def _metrics(folder: RunFolder, sae: str) -> str:
    """The lines of one SAE, as if it had been trained alone."""
    records = map(json.loads, folder.metrics_file.read_text(encoding="utf-8").splitlines())
    return "".join(
        json.dumps(record | {"sae": "sae"}) + "\n" for record in records if record["sae"] == sae
    )
