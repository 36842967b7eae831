"""What is read of the files of a trained SAE, stated once: SAELens's cfg.json and our run.json.

They may come from elsewhere, so every field that anybody reads has its type here; whoever cannot do
without one names it. Other fields are left as they are. How an SAE was trained stands in
config.yaml of `wsae train`, or in what SAELens's own runners write.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

from wsae_plugin.credentials import refuse_credentials
from wsae_plugin.errors import BadInputError
from wsae_plugin.export_check import ExportCheck
from wsae_plugin.messages import naming
from wsae_plugin.validation import read_json, resolve
from wsae_plugin.yaml_file import read_yaml

CONFIG = "config.yaml"
TRAINING = "training.yaml"
"""What config.yaml is called in a publication."""
TRAINER_STATE = "trainer_state.pt"
"""What only a training checkpoint holds."""
_OF_RUNNERS = ("runner_cfg.json", "runner_config.json")
"""What SAELens's runners write beside an SAE: with a language model, and with a synthetic one."""
_RECORD = "run.json"
RECORDED = (
    *("dataset_path", "hook_name", "model_name", "model_class_name", "hook_head_index"),
    *("context_size", "seqpos_slice", "model_from_pretrained_kwargs", "prepend_bos"),
    *("exclude_special_tokens", "sequence_separator_token", "disable_concat_sequences"),
)
"""What SAELens's runners write into an SAE's metadata of their config, in their order."""

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
    sae_lens_version: str | None = None
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
    """All that run.json holds; see `read_cfg`.

    Beside an SAE that was not trained by `wsae train` there is none, and its files say a little.
    """
    if (run / _RECORD).is_file() or not (run / "cfg.json").is_file():
        return _checked(_Record, run / _RECORD, needed)
    ended = datetime.fromtimestamp((run / "cfg.json").stat().st_mtime, timezone.utc)
    metadata = read_cfg(run).get("metadata") or {}
    return {
        "status": "finished",
        "ended": ended.isoformat(timespec="seconds"),
        "versions": {"sae-lens": metadata.get("sae_lens_version")},
    }


def read_training(run: Path, sae: Path, stated: bool = True) -> dict[str, Any]:
    """How an SAE was trained, as far as its files say: a config of one SAE as config.yaml has it.

    What `wsae train` or a person stated goes before what SAELens's runner wrote, and that
    before the metadata of the SAE. Of a checkpoint, the samples that it has seen are those of its
    training.

    Args:
        run: The run folder; of an SAE from elsewhere, or of one of several, its own folder.
        sae: The folder with its cfg.json.
        stated: Whether config.yaml is read, too.

    Raises:
        BadInputError: A file is broken or holds a credential.
    """
    values = _said_by_sae(sae) if (sae / "cfg.json").is_file() else {}
    is_one_of_ours = run.parent.name == "saes"
    above = run.parent.parent / CONFIG if is_one_of_ours else run.parent / _OF_RUNNERS[0]
    folders = dict.fromkeys((sae, run))
    names = (*_OF_RUNNERS, TRAINING, *([CONFIG] if stated else []))
    beside = [folder / name for folder in folders for name in names]
    for file in (above, *beside):
        if file.is_file() and not (file == above and file.is_symlink()):
            is_json = file.suffix == ".json"
            found = read_json(file, "SAELens's runner") if is_json else read_yaml(file)
            refuse_credentials(found, str(file))
            saes = found.get("saes")
            if file != above or (isinstance(saes, Mapping) and run.name in saes):
                values |= one_of_several(found, run.name)
    if (run / TRAINER_STATE).is_file():
        is_alone = any((run / name).is_file() for name in _OF_RUNNERS)
        seen = re.fullmatch(r"(?:final_)?(\d+)", (run if is_alone else run.parent).name)
        names = [n for n in ("training_tokens", "training_samples") if seen and n in values]
        values |= {name: int(seen[1]) for name in names if seen}
    return values


def one_of_several(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The part of a runner config of several SAEs that is about one of them.

    Args:
        values: The config; one of a single SAE is left as it is.
        name: Which SAE.
    """
    if not isinstance(saes := values.get("saes"), Mapping) or name not in saes:
        return {**values}
    fields = {"hook_name": "hook_names", "hook_head_index": "hook_head_indices"}
    of_all = {one: values.get(several) for one, several in fields.items()}
    own = {one: v.get(name) if isinstance(v, Mapping) else v for one, v in of_all.items()}
    rest = {k: v for k, v in values.items() if k not in ("saes", *fields.values())}
    return rest | own | {"sae": saes[name]}


def _said_by_sae(sae: Path) -> dict[str, Any]:
    cfg = read_cfg(sae)
    metadata: dict[str, Any] = cfg.pop("metadata", None) or {}
    architecture = metadata.get("training_architecture") or cfg.get("architecture")
    details = metadata.get("training_architecture_details") or {}
    # Older files of SAELens have it beside the rest.
    said = {name: metadata.get(name, cfg.get(name)) for name in RECORDED}
    known = {name: value for name, value in said.items() if value is not None}
    return known | {"sae": {**cfg, **details, "architecture": architecture}}


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
