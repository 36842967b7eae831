"""The folder of one run: what it was asked, with what, how it went, and what came out."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, cast

from wsae_plugin.errors import BadInputError
from wsae_plugin.files import refuse_links, write_json_atomic, write_text_atomic
from wsae_plugin.provenance import git_revision, versions
from wsae_plugin.training.checkpoints import newest_checkpoint
from wsae_plugin.training.config import RunConfig, load_run_config
from wsae_plugin.training.output_folder import not_writable, refuse_unless_free
from wsae_plugin.yaml_file import to_yaml

Status = Literal["running", "finished", "interrupted", "failed"]

_MAY_DIFFER = {
    "output_path",
    "checkpoint_path",
    "resume_from_checkpoint",
    "logger",
    "verbose",
    "n_checkpoints",
    "save_final_checkpoint",
    "n_eval_batches",
    "eval_batch_size_prompts",
    "eval_frequency",
    "eval_samples",
    "run_final_eval",
    "save_synthetic_model",
    "device",
    "llm_device",
    "act_store_device",
    "prefetch_llm_batches",
    "compile_llm",
    "llm_compilation_mode",
    "compile_sae",
    "sae_compilation_mode",
}
"""Top-level fields that change where and how a run is carried out, not what it computes."""


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    Args:
        path: The folder. It need not exist yet.
    """

    path: Path

    @property
    def config_file(self) -> Path:
        """The resolved config, itself accepted by `wsae train`."""
        return self.path / "config.yaml"

    @property
    def run_file(self) -> Path:
        """The config it was started with, versions, git revision, command, start, end, status."""
        return self.path / "run.json"

    @property
    def metrics_file(self) -> Path:
        """What SAELens would send to W&B, one JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def export(self, config: RunConfig) -> Path:
        """Where SAELens exports to: `sae/`, or `saes/` with a folder for each."""
        return self.path / ("saes" if config.is_multi else "sae")

    def exports(self, config: RunConfig) -> dict[str, Path]:
        """SAE name → the folder that plain SAELens loads."""
        export = self.export(config)
        if not config.is_multi:
            return {"sae": export}
        return {name: export / name for name in config.values["saes"]}

    def is_finished(self) -> bool:
        """Whether it holds a run that went to its end."""
        return self.run_file.is_file() and self._read_run()["status"] == "finished"

    def start_of(self, config: RunConfig, resume: bool) -> Path | None:
        """The checkpoint that a run into this folder starts from; None for the beginning.

        Raises:
            BadInputError: As `checkpoint_to_resume` where `resume`, else as `refuse_if_used`.
        """
        if resume:
            return self.checkpoint_to_resume(config)
        self.refuse_if_used()
        return None

    def refuse_if_used(self) -> None:
        """Refuse a folder that a new run would mix with something else.

        Raises:
            BadInputError: It holds a run, or files that are none of ours, or it is a file.
        """
        status = self._read_run()["status"] if self.run_file.exists() else None
        refuse_unless_free(self.path, "run", status)

    def checkpoint_to_resume(self, config: RunConfig) -> Path | None:
        """The checkpoint from which the run in this folder goes on; None if it made none yet.

        Raises:
            BadInputError: There is no run, it is finished, `config` differs from the run's in
                what the run computes, or a link would have files read or written elsewhere.
        """
        refuse_links(self.path)
        if not self.run_file.is_file() or not self.config_file.is_file():
            raise BadInputError(
                f"--resume: {self.path} holds no run; start one without --resume, or name the "
                "run's folder with --output"
            )
        run = self._read_run()
        if run["status"] == "finished":
            raise BadInputError(f"--resume: the run in {self.path} is finished; nothing is left")
        # Its own file is what everything reads later, so it must not have been edited either.
        for now in (load_run_config(self.config_file), config):
            refuse_other_config(f"run in {self.path}", run["config"], now.values)
        return newest_checkpoint(self.checkpoints)

    def start(self, config: RunConfig, command: str, resumed_from: Path | None) -> None:
        """Write down what is about to be run; the folder's first files.

        Raises:
            BadInputError: They cannot be written; then there is none.
        """
        before = self._read_run() if resumed_from is not None else {}
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
        is_new = not self.config_file.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if resumed_from is None:
                write_text_atomic(self.config_file, to_yaml(config.values))
            write_json_atomic(self.run_file, run)
        except OSError as error:
            if is_new:
                self.config_file.unlink(missing_ok=True)
            raise not_writable(self.path, error) from error

    def end(self, status: Status, error: str | None = None) -> None:
        """Write down how the run went."""
        run = self._read_run() | {"status": status, "ended": _now()}
        if error is not None:
            run["error"] = error
        write_json_atomic(self.run_file, run)

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

    def _read_run(self) -> dict[str, Any]:
        try:
            run = json.loads(self.run_file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise BadInputError(f"{self.run_file}: is not a run's record: {error}") from None
        if not isinstance(run, dict):
            raise BadInputError(f"{self.run_file}: is not a run's record: must be an object")
        for field, kind in (("status", str), ("config", dict)):
            if not isinstance(run.get(field), kind):
                raise BadInputError(f"{self.run_file}: is not a run's record: no {field} in it")
        return cast("dict[str, Any]", run)


def refuse_other_config(what: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to resume with a config that would compute something else; how and where may differ.

    Args:
        what: What is to be resumed, for the message.
        before: The config it was started with, from its record.
        now: The config that is given, or that its config file holds now.

    Raises:
        BadInputError: The message names every field that differs, with both values.
    """
    old, new = _flat(before), _flat(now)
    differences = [
        f"{path} was {old.get(path)!r} and is now {new.get(path)!r}"
        for path in dict.fromkeys((*old, *new))
        if path.split(".")[0] not in _MAY_DIFFER and old.get(path) != new.get(path)
    ]
    if differences:
        raise BadInputError(
            f"--resume: the {what} was started with another config: {', '.join(differences)}; undo "
            "the change, or start anew in another folder"
        )


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {path: value}
    parts = (_flat(inner, f"{path}.{name}" if path else name) for name, inner in value.items())
    return {name: inner for part in parts for name, inner in part.items()}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
