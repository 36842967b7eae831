"""What a folder says of its SAE, read strictly: a missing field is an error that names it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import transformer_lens.loading_from_pretrained as transformer_lens_names
from sae_lens.synthetic import SyntheticModelConfig

from wsae_plugin.compare.arms import Arm
from wsae_plugin.compare.gathered import SPARSITIES, DescribedSAE, arms_of
from wsae_plugin.compare.manifest import ComparedRun
from wsae_plugin.compare.runs import PLACES, runs_of
from wsae_plugin.errors import BadInputError
from wsae_plugin.messages import naming
from wsae_plugin.saved_run import CONFIG, RECORDED, read_cfg, read_record, read_training
from wsae_plugin.scores import MADE_BY, HeldOut, ScoreFile, file_of, read_scores
from wsae_plugin.validation import FileName, convert, resolve

HELD_OUT = "held_out"
EVAL_FILENAME = str(file_of(Path(), HELD_OUT))
_REQUIRED_SCORES = ("explained_variance", "l0", "dead_share")
_CFG = (
    *("architecture", "d_in", "d_sae", "metadata"),
    *("metadata.training_architecture", "metadata.training_architecture_details"),
)
_OF_HOOK = ("metadata.hook_name",)
_OF_LANGUAGE_MODEL = ("metadata.model_name", *_OF_HOOK)
_Number = Annotated[int | float, "as it stands there: it is shown so"]


@dataclass(frozen=True)
class _Training:
    lr: _Number
    lr_scheduler_name: str
    sae: Mapping[str, Any]


@dataclass(frozen=True)
class _TrainingOnText(_Training):
    training_tokens: int
    context_size: int
    train_batch_size_tokens: int
    seed: int


@dataclass(frozen=True)
class _TrainingOnSamples(_Training):
    """SAELens's runner has no seed."""

    training_samples: int
    batch_size: int


@dataclass(frozen=True)
class _TrainingOnSyntheticModel(_TrainingOnSamples):
    synthetic_model: SyntheticModelConfig | str


@dataclass(frozen=True)
class MeasuredSAE(DescribedSAE):
    """One SAE with its scores, in a run folder or in a publication.

    Args:
        scores: Name → file of scores, see `read_scores`.
    """

    scores: Mapping[str, ScoreFile]

    @property
    def sae_id(self) -> str:
        """Its folder in the repository, and `sae_id` in `SAE.from_pretrained`."""
        return self.run.run

    @property
    def synthetic_model(self) -> Mapping[str, Any] | str | None:
        """The config, or the folder or the name on the Hub, of the synthetic model whose samples it
        was trained on; None for an SAE of a language model."""
        return self.config.get("synthetic_model")

    @property
    def table(self) -> str | None:
        """The table that it was trained on; None for an SAE of a language model or a synthetic
        one."""
        return self.config.get("activations")

    @property
    def base_model(self) -> str | None:
        """The language model's name on the Hub: TransformerLens has short names of its own."""
        if self.synthetic_model is not None:
            return None
        name = str(self.metadata.get("model_name"))
        if self.table is not None:
            return name if "/" in name else None
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
        record: run.json, or what there is of it.
    """

    record: Mapping[str, Any]

    def with_hub_names(self, known: Mapping[str, str]) -> SAERecord:
        """With the names on the Hub of what lies in folders here, by the field that names it."""
        of_cfg = {field: name for field, name in known.items() if field in RECORDED}
        cfg = {**self.cfg, "metadata": {**self.metadata, **of_cfg}}
        return replace(self, cfg=cfg, config={**self.config, **known})

    @property
    def gamma_file(self) -> Path:
        return self.run.sae / "gamma.safetensors"


def read_records(paths: Sequence[Path]) -> list[SAERecord]:
    """The SAEs in comparison folders and run folders.

    Raises:
        BadInputError: A folder or a file is missing or broken, a field is missing, or a name
            cannot be a folder's.
    """
    runs, arms = runs_of(paths), arms_of(paths)
    for run in runs:
        if run.hook_name == PLACES[1]:
            raise BadInputError(
                f"{run.path}: is an SAE on a {run.hook_name}; give SAEs of a language model or of "
                "a synthetic model"
            )
    return [_read_record(run, arms.get(run.path)) for run in runs]


def read_sae(run: ComparedRun, config: Mapping[str, Any], arm: Arm | None = None) -> MeasuredSAE:
    """One SAE and its scores.

    Args:
        run: Its folder, and its place in a comparison.
        config: How it was trained.
        arm: Its arm in manifest.json; None where it is in none.

    Raises:
        BadInputError: see `read_records`.
    """
    convert(run.run, FileName, f"{run.path}: run")
    is_synthetic, is_table = (config.get(n) is not None for n in ("synthetic_model", "activations"))
    of_model = () if is_synthetic else _OF_HOOK if is_table else _OF_LANGUAGE_MODEL
    cfg = read_cfg(run.sae, (*_CFG, *of_model))
    if is_synthetic and (name := cfg["metadata"].get("model_name")) is not None:
        raise BadInputError(
            f"{run.sae / 'cfg.json'}: metadata.model_name = {name!r}: the training was on a "
            "synthetic model; the two are not of one run"
        )
    details = cfg["metadata"]["training_architecture_details"]
    with naming(f"{run.sae / 'cfg.json'}: metadata.training_architecture_details"):
        if all({**cfg, **details}.get(name) is None for name in SPARSITIES):
            raise BadInputError(f"one of {', '.join(SPARSITIES)}: missing")
        for field in ("gamma_proxy", "gamma_normalization") if details.get("alpha") else ():
            if details.get(field) is None:
                raise BadInputError(f"{field}: missing")
    scores, file = read_scores(run.path), file_of(run.path, HELD_OUT)
    if HELD_OUT not in scores:
        raise BadInputError(f"{file}: no such file; `{MADE_BY[HELD_OUT]}` makes it")
    if scores[HELD_OUT].held_out is None:
        raise BadInputError(f"{file}: held_out: missing")
    sae = MeasuredSAE(run, cfg, config, arm, scores)
    own = [] if is_table else ["mcc" if is_synthetic else "ce_loss_recovered"]
    for metric in (*_REQUIRED_SCORES, *own):
        if metric not in sae.values:
            raise BadInputError(f"{file}: scores: {metric}: missing; run `wsae eval` again")
    return sae


def _read_record(run: ComparedRun, arm: Arm | None) -> SAERecord:
    config = read_training(run.path, run.sae)
    sae = read_sae(run, config, arm)
    record = read_record(run.path, ("status", "versions", "ended"))
    if (status := record["status"]) != "finished":
        raise BadInputError(
            f"{run.path / 'run.json'}: status = {status!r}: only a finished run can be published"
        )
    kind = _TrainingOnText if sae.table is None else _TrainingOnSamples
    kind = kind if sae.synthetic_model is None else _TrainingOnSyntheticModel
    try:
        resolve(kind, config, others_allowed=True)
    except BadInputError as error:
        if (run.path / "run.json").is_file():
            raise BadInputError(f"{run.path / CONFIG}: {error}") from None
        raise BadInputError(
            f"{run.path}: {error}; what no file of the SAE says, `wsae eval {run.path} --set "
            "FIELD=VALUE` is told"
        ) from None
    return SAERecord(**vars(sae), record=record)
