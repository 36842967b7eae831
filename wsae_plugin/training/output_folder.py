"""A folder that is trained into: by one process at a time, where nothing else is, resumable."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from wsae_plugin.errors import BadInputError
from wsae_plugin.files import (
    locked,
    refuse_links,
    refuse_output,
    write_json_atomic,
    write_text_atomic,
)
from wsae_plugin.messages import naming
from wsae_plugin.validation import convert, dotted, read_json
from wsae_plugin.yaml_file import to_yaml

_LOCK = ".lock"
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
    "distributed",
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


class _Config(Protocol):
    @property
    def values(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class _Record:
    """What every record says, beside what is of its kind alone."""

    status: str
    config: dict  # pyright: ignore[reportMissingTypeArgument]


@dataclass(frozen=True)
class TrainingFolder(ABC):
    """The config of what is trained into a folder, and the record of how far it is.

    Args:
        path: The folder. It need not exist yet.
    """

    path: Path

    kind: ClassVar[str]
    """What it holds, for messages."""
    config_name: ClassVar[str]
    record_name: ClassVar[str]

    @property
    def config_file(self) -> Path:
        """The resolved config, itself accepted by the command that trains."""
        return self.path / self.config_name

    @property
    def record_file(self) -> Path:
        """The config it was started with, versions, git revision, command and status."""
        return self.path / self.record_name

    @abstractmethod
    def load_config(self) -> _Config:
        """The config in the folder.

        Raises:
            BadInputError: It is not there, or wrong.
        """

    def read_record(self) -> dict[str, Any]:
        """The record.

        Raises:
            BadInputError: It is not there, or broken.
        """
        record = read_json(self.record_file, made_by="wsae train")
        with naming(str(self.record_file)):
            convert(record, _Record, self.kind, others_allowed=True)
        return record

    def check(self, config: _Config, resume: bool) -> None:
        """Refuse a folder that is not free for what is about to be trained, or not to be resumed.

        Raises:
            BadInputError: To start, it holds something, or is a file. To resume, there is nothing,
                it is finished, `config` differs in what is computed, or a link would have files
                read or written elsewhere.
        """
        if resume:
            self._check_resumable(config)
        elif self.record_file.exists():
            status = self.read_record()["status"]
            way_out = "" if status == "finished" else "continue it with --resume, or "
            raise BadInputError(
                f"--output {self.path}: already holds a {self.kind} ({status}); {way_out}choose "
                "another folder"
            )
        else:
            refuse_unless_free(self.path)

    def _check_resumable(self, config: _Config) -> None:
        refuse_links(self.path)
        if not self.record_file.is_file() or not self.config_file.is_file():
            raise BadInputError(
                f"--resume: {self.path} holds no {self.kind}; start one without --resume, or name "
                f"the {self.kind}'s folder with --output"
            )
        record = self.read_record()
        if record["status"] == "finished":
            raise BadInputError(
                f"--resume: the {self.kind} in {self.path} is finished; nothing is left"
            )
        # Its own file is what everything reads later, so it must not have been edited either.
        for now in (self.load_config(), config):
            self._refuse_other(dotted(record["config"]), dotted(now.values))

    def _refuse_other(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        differences = [
            f"{path} was {old.get(path)!r} and is now {new.get(path)!r}"
            for path in dict.fromkeys((*old, *new))
            if path.split(".")[0] not in _MAY_DIFFER and old.get(path) != new.get(path)
        ]
        if differences:
            raise BadInputError(
                f"--resume: the {self.kind} in {self.path} was started with another config: "
                f"{', '.join(differences)}; undo the change, or start anew in another folder"
            )

    def write_first(self, record: Mapping[str, Any], config: _Config | None) -> None:
        """Write what is about to be trained: the record, and the config unless it stays.

        Raises:
            BadInputError: They cannot be written; then a folder without a config has none.
        """
        is_new = not self.config_file.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if config is not None:
                write_text_atomic(self.config_file, to_yaml(config.values))
            write_json_atomic(self.record_file, record)
        except OSError as error:
            if is_new:
                self.config_file.unlink(missing_ok=True)
            raise _not_writable(self.path, error) from error

    def update_record(self, **changes: Any) -> None:
        """Write other values of some fields into the record."""
        write_json_atomic(self.record_file, self.read_record() | changes)


def refuse_unless_free(folder: Path) -> None:
    """Refuse a folder to write into that holds something. It need not exist.

    Raises:
        BadInputError: It holds files, or is one.
    """
    refuse_output("--output", folder)
    if folder.is_dir() and any(path.name != _LOCK for path in folder.iterdir()):
        raise BadInputError(f"--output {folder}: is not empty; choose another folder")


@contextmanager
def lock(folder: Path) -> Generator[None]:
    """Make `folder`, and keep other processes from training into it while entered.

    The system lets go of the lock of a process that was killed.

    Raises:
        BadInputError: Another process has it, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(folder, error) from error
    with locked(folder, folder / _LOCK):
        yield


def _not_writable(folder: Path, error: OSError) -> BadInputError:
    return BadInputError(
        f"--output {folder}: cannot be written: {error.strerror or error}; choose another folder"
    )
