"""The folder of a study: finished pieces stay, and a changed config is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor

from wsae_plugin.errors import BadInputError
from wsae_plugin.files import refuse_links, write_json_atomic, write_text_atomic
from wsae_plugin.training.output_folder import refuse_unless_free
from wsae_plugin.validation import read_json

CONFIG_FILENAME = "config.json"


class StudyFolder:
    """config.json, cells/ with the files of each finished piece, and <name>.json in the end.

    Args:
        path: the folder; it is made if it is missing.
        config: what decides every number, plain values for JSON.

    Raises:
        BadInputError: the folder holds something else, cells of another config, or a link out of
            it.
    """

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path = path
        self.cells = path / "cells"
        config = json.loads(json.dumps(config))
        self._refuse_unless_of(config)
        self.cells.mkdir(parents=True, exist_ok=True)
        write_json_atomic(path / CONFIG_FILENAME, config)

    def read_cell(self, key: str) -> dict[str, Any] | None:
        """The result of a finished piece, else None."""
        path = self.cells / f"{key}.json"
        return read_json(path, "wsae toy") if path.is_file() else None

    def write_cell(self, key: str, result: object) -> None:
        """Keep the result of a piece."""
        write_json_atomic(self.cells / f"{key}.json", result)

    def read_tensors(self, key: str) -> dict[str, Tensor] | None:
        """Tensors that were kept, else None."""
        path = self.cells / f"{key}.safetensors"
        return load_file(path) if path.is_file() else None

    def write_tensors(self, key: str, tensors: dict[str, Tensor]) -> None:
        """Keep tensors, whole or not at all."""
        temporary = self.cells / f".{key}.tmp"
        temporary.write_bytes(save(tensors))
        os.replace(temporary, self.cells / f"{key}.safetensors")

    def write_result(self, name: str, result: dict[str, Any]) -> None:
        """Write <name>.json with one line for each entry of a list, for readers and for diffs."""
        fields = [f"{json.dumps(key)}: {_lines(value)}" for key, value in result.items()]
        write_text_atomic(self.path / f"{name}.json", "{\n" + ",\n".join(fields) + "\n}\n")

    def _refuse_unless_of(self, config: dict[str, Any]) -> None:
        config_file = self.path / CONFIG_FILENAME
        if not config_file.is_file():
            refuse_unless_free(self.path)
            return
        refuse_links(self.path)
        there = read_json(config_file, "wsae toy")
        changed = [
            f"{name} was {there.get(name)!r}, now {config.get(name)!r}"
            for name in sorted(there.keys() | config.keys())
            if there.get(name) != config.get(name)
        ]
        if changed:
            raise BadInputError(
                f"--output {self.path}: holds cells of another config ({'; '.join(changed)}); use "
                "the same options to go on, or another folder"
            )


def _lines(value: Any) -> str:
    if isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
        return "[\n" + ",\n".join(map(_lines, value)) + "\n]"
    return json.dumps(value, allow_nan=False, ensure_ascii=False)
