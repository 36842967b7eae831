"""The folder of one run: what it was asked, with what, how it went, and what came out."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from typing_extensions import override

from wsae_plugin.files import write_text_atomic
from wsae_plugin.provenance import git_revision, versions
from wsae_plugin.training.checkpoints import newest_checkpoint
from wsae_plugin.training.config import RunConfig, load_run_config
from wsae_plugin.training.output_folder import TrainingFolder

Status = Literal["running", "finished", "interrupted", "failed"]


@dataclass(frozen=True)
class RunFolder(TrainingFolder):
    """The files of one run."""

    kind = "run"
    config_name = "config.yaml"
    record_name = "run.json"

    @property
    def metrics_file(self) -> Path:
        """What SAELens would send to W&B, one JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def metric(self, hook: str, n_tokens: int) -> Path:
        """Where a metric's estimate at a hook is kept."""
        return self.path / "metric" / f"{hook}-{n_tokens}.safetensors"

    def export(self, config: RunConfig) -> Path:
        """Where SAELens exports to: `sae/`, or `saes/` with a folder for each."""
        return self.path / ("saes" if config.is_multi else "sae")

    def exports(self, config: RunConfig) -> dict[str, Path]:
        """SAE name → the folder that plain SAELens loads."""
        export = self.export(config)
        if not config.is_multi:
            return {"sae": export}
        return {name: export / name for name in config.values["saes"]}

    @override
    def load_config(self) -> RunConfig:
        return load_run_config(self.config_file)

    def is_finished(self) -> bool:
        """Whether it holds a run that went to its end."""
        return self.record_file.is_file() and self.read_record()["status"] == "finished"

    def start_of(self, config: RunConfig, resume: bool) -> Path | None:
        """The checkpoint that a run into this folder starts from; None for the beginning.

        Raises:
            BadInputError: As `check`.
        """
        self.check(config, resume)
        return newest_checkpoint(self.checkpoints) if resume else None

    def start(self, config: RunConfig, command: str, resumed_from: Path | None) -> None:
        """Write down what is about to be run; the folder's first files.

        Raises:
            BadInputError: They cannot be written; then there is none.
        """
        before = self.read_record() if resumed_from is not None else {}
        resumptions: list[str] = before.get("resumed_from", [])
        run = {
            "status": "running",
            "command": command,
            "config": before.get("config", config.values),
            "seed": config.seed,
            "versions": versions(),
            "git_revision": git_revision(),
            "started": before.get("started", _now()),
            "ended": None,
            "resumed_from": resumptions + ([resumed_from.name] if resumed_from else []),
        }
        self.write_first(run, config if resumed_from is None else None)

    def end(self, status: Status, **details: str) -> None:
        """Write down how the run went, and the error that ended it if one did."""
        self.update_record(status=status, ended=_now(), **details)

    def keep_metrics_up_to(self, step: int) -> None:
        """Drop lines that a resumed run will write again, and what is no whole line of ours."""
        if not self.metrics_file.exists():
            return
        kept: list[str] = []
        text = self.metrics_file.read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
        write_text_atomic(self.metrics_file, "".join(kept))


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
