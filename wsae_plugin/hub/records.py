"""What a run folder says of its SAE, read strictly: a missing field is an error that names it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsae_plugin.compare.manifest import MANIFEST_FILENAME, ComparedRun, Comparison, runs_of
from wsae_plugin.errors import BadInputError
from wsae_plugin.json_fields import JsonSection, read_json
from wsae_plugin.yaml_file import read_yaml

EVAL_FILENAME = "scores/held_out.json"
REQUIRED_SCORES = ("explained_variance", "ce_loss_recovered", "l0", "dead_share")
_SPARSITIES = ("k", "l0_coefficient", "l1_coefficient", "highest_target_frequency")


_FORMS = {"none": ", literal Γ", "constant": ", constant Γ", "max": ", largest γ 1"}
"""What tells SAEs apart that differ in gamma_normalization alone."""


@dataclass(frozen=True)
class Score:
    """A measured number.

    Args:
        value: None where it could not be measured; `note` says why.
        spread: half the 95 % interval, None where there is none.
        note: what is to be said of it.
    """

    value: float | None
    spread: float | None
    note: str


@dataclass(frozen=True)
class SAERecord:
    """One trained and measured SAE.

    Args:
        run: Its run folder and place in a comparison.
        cfg: SAELens's cfg.json.
        config: The resolved config of its training.
        record: run.json.
        evaluation: scores/held_out.json.
        scores: metric → score on held-out text.
        arm: Its arm in manifest.json; None for a run folder of `wsae train`.
    """

    run: ComparedRun
    cfg: Mapping[str, Any]
    config: Mapping[str, Any]
    record: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    scores: Mapping[str, Score]
    arm: Mapping[str, Any] | None = None

    @property
    def sae_id(self) -> str:
        """Its folder in the repository, and `sae_id` in `SAE.from_pretrained`."""
        return self.run.run

    @property
    def metadata(self) -> Mapping[str, Any]:
        return self.cfg["metadata"]

    @property
    def details(self) -> Mapping[str, Any]:
        """The hyper-parameters of the training architecture; SAELens keeps those apart that
        inference has too, such as Top-k's k."""
        return {**self.cfg, **self.metadata["training_architecture_details"]}

    @property
    def model_name(self) -> str:
        return self.metadata["model_name"]

    @property
    def alpha(self) -> float:
        """The exponent in γ = s^α; 0 for an architecture without weights."""
        return float(self.details.get("alpha", 0.0))

    @property
    def proxy(self) -> str | None:
        """What s is; None where Γ = I."""
        return self.details["gamma_proxy"] if self.alpha else None

    @property
    def is_whitened(self) -> bool:
        """Whether it was trained on whitened activations, with the whitening folded in since."""
        return self.config["sae"].get("normalize_activations") == "covariance_whitening"

    @property
    def is_ordinary(self) -> bool:
        """Whether a weighted SAE is to be compared with it: no weights, and no control either."""
        return self.proxy is None and self.run.role == "baseline" and not self.is_whitened

    @property
    def variant(self) -> str:
        """How it was trained, for readers: what SAEs of other seeds and hooks share with it."""
        if self.arm is not None:
            return f"{self.arm['label']}{' (control)' if self.run.role == 'control' else ''}"
        weights = "Γ = I"
        if self.proxy is not None:
            form = _FORMS.get(self.details["gamma_normalization"], "")
            weights = f"s = {self.proxy}, α = {self.alpha:g}{form}"
        whitened = ", whitened" if self.is_whitened else ""
        return f"{self.metadata['training_architecture']}, {weights}{whitened}"

    @property
    def sparsity(self) -> str:
        """The field that sets it, and its value."""
        name = next(name for name in _SPARSITIES if name in self.details)
        return f"{name} = {self.details[name]:g}"

    @property
    def gamma_file(self) -> Path:
        return self.run.sae / "gamma.safetensors"


def read_records(paths: Sequence[Path]) -> list[SAERecord]:
    """The SAEs in comparison folders and run folders.

    Raises:
        BadInputError: A folder or a file is missing or broken, a field is missing, or a name
            cannot be a folder's.
    """
    for path in paths:
        if (path / "sae_weights.safetensors").is_file():
            raise BadInputError(
                f"{path}: is a training checkpoint or an SAE without its run; give the run folder, "
                "which holds config.yaml, run.json and sae/"
            )
    runs = runs_of(paths)
    arms: dict[Path, Mapping[str, Any]] = {}
    for path in paths:
        if path.is_file() or (path / MANIFEST_FILENAME).is_file():
            comparison = Comparison.read(path)
            by_name = {arm["name"]: arm for arm in comparison.manifest["arms"]}
            arms |= {run.path: by_name[run.arm] for run in comparison.runs}
    return [read_record(run, arms.get(run.path)) for run in runs]


def read_record(run: ComparedRun, arm: Mapping[str, Any] | None = None) -> SAERecord:
    """One SAE.

    Args:
        run: Its place.
        arm: Its arm in manifest.json.

    Raises:
        BadInputError: see `read_records`.
    """
    JsonSection({"run": run.run}, str(run.path)).name("run")
    cfg = JsonSection(read_json(run.sae / "cfg.json", "wsae train"), str(run.sae / "cfg.json"))
    cfg.value("architecture", str)
    cfg.value("d_in", int)
    cfg.value("d_sae", int)
    metadata = JsonSection(cfg.value("metadata", dict), f"{cfg.where}: metadata")
    for field in ("model_name", "hook_name", "dataset_path", "training_architecture"):
        metadata.value(field, str)
    details = JsonSection(
        metadata.value("training_architecture_details", dict),
        f"{metadata.where}: training_architecture_details",
    )
    if not {*details.fields, *cfg.fields}.intersection(_SPARSITIES):
        raise BadInputError(f"{details.where}: one of {', '.join(_SPARSITIES)}: missing")
    if details.fields.get("alpha"):
        details.number("alpha")
        for field in ("gamma_proxy", "gamma_normalization"):
            details.value(field, str)
    record = JsonSection(read_json(run.path / "run.json", "wsae train"), str(run.path / "run.json"))
    if record.value("status", str) != "finished":
        record.refuse("status", "only a finished run can be published")
    record.value("versions", dict)
    record.value("ended", str)
    evaluation = JsonSection(
        read_json(run.path / EVAL_FILENAME, "wsae eval"), str(run.path / EVAL_FILENAME)
    )
    held_out = JsonSection(evaluation.value("held_out", dict), f"{evaluation.where}: held_out")
    for field in ("tokens", "batches", "context_size", "seed"):
        held_out.value(field, int)
    return SAERecord(
        run,
        cfg.fields,
        _training_config(run.path / "config.yaml"),
        record.fields,
        evaluation.fields,
        _scores(evaluation),
        arm,
    )


def _training_config(file: Path) -> Mapping[str, Any]:
    config = JsonSection(read_yaml(file), str(file))
    for field in ("training_tokens", "context_size", "train_batch_size_tokens", "seed"):
        config.value(field, int)
    config.number("lr")
    config.value("lr_scheduler_name", str)
    config.value("sae", dict)
    return config.fields


def _scores(evaluation: JsonSection) -> dict[str, Score]:
    scores: dict[str, Score] = {}
    for section in evaluation.sections("scores"):
        metric = section.value("metric", str)
        value = None if section.fields.get("value") is None else section.number("value")
        spread = section.fields.get("spread")
        scores[metric] = Score(value, spread, str(section.fields.get("note", "")))
    for metric in REQUIRED_SCORES:
        if metric not in scores:
            raise BadInputError(
                f"{evaluation.where}: scores: {metric}: missing; run `wsae eval` again"
            )
    return scores
