"""A trained run as `wsae eval` sees it: its SAE, its Γ, its text, and the runs it belongs with."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from wsae_plugin.compare.manifest import ComparedRun
from wsae_plugin.errors import BadInputError
from wsae_plugin.evaluation.held_out import HeldOutSource, best_device, held_out_source
from wsae_plugin.evaluation.held_out_scores import Weights
from wsae_plugin.messages import naming
from wsae_plugin.remote_code import harmless
from wsae_plugin.saes import GAMMA_FILENAME
from wsae_plugin.training.config import RunConfig, load_run_config

EVAL_FILENAME = "eval.json"

# A run may come from another machine: what it was trained on there, and with, need not be here.
_DEVICES = ("device", "llm_device", "act_store_device", "sae.device")
_NOT_NEEDED = (
    "from_pretrained_path=null",
    "resume_from_checkpoint=null",
    "cached_activations_path=null",
    "use_cached_activations=false",
)
_TEXT_FIELDS = (
    "model_name",
    "model_class_name",
    "model_from_pretrained_kwargs",
    "context_size",
    "prepend_bos",
    "disable_concat_sequences",
    "sequence_separator_token",
    "use_chat_formatting",
)


@dataclass(frozen=True)
class EvaluatedRun:
    """One run.

    Attributes:
        compared: its place in the comparison.
        config: what it was trained with, for this machine.
        source: the held-out text.
        gamma: γ, shape (d_in,), float64; ones for an SAE without one.
    """

    compared: ComparedRun
    config: RunConfig
    source: HeldOutSource
    gamma: Tensor

    @classmethod
    def load(cls, compared: ComparedRun, dataset: str | None) -> EvaluatedRun:
        """Read a run's files, but for the SAE.

        Args:
            compared: the run.
            dataset: the held-out text that was asked for, None for that of the training data.

        Raises:
            BadInputError: a file is broken, or there is no held-out text.
        """
        config = config_for_here(compared.path / "config.yaml")
        with naming(str(compared.path)):
            source = held_out_source(config.values["dataset_path"], dataset)
            kwargs = harmless(
                config.values["model_from_pretrained_kwargs"], config.values["model_class_name"]
            )
        config = replace(config, values=config.values | {"model_from_pretrained_kwargs": kwargs})
        return cls(compared, config, source, _gamma(compared.sae, config.values["sae"]["d_in"]))

    @property
    def name(self) -> str:
        return self.compared.run

    @property
    def file(self) -> Path:
        """Where its scores are written."""
        return self.compared.path / EVAL_FILENAME

    @property
    def n_bytes(self) -> int:
        """Size of the SAE."""
        return sum(file.stat().st_size for file in self.compared.sae.glob("*.safetensors"))

    @property
    def text(self) -> str:
        """Equal for runs whose SAEs can be measured on the same tokens of the same model."""
        values = {field: self.config.values[field] for field in _TEXT_FIELDS}
        return json.dumps({"held_out": str(self.source)} | values, sort_keys=True)

    def load_sae(self) -> SAE[Any]:
        """The SAE for inference, as plain SAELens loads it.

        Raises:
            BadInputError: SAELens cannot load it.
        """
        path = self.compared.sae
        try:
            with warnings.catch_warnings():
                # It asks for what `open_model` does.
                warnings.filterwarnings("ignore", message=r"\s*This SAE has non-empty model_from")
                return SAE.load_from_disk(path, device=best_device()).eval()
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise BadInputError(f"{path}: SAELens cannot load this SAE: {error}") from error

    def weighted_in_pair(self, runs: Sequence[EvaluatedRun]) -> dict[str, EvaluatedRun]:
        """Arm → the weighted run of `runs` that saw the same data, the strongest |α| first."""
        ours = self.compared
        weighted = [
            run
            for run in runs
            if run.compared.role == "weighted"
            and run.compared.pair == ours.pair
            and run.compared.path.parent == ours.path.parent
        ]
        weighted.sort(key=lambda run: -abs(run.config.values["sae"].get("alpha", 0.0)))
        return {run.compared.arm: run for run in weighted}

    def weights(self, runs: Sequence[EvaluatedRun]) -> Weights:
        """Its own Γ and those of the weighted runs of its pair."""
        weighted = self.weighted_in_pair(runs)
        return Weights(self.gamma, {arm: run.gamma for arm, run in weighted.items()})

    def other_seeds(self, runs: Sequence[EvaluatedRun]) -> list[EvaluatedRun]:
        """The runs that differ in their seed alone, this one among them, by seed."""

        def kind(run: ComparedRun) -> tuple[Any, ...]:
            return run.arm, run.hook_name, run.sparsity, run.path.parent

        same = [run for run in runs if kind(run.compared) == kind(self.compared)]
        return sorted(same, key=lambda run: run.compared.seed)

    def seeds(self, runs: Sequence[EvaluatedRun]) -> list[int]:
        """The seeds of `other_seeds`."""
        return [run.compared.seed for run in self.other_seeds(runs)]


def config_for_here(file: Path) -> RunConfig:
    """The config of a run that was trained elsewhere, perhaps.

    Raises:
        BadInputError: It is broken.
    """
    devices = [f"{name}={best_device()}" for name in _DEVICES]
    return load_run_config(file, [*devices, *_NOT_NEEDED])


def _gamma(export: Path, d_in: int) -> Tensor:
    file = export / GAMMA_FILENAME
    if not file.is_file():
        return torch.ones(d_in, dtype=torch.float64)
    try:
        gamma = load_file(file)["gamma"].double()
    except (OSError, SafetensorError, KeyError) as error:
        raise BadInputError(f"{file}: cannot be read: {error}") from error
    if gamma.shape != (d_in,):
        raise BadInputError(f"{file}: gamma has shape {tuple(gamma.shape)}, not ({d_in},)")
    return gamma
