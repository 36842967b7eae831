"""What is read of the files of a trained SAE, stated once: SAELens's cfg.json and our run.json.

They may come from elsewhere, so every field that anybody reads has its type here; whoever cannot do
without one names it. Other fields are left as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from wsae_plugin.errors import BadInputError
from wsae_plugin.export_check import ExportCheck
from wsae_plugin.messages import naming
from wsae_plugin.validation import read_json, resolve

_Number = Annotated[int | float, "as it stands there: it is shown so"]


@dataclass(frozen=True)
class _Details:
    alpha: _Number | None = None
    gamma_proxy: str | None = None
    gamma_normalization: str | None = None
    topk_threshold_lr: _Number | None = None


@dataclass(frozen=True)
class _Metadata:
    model_name: str | None = None
    model_class_name: str | None = None
    hook_name: str | None = None
    dataset_path: str | None = None
    context_size: int | None = None
    training_architecture: str | None = None
    training_architecture_details: _Details | None = None
    l0: _Number | None = None
    export_check: ExportCheck | None = None


@dataclass(frozen=True)
class _Cfg:
    architecture: str | None = None
    d_in: int | None = None
    d_sae: int | None = None
    metadata: _Metadata | None = None


@dataclass(frozen=True)
class _Config:
    training_tokens: int | None = None
    training_samples: int | None = None


@dataclass(frozen=True)
class _Record:
    status: str | None = None
    config: _Config | None = None
    versions: Mapping[str, Any] | None = None
    ended: str | None = None


def read_cfg(sae: Path, needed: Sequence[str] = ()) -> dict[str, Any]:
    """All that SAELens's cfg.json holds.

    Args:
        sae: The folder that plain SAELens loads.
        needed: Fields that must be there and say something, such as `metadata.hook_name`.

    Raises:
        BadInputError: It is missing or broken, or a field is missing or of another type; the
            message names it.
    """
    return _checked(_Cfg, sae / "cfg.json", needed)


def read_record(run: Path, needed: Sequence[str] = ()) -> dict[str, Any]:
    """All that run.json holds; see `read_cfg`."""
    return _checked(_Record, run / "run.json", needed)


def _checked(kind: type[Any], file: Path, needed: Sequence[str]) -> dict[str, Any]:
    values = read_json(file, made_by="wsae train")
    with naming(str(file)):
        resolve(kind, values, others_allowed=True)
        for name in needed:
            section, _, field = name.rpartition(".")
            found: Any = values.get(section) or {} if section else values
            if found.get(field) in (None, ""):
                raise BadInputError(f"{name}: missing")
    return values
