"""Whether a loaded language model has the hooks, widths and contexts that a config counts on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from sae_lens.util import extract_stop_at_layer_from_tlens_hook_name
from transformer_lens.HookedRootModule import HookedRootModule
from transformers import AutoConfig, AutoModelForCausalLM

from wsae_plugin.errors import BadInputError
from wsae_plugin.messages import nearest, refusals_as_bad_input
from wsae_plugin.sources.opening import guarded_model, local_model_name, open_model


@dataclass(frozen=True)
class Hook:
    """One place in a language model that an SAE is trained on.

    Args:
        name: The hook's name.
        field: The config field that names it.
        head_index: The head, where the hook has heads and one of them is wanted.
        d_in: The width that the config gives.
        d_in_field: The config field that gives it.
    """

    name: str
    field: str
    head_index: int | None
    d_in: int
    d_in_field: str


def hooks_of(config: Any) -> list[Hook]:
    """The hooks of a `LanguageModelSAERunnerConfig` or `MultiSAETrainingRunnerConfig`."""
    if hasattr(config, "sae"):
        return [
            Hook(config.hook_name, "hook_name", config.hook_head_index, config.sae.d_in, "sae.d_in")
        ]
    shared = isinstance(config.hook_names, str)
    return [
        Hook(
            name=config.hook_names_per_sae[sae],
            field="hook_names" if shared else f"hook_names.{sae}",
            head_index=config.hook_head_indices_per_sae[sae],
            d_in=config.saes[sae].d_in,
            d_in_field=f"saes.{sae}.d_in",
        )
        for sae in config.saes
    ]


def open_checked_model(config: Any, hooks: list[Hook]) -> HookedRootModule:
    """Load the language model of a runner config, and refuse what it cannot give.

    Args:
        config: A `LanguageModelSAERunnerConfig` or `MultiSAETrainingRunnerConfig`.
        hooks: What is wanted of it.

    Raises:
        BadInputError: There is no such model; a hook that the model has not or does not reach; a
            width other than the hook's; a context longer than the model's.
    """
    _check_names_before_loading(config, hooks)
    model = open_model(config, list(dict.fromkeys(hook.name for hook in hooks)))
    _check_hooks(config, model, hooks)
    # It is never trained, and what is differentiated through it needs no graph before the hook.
    return model.requires_grad_(False)


def _check_names_before_loading(config: Any, hooks: list[Hook]) -> None:
    """Refuse a hook that a Hugging Face model has not, from its config alone.

    SAELens hooks such a model's modules while it loads them and then only says that one is missing.
    """
    if config.model_class_name != "AutoModelForCausalLM":
        return
    source = {
        name: value
        for name, value in config.model_from_pretrained_kwargs.items()
        if name in ("revision", "trust_remote_code")
    }
    with guarded_model(config), torch.device("meta"):
        hf_config = AutoConfig.from_pretrained(local_model_name(config.model_name), **source)
        modules = AutoModelForCausalLM.from_config(hf_config).named_modules()
    _require_names(hooks, [name for name, _ in modules if name])


def _check_hooks(config: Any, model: HookedRootModule, hooks: list[Hook]) -> None:
    """Refuse what the loaded model cannot give, after one forward pass on two tokens."""
    _require_names(hooks, model.hook_dict)
    _check_context(config, model)
    names = list(dict.fromkeys(hook.name for hook in hooks))
    stops = [extract_stop_at_layer_from_tlens_hook_name(name) for name in names]
    with torch.no_grad(), refusals_as_bad_input(f"model_name = {config.model_name!r}"):
        _, activations = model.run_with_cache(
            torch.zeros(1, 2, dtype=torch.long, device=config.llm_device),
            names_filter=names,
            stop_at_layer=None if None in stops else max(stop for stop in stops if stop),
            prepend_bos=False,
            **config.model_kwargs,
        )
    for hook in hooks:
        if hook.name not in activations:
            raise BadInputError(
                f"{hook.field} = {hook.name!r}: the model has this hook but does not reach it; "
                "choose one that runs, such as blocks.0.hook_resid_post"
            )
        _check_width(hook, activations[hook.name].shape)


def _check_width(hook: Hook, shape: torch.Size) -> None:
    if hook.head_index is not None:
        if len(shape) != 4:
            raise BadInputError(
                f"hook_head_index = {hook.head_index}: {hook.name!r} has no heads; leave it out"
            )
        if not 0 <= hook.head_index < shape[2]:
            raise BadInputError(
                f"hook_head_index = {hook.head_index}: {hook.name!r} has heads 0 to {shape[2] - 1}"
            )
    width = math.prod(shape[2:] if hook.head_index is None else shape[3:])
    if hook.d_in != width:
        raise BadInputError(
            f"{hook.d_in_field} = {hook.d_in}: {hook.name!r} is {width} wide; set it to {width}"
        )


def _check_context(config: Any, model: Any) -> None:
    if hasattr(model, "cfg"):
        longest = getattr(model.cfg, "n_ctx", None)
    else:
        longest = getattr(model.model.config, "max_position_embeddings", None)
    if longest is not None and config.context_size > longest:
        raise BadInputError(
            f"context_size = {config.context_size}: {config.model_name} reads at most {longest} "
            "tokens"
        )


def _require_names(hooks: list[Hook], known: Any) -> None:
    for hook in hooks:
        if hook.name not in known:
            raise BadInputError(
                f"{hook.field} = {hook.name!r}: the model has no such hook; "
                f"{nearest(hook.name, known)}"
            )
