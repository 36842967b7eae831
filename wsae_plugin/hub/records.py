"""What a folder says of its SAE, read strictly: a missing field is an error that names it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import transformer_lens.loading_from_pretrained as transformer_lens_names

from wsae_plugin.compare.arms import Arm, Control
from wsae_plugin.compare.manifest import (
    ComparedRun,
    Comparison,
    is_comparison,
    runs_of,
)
from wsae_plugin.errors import BadInputError
from wsae_plugin.messages import naming
from wsae_plugin.saved_run import read_cfg, read_record
from wsae_plugin.scores import MADE_BY, HeldOut, ScoreFile, file_of, read_scores
from wsae_plugin.validation import FileName, convert, resolve
from wsae_plugin.yaml_file import read_yaml

HELD_OUT = "held_out"
EVAL_FILENAME = str(file_of(Path(), HELD_OUT))
_REQUIRED_SCORES = ("explained_variance", "ce_loss_recovered", "l0", "dead_share")
_SPARSITIES = ("k", "l0_coefficient", "l1_coefficient", "highest_target_frequency")
_FORMS = {
    "mean_square": ", mean γ² 1",
    "none": ", literal Γ",
    "constant": ", constant Γ",
    "max": ", largest γ 1",
}
"""What tells SAEs apart that differ in gamma_normalization alone."""


_CFG = (
    *("architecture", "d_in", "d_sae", "metadata", "metadata.model_name", "metadata.hook_name"),
    *("metadata.dataset_path", "metadata.training_architecture"),
    "metadata.training_architecture_details",
)
_Number = Annotated[int | float, "as it stands there: it is shown so"]


@dataclass(frozen=True)
class _Training:
    training_tokens: int
    context_size: int
    train_batch_size_tokens: int
    seed: int
    lr: _Number
    lr_scheduler_name: str
    sae: Mapping[str, Any]


@dataclass(frozen=True)
class MeasuredSAE:
    """One SAE with its scores, in a run folder or in a publication.

    Args:
        run: Its folder, and its place in a comparison.
        training: The file with the config of its training.
        cfg: SAELens's cfg.json.
        scores: Name → file of scores, see `read_scores`.
    """

    run: ComparedRun
    training: Path
    cfg: Mapping[str, Any]
    scores: Mapping[str, ScoreFile]

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
    def base_model(self) -> str:
        """The model's name on the Hub: TransformerLens has short names of its own."""
        name = self.metadata["model_name"]
        if self.metadata.get("model_class_name") == "HookedTransformer":
            return transformer_lens_names.make_model_alias_map().get(name.lower()) or name
        return name

    @property
    def evaluation(self) -> ScoreFile:
        """Its scores on held-out text."""
        return self.scores[HELD_OUT]

    @property
    def held_out(self) -> HeldOut:
        """The text that those are of."""
        assert self.evaluation.held_out is not None
        return self.evaluation.held_out

    @property
    def values(self) -> dict[str, float | None]:
        """Metric → value on held-out text."""
        return {score.metric: score.value for score in self.evaluation.scores}


@dataclass(frozen=True)
class SAERecord(MeasuredSAE):
    """One trained and measured SAE, with all that its run folder says of it.

    Args:
        config: The resolved config of its training.
        record: run.json.
        arm: Its arm in manifest.json; None for a run folder of `wsae train`.
    """

    config: Mapping[str, Any]
    record: Mapping[str, Any]
    arm: Arm | None

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
    def control(self) -> Control | None:
        """What kind of control it is, if it is one."""
        return self.arm and self.arm.control

    @property
    def variant(self) -> str:
        """How it was trained, for readers: what SAEs of other seeds and hooks share with it."""
        if self.arm is not None:
            return self.arm.label
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
    arms: dict[Path, Arm] = {}
    for comparison in map(Comparison.read, filter(is_comparison, paths)):
        by_name = {arm.name: arm for arm in comparison.arms}
        arms |= {run.path: by_name[run.arm] for run in comparison.runs}
    return [_read_record(run, arms.get(run.path)) for run in runs]


def read_sae(run: ComparedRun, training: Path) -> MeasuredSAE:
    """One SAE and its scores.

    Args:
        run: Its folder, and its place in a comparison.
        training: The file with the config of its training, which is not read.

    Raises:
        BadInputError: see `read_records`.
    """
    convert(run.run, FileName, f"{run.path}: run")
    cfg = read_cfg(run.sae, _CFG)
    details = cfg["metadata"]["training_architecture_details"]
    with naming(f"{run.sae / 'cfg.json'}: metadata.training_architecture_details"):
        if not {*details, *cfg}.intersection(_SPARSITIES):
            raise BadInputError(f"one of {', '.join(_SPARSITIES)}: missing")
        for field in ("gamma_proxy", "gamma_normalization") if details.get("alpha") else ():
            if details.get(field) is None:
                raise BadInputError(f"{field}: missing")
    scores, file = read_scores(run.path), file_of(run.path, HELD_OUT)
    if HELD_OUT not in scores:
        raise BadInputError(f"{file}: no such file; `{MADE_BY[HELD_OUT]}` makes it")
    if scores[HELD_OUT].held_out is None:
        raise BadInputError(f"{file}: held_out: missing")
    sae = MeasuredSAE(run, training, cfg, scores)
    for metric in _REQUIRED_SCORES:
        if metric not in sae.values:
            raise BadInputError(f"{file}: scores: {metric}: missing; run `wsae eval` again")
    return sae


def _read_record(run: ComparedRun, arm: Arm | None) -> SAERecord:
    file, training = run.path / "run.json", run.path / "config.yaml"
    sae = read_sae(run, training)
    record = read_record(run.path, ("status", "versions", "ended"))
    if (status := record["status"]) != "finished":
        raise BadInputError(f"{file}: status = {status!r}: only a finished run can be published")
    config = read_yaml(training)
    with naming(str(training)):
        resolve(_Training, config, others_allowed=True)
    return SAERecord(run, training, sae.cfg, sae.scores, config, record, arm)
