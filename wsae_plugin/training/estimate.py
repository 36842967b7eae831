"""How long and how large a run will be, before anything is loaded."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformer_lens.loading_from_pretrained as transformer_lens_names
from sae_lens import TrainingSAE
from sae_lens.util import str_to_dtype
from transformers import AutoConfig, AutoModelForCausalLM

from wsae_plugin.kernels.blocks import rows_a_block
from wsae_plugin.remote_code import guarded
from wsae_plugin.saes.sparse import SparseTrainingSAE
from wsae_plugin.sources.opening import local_model_name
from wsae_plugin.training.checks import positions_per_context
from wsae_plugin.training.config import RunConfig
from wsae_plugin.training.messages import naming, refusals_as_bad_input

logger = logging.getLogger(__name__)

_FLOAT32_BYTES = 4
_ADAM_MOMENTS = 2
_COPIES_OF_LATENTS = 3  # pre-activations, activations, and the gradient of either
_OUTPUTS_OF_LATENTS = 2  # pre-activations and activations
_COO_INDEX_BYTES = 16  # row and column of an active latent
_COPIES_OF_INPUTS = 4  # input, reconstruction, error and its gradient
_COPIES_OF_BUFFER = 2  # shuffling the mixing buffer makes a second one


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a run keeps at once; overhead and the model's own activations come on top.

    Args:
        sae_weights: Parameters and buffers of all SAEs.
        gradients: One for each parameter.
        adam: Adam's two moments of each parameter.
        sae_activations: What one batch leaves in the SAEs: they take turns, but SAELens keeps the
            outputs of each until all have made the step.
        activation_buffer: SAELens's mixing buffer while it is shuffled; 0 for synthetic data.
        norm_batches: What SAELens keeps while it estimates norms or a whitening for several SAEs; 0
            where none is normalised so.
        language_model: Its weights in float32; None if its config is not on this machine.
    """

    sae_weights: int
    gradients: int
    adam: int
    sae_activations: int
    activation_buffer: int
    norm_batches: int
    language_model: int | None

    @property
    def total(self) -> int:
        return sum(value for value in asdict(self).values() if value is not None)


@dataclass(frozen=True)
class Estimate:
    """What a run will do.

    Args:
        n_steps: Training steps.
        n_samples: Activation vectors, counting the last batch whole.
        buffer_tokens: Tokens in SAELens's mixing buffer; 0 for synthetic data.
        memory: Its memory.
    """

    n_steps: int
    n_samples: int
    buffer_tokens: int
    memory: MemoryEstimate


def estimate(config: RunConfig) -> Estimate:
    """Count steps, tokens and bytes.

    Raises:
        BadInputError: SAELens or the plugin refuses to build one of the SAEs.
    """
    buffer = 0 if config.is_synthetic else _buffer_tokens(config.values)
    return Estimate(
        n_steps=config.n_steps,
        n_samples=config.n_steps * config.batch_size,
        buffer_tokens=buffer,
        memory=_memory(config),
    )


def _buffer_tokens(values: dict[str, Any]) -> int:
    return values["n_batches_in_buffer"] * positions_per_context(values)


def _memory(config: RunConfig) -> MemoryEstimate:
    weights = parameters = kept = passing = 0
    for name, sae in _saes_on_meta(config).items():
        parameter_bytes = sum(p.nbytes for p in sae.parameters() if p.requires_grad)
        parameters += parameter_bytes
        weights += sum(tensor.nbytes for tensor in sae.state_dict().values())
        outputs = _output_bytes(sae, config)
        kept += outputs
        passing = max(passing, _activation_bytes(sae, config) - outputs)
        logger.debug("%s: %d bytes of parameters", name, parameter_bytes)
    return MemoryEstimate(
        sae_weights=weights,
        gradients=parameters,
        adam=_ADAM_MOMENTS * parameters,
        sae_activations=kept + passing,
        activation_buffer=0 if config.is_synthetic else _buffer_bytes(config),
        norm_batches=_norm_bytes(config),
        language_model=0 if config.is_synthetic else _language_model_bytes(config.values),
    )


def _activation_bytes(sae: TrainingSAE[Any], config: RunConfig) -> int:
    cfg = sae.cfg
    latents = _COPIES_OF_LATENTS * config.batch_size * cfg.d_sae
    if _is_sparse(sae, config):
        # One block of the product, and the weights once more, in half the bits, to screen it.
        rows = min(rows_a_block(cfg.d_sae), config.batch_size)
        latents = rows * cfg.d_sae + cfg.d_sae * cfg.d_in // 2
    return (latents + _COPIES_OF_INPUTS * config.batch_size * cfg.d_in) * _itemsize(sae)


def _output_bytes(sae: TrainingSAE[Any], config: RunConfig) -> int:
    """Pre-activations, activations and reconstruction; the input is the buffer's."""
    cfg, batch = sae.cfg, config.batch_size
    latents = _OUTPUTS_OF_LATENTS * batch * cfg.d_sae * _itemsize(sae)
    if _is_sparse(sae, config):
        latents = _OUTPUTS_OF_LATENTS * int(batch * cfg.k) * (_itemsize(sae) + _COO_INDEX_BYTES)
    return latents + batch * cfg.d_in * _itemsize(sae)


def _is_sparse(sae: TrainingSAE[Any], config: RunConfig) -> bool:
    device = torch.device(config.values["device"])
    return (
        isinstance(sae, SparseTrainingSAE)
        and sae.choose_kernel(config.batch_size, device) is not None
    )


def _itemsize(sae: TrainingSAE[Any]) -> int:
    return str_to_dtype(sae.cfg.dtype).itemsize


def _saes_on_meta(config: RunConfig) -> dict[str, TrainingSAE[Any]]:
    saes: dict[str, TrainingSAE[Any]] = {}
    for name, sae_config in config.sae_configs().items():
        with naming(f"{config.source}: {name}"), refusals_as_bad_input():
            saes[name] = TrainingSAE.from_dict({**sae_config.to_dict(), "device": "meta"})
    return saes


def _buffer_bytes(config: RunConfig) -> int:
    values = config.values
    batch_of_contexts = values["store_batch_size_prompts"] * positions_per_context(values)
    tokens = _buffer_tokens(values) + batch_of_contexts
    return _COPIES_OF_BUFFER * tokens * _width_of_hooks(config) * _FLOAT32_BYTES


def _norm_bytes(config: RunConfig) -> int:
    """SAELens's run of several SAEs caches the batches; the others read them one by one."""
    normalized = {"expected_average_only_in", "covariance_whitening"}
    sections = config.sae_sections.values()
    if not config.is_multi or not any(s["normalize_activations"] in normalized for s in sections):
        return 0
    samples = config.values["n_batches_for_norm_estimate"] * config.batch_size
    return samples * _width_of_hooks(config) * _FLOAT32_BYTES


def _width_of_hooks(config: RunConfig) -> int:
    """Numbers a token takes in the buffer: each hook once, however many SAEs share it."""
    if not config.is_multi:
        return config.values["sae"]["d_in"]
    hooks = config.values["hook_names"]
    widths = {
        hooks if isinstance(hooks, str) else hooks[name]: section["d_in"]
        for name, section in config.values["saes"].items()
    }
    return sum(widths.values())


def _language_model_bytes(values: dict[str, Any]) -> int | None:
    name = local_model_name(values["model_name"])
    if values["model_class_name"] == "HookedTransformer" and not Path(name).is_dir():
        name = transformer_lens_names.make_model_alias_map().get(name.lower(), name)
    try:
        with guarded(), torch.device("meta"):
            hf_config = AutoConfig.from_pretrained(name, local_files_only=True)
            model = AutoModelForCausalLM.from_config(hf_config)
    except (OSError, ValueError, KeyError, ImportError):
        return None
    return sum(parameter.numel() for parameter in model.parameters()) * _FLOAT32_BYTES
