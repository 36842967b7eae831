"""How long and how large a run will be, before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformer_lens.loading_from_pretrained as transformer_lens_names
from sae_lens import TrainingSAE
from sae_lens.util import str_to_dtype
from transformers import AutoConfig, AutoModelForCausalLM

from wsae_plugin.distributed.layout import ranks_of
from wsae_plugin.distributed.parts import config_of_part
from wsae_plugin.distributed.shards import Shards
from wsae_plugin.distributed.volume import volume_of
from wsae_plugin.distributed.world import World
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
class Sharing:
    """What several processes have to do with each other.

    Args:
        n_processes: How many there are.
        ranks: SAE name → which of them share its latents.
        sent_a_step: What one of them sends at most, by what it is; what is for dead latents, where
            there are any.
        checkpoint: What the first has in its own memory besides at the end, when all SAEs are put
            together: weights, those of one twice, both of Adam's moments, and the buffer.
    """

    n_processes: int
    ranks: dict[str, tuple[int, ...]]
    sent_a_step: dict[str, int]
    checkpoint: int


@dataclass(frozen=True)
class Estimate:
    """What a run will do.

    Args:
        n_steps: Training steps.
        n_samples: Activation vectors, counting the last batch whole.
        buffer_tokens: Tokens in SAELens's mixing buffer; 0 for synthetic data.
        memory: Its memory; of several processes that of the one with the most.
        sharing: What several processes have to do with each other; None for one.
    """

    n_steps: int
    n_samples: int
    buffer_tokens: int
    memory: MemoryEstimate
    sharing: Sharing | None = None


def estimate(config: RunConfig) -> Estimate:
    """Count steps, tokens and bytes.

    Raises:
        BadInputError: SAELens or the plugin refuses to build one of the SAEs, or it cannot be
            shared by so many processes.
    """
    n = config.distributed.n_processes
    with naming(config.file):
        wholes = build_saes(config, device="meta")
        ranks = ranks_of(config, n)
    parts: dict[int, list[TrainingSAE[Any]]] = {}
    for name, sae in wholes.items():
        parts.setdefault(ranks[name][0], []).append(_part(sae, ranks[name], n))
    model = _language_model_bytes(config.values) if config.has_language_model else 0
    memories = [_memory(config, saes, [*wholes.values()], n, model) for saes in parts.values()]
    memory = max(memories, key=lambda memory: memory.total)
    sharing = _sharing(config, wholes, ranks, n) if n > 1 else None
    n_samples = config.n_steps * config.batch_size
    return Estimate(config.n_steps, n_samples, _buffer_tokens(config), memory, sharing)


def _part(sae: TrainingSAE[Any], ranks: tuple[int, ...], n: int) -> TrainingSAE[Any]:
    if len(ranks) == 1:
        return sae
    cfg = config_of_part(sae.cfg, Shards(World(ranks[0], n), ranks))
    return TrainingSAE.from_dict(cfg.to_dict() | {"device": "meta"})


def _memory(
    config: RunConfig,
    saes: list[TrainingSAE[Any]],
    wholes: list[TrainingSAE[Any]],
    n: int,
    language_model: int | None,
) -> MemoryEstimate:
    """What a process of n needs for its parts of SAEs."""
    parameters = sum(p.nbytes for sae in saes for p in sae.parameters() if p.requires_grad)
    steps = [_step_bytes(sae, config) for sae in saes]
    norms = 0
    # SAELens's run of several SAEs keeps these batches; the others read them one by one.
    estimated = any(sae.cfg.normalize_activations in _ESTIMATED for sae in wholes)
    if config.has_language_model and config.is_multi and estimated:
        norms = config.values["n_batches_for_norm_estimate"] * config.batch_size
    return MemoryEstimate(
        sae_weights=sum(tensor.nbytes for sae in saes for tensor in sae.state_dict().values()),
        gradients=parameters,
        adam=_ADAM_MOMENTS * parameters,
        sae_activations=sum(outputs for outputs, _ in steps)
        + max(whole - outputs for outputs, whole in steps),
        activation_buffer=_COPIES_OF_BUFFER * _buffer_bytes(config) // n,
        norm_batches=norms * _token_bytes(config),
        language_model=language_model,
    )


def _sharing(
    config: RunConfig,
    wholes: Mapping[str, TrainingSAE[Any]],
    ranks: dict[str, tuple[int, ...]],
    n: int,
) -> Sharing:
    shared = {name: len(group) for name, group in ranks.items()}
    volumes = [
        volume_of(sae.cfg, config.batch_size, shared[name]).sent(shared[name])
        for name, sae in wholes.items()
    ]
    activations = (n - 1) * config.batch_size * _token_bytes(config) // n
    # Of groups that share SAEs, the first has the most.
    mine = [v for v, group in zip(volumes, ranks.values(), strict=True) if 0 in group]
    sent = {name: sum(volume[name] for volume in mine) for name in mine[0]}
    weights = [sum(t.nbytes for t in sae.state_dict().values()) for sae in wholes.values()]
    moments = [_ADAM_MOMENTS * sum(p.nbytes for p in sae.parameters()) for sae in wholes.values()]
    checkpoint = sum(weights) + sum(moments) + max(weights) + _buffer_bytes(config)
    return Sharing(n, ranks, {"activations": activations} | sent, checkpoint)


def _buffer_tokens(config: RunConfig) -> int:
    values = config.values
    if config.has_language_model:
        return values["n_batches_in_buffer"] * positions_per_context(values)
    return values.get("n_batches_in_buffer", 0) * config.batch_size


def _buffer_bytes(config: RunConfig) -> int:
    """Of SAELens's mixing buffer when it is full."""
    values, tokens = config.values, _buffer_tokens(config)
    if config.has_language_model:
        tokens += values["store_batch_size_prompts"] * positions_per_context(values)
    return tokens * _token_bytes(config)


def _token_bytes(config: RunConfig) -> int:
    """Of a token's activations, of each hook once, however many SAEs share it."""
    values = config.values
    if config.has_language_model:
        widths = {hook.name: hook.d_in for hook in hooks_of(config.runner_config())}
    elif "n_batches_in_buffer" in values:
        hooks = config.runner_config().hook_names_per_sae
        widths = {
            hooks[path.removeprefix("saes.")]: section["d_in"]
            for path, section in config.sae_sections.items()
        }
    else:  # drawn by every process
        widths = {}
    return sum(widths.values()) * _FLOAT32_BYTES


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
