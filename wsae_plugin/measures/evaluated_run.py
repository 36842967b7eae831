"""A trained run as `wsae eval` sees it: its SAE, its Γ, its text, and the runs it belongs with."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE
from safetensors.torch import load_file
from torch import Tensor

from wsae_plugin.compare.gathered import FREE, samples_of
from wsae_plugin.compare.manifest import ComparedRun
from wsae_plugin.errors import BadInputError
from wsae_plugin.fingerprint import fingerprint_of_files, fingerprint_of_weights
from wsae_plugin.measures.agreement import SAYS_NOTHING, disagreements
from wsae_plugin.measures.explained_variance import is_constant
from wsae_plugin.measures.held_out import HeldOutSource, best_device, held_out_source
from wsae_plugin.messages import naming, refusals_as_bad_input
from wsae_plugin.remote_code import harmless
from wsae_plugin.saes import GAMMA_FILENAME
from wsae_plugin.saved_run import read_cfg, read_training
from wsae_plugin.sources import runner_config_of, source_of
from wsae_plugin.training.config import RunConfig, config_as_found

# A run may come from another machine: what it was trained on there, and with, need not be here.
_DEVICES = ("device", "llm_device", "act_store_device")
_NOT_NEEDED = (
    "from_pretrained_path",
    "resume_from_checkpoint",
    "cached_activations_path",
    "use_cached_activations",
)
_NEEDED = ("model_name", "model_class_name", "hook_name", "context_size", "prepend_bos")
"""What must be known to read the text as the SAE did: SAELens's defaults would be another's."""


@dataclass(frozen=True)
class EvaluatedRun:
    """One run.

    Attributes:
        compared: its place in the comparison.
        config: what it was trained with, for this machine.
        source: the held-out text.
        gamma: γ, shape (d_in,), float64; ones for an SAE without one.
        contents: fingerprints of the files that the samples are of, see `Source.contents`.
    """

    compared: ComparedRun
    config: RunConfig
    source: HeldOutSource
    gamma: Tensor
    contents: Mapping[str, str]

    @classmethod
    def load(cls, compared: ComparedRun, dataset: str | None) -> EvaluatedRun:
        """Read a run's files, but for the SAE.

        Args:
            compared: the run.
            dataset: the held-out text that was asked for, None for that of the training data.

        Raises:
            BadInputError: a file is broken, or there is no held-out text.
        """
        config = config_for_here(read_training(compared.path, compared.sae), str(compared.path))
        values, contents = config.values, {}
        if config.has_language_model:
            _check_against_sae(compared, config)
        with naming(str(compared.path)):
            if config.has_language_model:
                if not (values["dataset_path"] or dataset):
                    raise BadInputError(
                        "dataset_path: missing, no file of the SAE says on what it was trained; "
                        "give --dataset with text that it has not seen"
                    )
                source = held_out_source(values["dataset_path"], dataset)
                kwargs = "model_from_pretrained_kwargs"
                values = values | {kwargs: harmless(values[kwargs], values["model_class_name"])}
            else:
                values, name, split = config.source.measured_on(values, dataset)
                source = HeldOutSource(name, split)
                contents = config.source.contents(values, compared.hook_name)
                _check_rows(compared, source, contents.get("rows"))
        section = values["sae"]
        # A plain SAE that was saved over a weighted one has the other's Γ beside it.
        gamma = _gamma(compared.sae if "alpha" in section else None, section["d_in"])
        return cls(compared, replace(config, values=values), source, gamma, contents)

    @property
    def name(self) -> str:
        return self.compared.run

    @property
    def head(self) -> int | None:
        """The head of the hook that it reads; None for all of it."""
        return self.config.values.get("hook_head_index")

    @property
    def n_bytes(self) -> int:
        """Size of the SAE."""
        return sum(file.stat().st_size for file in self.compared.sae.glob("*.safetensors"))

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Of what decides what is measured of the SAE: its weights, and its config and Γ."""
        config_and_gamma = fingerprint_of_files(self.compared.sae, ("cfg.json", GAMMA_FILENAME))
        return {"sae": config_and_gamma, "weights": fingerprint_of_weights(self.compared.sae)}

    @property
    def text(self) -> str:
        """Equal for runs whose SAEs can be measured on the same samples of the same model."""
        values, fields = self.config.values, self.config.source.held_out_fields
        values = values if fields is None else {field: values[field] for field in fields}
        about = {"held_out": str(self.source), "contents": {**self.contents}}
        return json.dumps(about | values, sort_keys=True)

    def load_sae(self) -> SAE[Any]:
        """See `load_sae`; its metadata says the hook, whoever said it."""
        sae = load_sae(self.compared.sae, self.config.values["device"])
        sae.cfg.metadata.hook_name = self.compared.hook_name
        sae.cfg.metadata.hook_head_index = self.head
        return sae

    def weighted_in_pair(self, runs: Sequence[EvaluatedRun]) -> dict[str, EvaluatedRun]:
        """Arm → the weighted run of `runs` that saw the same data, the strongest |α| first.

        Args:
            runs: Its comparison.
        """
        weighted = [
            run
            for run in runs
            if run.compared.role == "weighted"
            and run.compared.pair == self.compared.pair
            # Without a Γ that differs, or where its file was not copied, it weighs nothing.
            and not is_constant(run.gamma)
        ]
        weighted.sort(key=lambda run: -abs(run.config.values["sae"].get("alpha", 0.0)))
        return {run.compared.arm: run for run in weighted}

    def other_seeds(self, runs: Sequence[EvaluatedRun]) -> list[EvaluatedRun]:
        """The runs of a comparison that differ in their seed alone, this one among them."""

        def kind(run: EvaluatedRun) -> tuple[Any, ...]:
            compared, values = run.compared, run.config.values
            trained = {n: v for n, v in values.items() if n not in (*FREE, "seed")}
            place = compared.arm, compared.hook_name, compared.sparsity
            return (
                *place,
                samples_of(values, read_cfg(compared.sae)),
                json.dumps(trained, sort_keys=True),
            )

        same = [run for run in runs if kind(run) == kind(self)]
        if len({run.compared.seed for run in same}) < len(same):
            return [self]  # copies and checkpoints of one training agree whatever it found
        return sorted(same, key=lambda run: run.compared.seed)


def _check_rows(compared: ComparedRun, source: HeldOutSource, rows: str | None) -> None:
    """Refuse held-out rows of another table than that of the training, or those of the training."""
    metadata = read_cfg(compared.sae).get("metadata") or {}
    trained = metadata.get("table_fingerprint")
    if rows is None or trained is None:
        return
    if source.split is not None and rows != trained:
        raise BadInputError(
            f"activations = {source.dataset!r}: holds other rows than the SAE was trained on, so "
            "what was held out of them is unknown; put the table back, or give --dataset"
        )
    if source.split is None and rows == trained:
        raise BadInputError(
            f"{source.dataset!r} holds the rows that the SAE was trained on; give --dataset with "
            "others"
        )


def _check_against_sae(compared: ComparedRun, config: RunConfig) -> None:
    """Refuse an SAE that says it read otherwise than its training says, whose place it has."""
    file, cfg = compared.sae / "cfg.json", read_cfg(compared.sae)
    metadata = cfg.get("metadata") or {}
    if metadata.get("hook_name_out"):
        raise BadInputError(f"{file}: is a transcoder, and only SAEs are measured")
    trained = replace(config, values=config.values | {"hook_name": compared.hook_name})
    for name, (said, value) in disagreements({**cfg, "metadata": metadata}, trained).items():
        if said != SAYS_NOTHING:
            raise BadInputError(
                f"{file}: {name} = {said}: must be {value}, as the training says; the two are not "
                "of one run"
            )


def load_sae(folder: Path, device: str = "cpu") -> SAE[Any]:
    """The SAE in a folder for inference, as plain SAELens loads it.

    Args:
        folder: with cfg.json.
        device: where to.

    Raises:
        BadInputError: SAELens cannot load it, or its k is none.
    """
    refused = refusals_as_bad_input(f"{folder}: SAELens cannot load this SAE")
    with refused, warnings.catch_warnings():
        # It asks for what `open_model` does.
        warnings.filterwarnings("ignore", message=r"\s*This SAE has non-empty model_from")
        sae = SAE.load_from_disk(folder, device=device).eval()
    k = getattr(sae.cfg, "k", 1)
    if type(k) is not int or not 0 < k <= sae.cfg.d_sae:
        raise BadInputError(
            f"{folder / 'cfg.json'}: k = {k!r}: must be a whole number from 1 to {sae.cfg.d_sae}, "
            "the number of its latents"
        )
    return sae


def config_for_here(known: Mapping[str, Any], where: str) -> RunConfig:
    """The config of an SAE that was trained elsewhere, perhaps, to read here what it read.

    Args:
        known: See `read_training`.
        where: For messages.

    Raises:
        BadInputError: It does not say enough or is broken, or is of a synthetic model that can be
            drawn elsewhere only.
    """
    values, device = {**known}, best_device()
    if not isinstance(values.get("sae"), dict):
        raise BadInputError(f"{where}: sae: missing; the config of one SAE is needed")
    if isinstance(world := values.get("synthetic_model"), dict):
        if world.get("seed") is None and values.get("seed") is None:
            raise BadInputError(
                f"{where}: synthetic_model.seed: missing, so the synthetic model that the SAE was "
                "trained on cannot be drawn again; train it again with one"
            )
        # The same seed draws another one on another kind of device.
        device = str(values.get("device", device))
        if device.split(":")[0] not in ("cpu", best_device()):
            raise BadInputError(
                f"{where}: device = {device!r}: the synthetic model was drawn on it, which cannot "
                "be repeated here; measure the SAE on a machine that has one"
            )
    elif source_of(runner_config_of(values)).has_language_model:
        missing = [name for name in _NEEDED if values.get(name) is None]
        if missing:
            raise BadInputError(
                f"{where}: {', '.join(missing)}: missing, no file of the SAE says it; give it with "
                + " ".join(f"--set {name}=…" for name in missing)
            )
        values |= {name: device for name in _DEVICES}
    values["sae"] = {**values["sae"], "device": device}
    values |= {name: device for name in _DEVICES if values.get(name) is not None}
    return config_as_found({k: v for k, v in values.items() if k not in _NOT_NEEDED}, where)


def _gamma(export: Path | None, d_in: int) -> Tensor:
    if export is None or not (file := export / GAMMA_FILENAME).is_file():
        return torch.ones(d_in, dtype=torch.float64)
    with refusals_as_bad_input(f"{file}: cannot be read"):
        gamma = load_file(file)["gamma"].double()
    if gamma.shape != (d_in,):
        raise BadInputError(f"{file}: gamma has shape {tuple(gamma.shape)}, not ({d_in},)")
    if not (gamma.isfinite() & (gamma > 0)).all():
        raise BadInputError(f"{file}: gamma holds what is no finite number above 0")
    return gamma
