"""How long and how large a run will be, before anything is loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformer_lens.loading_from_pretrained as transformer_lens_names
from sae_lens import TrainingSAE
from sae_lens.util import str_to_dtype
from transformers import AutoConfig, AutoModelForCausalLM

from wsae_plugin.kernels.blocks import rows_a_block
from wsae_plugin.messages import naming
from wsae_plugin.remote_code import guarded
from wsae_plugin.saes.sparse import SparseTrainingSAE
from wsae_plugin.sources.hooks import hooks_of
from wsae_plugin.sources.language_model import positions_per_context
from wsae_plugin.sources.opening import local_model_name
from wsae_plugin.training.config import RunConfig
from wsae_plugin.training.saes import build_saes

_FLOAT32_BYTES = 4
_ADAM_MOMENTS = 2
_COPIES_OF_LATENTS = 3  # pre-activations, activations, and the gradient of either
_OUTPUTS_OF_LATENTS = 2  # pre-activations and activations
_COO_INDEX_BYTES = 16  # row and column of an active latent
_COPIES_OF_INPUTS = 4  # input, reconstruction, error and its gradient
_COPIES_OF_BUFFER = 2  # shuffling the mixing buffer makes a second one
_ESTIMATED = ("expected_average_only_in", "covariance_whitening")


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

    def as_dict(self) -> dict[str, int | None]:
        """Every part by its name, and `total`."""
        return asdict(self) | {"total": self.total}


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
    values, n_samples = config.values, config.n_steps * config.batch_size
    with naming(config.file):
        saes = build_saes(config, device="meta").values()
    parameters = sum(p.nbytes for sae in saes for p in sae.parameters() if p.requires_grad)
    steps = [_step_bytes(sae, config) for sae in saes]
    buffer_tokens = buffered = norms = language_model = token = 0
    if config.has_language_model:
        positions = positions_per_context(values)
        # Each hook once, however many SAEs share it.
        widths = {hook.name: hook.d_in for hook in hooks_of(config.runner_config())}
        token = sum(widths.values()) * _FLOAT32_BYTES
        buffer_tokens = values["n_batches_in_buffer"] * positions
        buffered = buffer_tokens + values["store_batch_size_prompts"] * positions
        # SAELens's run of several SAEs keeps these batches; the others read them one by one.
        if config.is_multi and any(sae.cfg.normalize_activations in _ESTIMATED for sae in saes):
            norms = values["n_batches_for_norm_estimate"] * config.batch_size
        language_model = _language_model_bytes(values)
    elif "n_batches_in_buffer" in values:
        buffered = buffer_tokens = values["n_batches_in_buffer"] * config.batch_size
        sections = config.sae_sections
        hooks = config.runner_config().hook_names_per_sae
        widths = {hooks[path.removeprefix("saes.")]: s["d_in"] for path, s in sections.items()}
        token = sum(widths.values()) * _FLOAT32_BYTES
    memory = MemoryEstimate(
        sae_weights=sum(tensor.nbytes for sae in saes for tensor in sae.state_dict().values()),
        gradients=parameters,
        adam=_ADAM_MOMENTS * parameters,
        sae_activations=sum(outputs for outputs, _ in steps)
        + max(whole - outputs for outputs, whole in steps),
        activation_buffer=_COPIES_OF_BUFFER * buffered * token,
        norm_batches=norms * token,
        language_model=language_model,
    )
    return Estimate(config.n_steps, n_samples, buffer_tokens, memory)


def _step_bytes(sae: TrainingSAE[Any], config: RunConfig) -> tuple[int, int]:
    """An SAE's outputs (pre-activations, activations, reconstruction), and all that a step takes.

    The input is the buffer's.
    """
    cfg, batch, itemsize = sae.cfg, config.batch_size, str_to_dtype(sae.cfg.dtype).itemsize
    outputs = _OUTPUTS_OF_LATENTS * batch * cfg.d_sae * itemsize
    latents = _COPIES_OF_LATENTS * batch * cfg.d_sae * itemsize
    device = torch.device(config.values["device"])
    if isinstance(sae, SparseTrainingSAE) and sae.choose_kernel(batch, device) is not None:
        outputs = _OUTPUTS_OF_LATENTS * int(batch * cfg.k) * (itemsize + _COO_INDEX_BYTES)
        # One block of the product, and the weights once more, in half the bits, to screen it.
        rows = min(rows_a_block(cfg.d_sae), batch)
        latents = (rows * cfg.d_sae + cfg.d_sae * cfg.d_in // 2) * itemsize
    inputs = batch * cfg.d_in * itemsize
    return outputs + inputs, latents + _COPIES_OF_INPUTS * inputs


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
