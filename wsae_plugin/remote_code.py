"""Code that a model, a data set or a pickle brings with it: it runs only if the user says so.

What a folder says of itself is data, so it cannot ask for its own code to be run. A user's own
config can, and only together with the flag `--trust-remote-code` on the command line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

from wrapt import when_imported

from wsae_plugin.errors import BadInputError
from wsae_plugin.replaced import replaced, replaced_items

FLAG = "--trust-remote-code"

_FIELD = "model_from_pretrained_kwargs"
_FORCED, _FORBIDDEN = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
_HARMLESS = {
    "attn_implementation",
    "center_unembed",
    "center_writing_weights",
    "checkpoint_index",
    "checkpoint_label",
    "checkpoint_value",
    "default_padding_side",
    "default_prepend_bos",
    "device_map",
    "dtype",
    "first_n_layers",
    "fold_ln",
    "fold_value_biases",
    "local_files_only",
    "low_cpu_mem_usage",
    "n_ctx",
    "n_devices",
    "refactor_factored_attn_matrices",
    "revision",
    "torch_dtype",
    "trust_remote_code",
    "use_safetensors",
    "variant",
    "weights_only",
}
"""Keyword arguments of `from_pretrained` that choose numbers and places, never code."""

_LOADERS = {
    "transformers.models.auto.configuration_auto": ("AutoConfig",),
    "transformers.models.auto.image_processing_auto": ("AutoImageProcessor",),
    "transformers.models.auto.modeling_auto": ("AutoModel", "AutoModelForCausalLM"),
    "transformers.models.auto.tokenization_auto": ("AutoTokenizer",),
}
"""Module → its classes that load what can bring code."""

_trusted: ContextVar[bool] = ContextVar("trusted", default=False)


def is_trusted() -> bool:
    """Whether the user gave the flag."""
    return _trusted.get()


@contextmanager
def trusting(given: bool) -> Generator[None]:
    """Let the code run that configs ask for, as long as this lasts, if the flag was `given`."""
    before = _trusted.set(given)
    try:
        with replaced_items(os.environ, {_FORCED: None} if given else {}):
            yield
    finally:
        _trusted.reset(before)


@contextmanager
def guarded(asked: bool = False) -> Generator[None]:
    """Run no code of a model, data set or pickle that is loaded inside, unless it is trusted.

    Whoever loads it, and whatever they pass: transformers would ask on the terminal,
    TransformerLens trusts models of a list and of some architectures by itself, SAELens passes
    nothing for tokenizers, SAEBench trusts data sets (`datasets` < 4 runs their scripts). Each of
    these libraries is guarded from its import on, which is not brought about here.

    Args:
        asked: Whether a config asks for the model's own code.
    """

    def decided(load: Callable[..., Any]) -> Any:
        def from_pretrained(*args: Any, **kwargs: Any) -> Any:
            wanted = kwargs.get("trust_remote_code")
            kwargs["trust_remote_code"] = is_trusted() and bool(asked if wanted is None else wanted)
            loaded = load(*args, **kwargs)
            _check_kernels(loaded[0] if isinstance(loaded, tuple) else loaded)
            return loaded

        return staticmethod(from_pretrained)

    is_over = False

    def guard(module: Any) -> None:
        if is_over:
            return
        for auto in (getattr(module, name) for name in _LOADERS.get(module.__name__, ())):
            for name in {"from_pretrained", "from_config"} & vars(auto).keys():
                load = decided(getattr(auto, name))
                stack.enter_context(replaced(auto, **{name: load}))
        # The modules of transformers have one of this name too, which their classes ask.
        if module.__name__ == "datasets.load" and hasattr(module, "resolve_trust_remote_code"):
            stack.enter_context(replaced(module, resolve_trust_remote_code=_resolve))

    with ExitStack() as stack:
        for name in (*_LOADERS, "datasets.load"):
            when_imported(name)(guard)
        if not is_trusted():
            stack.enter_context(tensors_only())
        try:
            yield
        finally:
            is_over = True


def _check_kernels(loaded: Any) -> None:
    """Refuse a model's config.json that names kernels of the Hub, before the model is made."""
    from transformers import PretrainedConfig

    if is_trusted() or not isinstance(loaded, PretrainedConfig):
        return
    for name in ("attn_implementation", "experts_implementation"):
        if _runs_code(name, value := getattr(loaded, f"_{name}", None)):
            raise BadInputError(
                f"config.json of {loaded.name_or_path}: {name} = {value!r}: would run code from "
                f"elsewhere; take it out, or give {FLAG} if you trust that code"
            )
    for part in vars(loaded).values():
        _check_kernels(part)


def _resolve(wanted: bool | None, _: str) -> bool:
    return is_trusted() and bool(wanted)


@contextmanager
def tensors_only() -> Generator[None]:
    """Let `torch.load` read tensors and plain values only, even where it is told otherwise."""
    with replaced_items(os.environ, {_FORCED: "1", _FORBIDDEN: None}):
        yield


def check_own(kwargs: Mapping[str, Any] | None) -> None:
    """Refuse a user's config that asks for a model's own code, unless it is trusted.

    Args:
        kwargs: Its `model_from_pretrained_kwargs`.

    Raises:
        BadInputError: The message names the argument and the flag.
    """
    for name, value in (kwargs or {}).items():
        if _runs_code(name, value) and not is_trusted():
            raise BadInputError(
                f"{_FIELD}.{name} = {value!r}: would run code that comes with the model; leave it "
                f"out, or give {FLAG} on the command line as well if you trust that code"
            )


def harmless(kwargs: Mapping[str, Any] | None, class_name: str) -> dict[str, Any]:
    """The arguments to load a model with that a folder names: harmless ones, and safetensors only.

    Args:
        kwargs: The folder's `model_from_pretrained_kwargs`.
        class_name: The folder's `model_class_name`.

    Raises:
        BadInputError: One is not on the list, and the folder is not trusted.
    """
    if is_trusted():
        return dict(kwargs or {})
    for name, value in (kwargs or {}).items():
        plain = value is None or isinstance(value, bool | int | str)
        if _runs_code(name, value) or name not in _HARMLESS or not plain:
            raise BadInputError(
                f"{_FIELD}.{name} = {value!r}: is not taken from a folder, which may come from "
                f"elsewhere; leave it out, or give {FLAG} if you trust the folder and its model"
            )
    # Mamba's own loader does not know the argument; it reads tensors only, as `guarded` makes it.
    safetensors = {} if class_name == "HookedMamba" else {"use_safetensors": True}
    return {**(kwargs or {}), **safetensors}


def way_out(error: object) -> str:
    """What to do about an error of what cannot be loaded without its own code; empty for others."""
    told = str(error)
    if is_trusted() or not any(
        word in told for word in ("trust_remote_code", "safetensors", "weights_only")
    ):
        return ""
    return (
        f"; if you trust its own code and files, give {FLAG}, and ask for code with "
        "trust_remote_code: true in the config"
    )


def _runs_code(name: str, value: Any) -> bool:
    if name in ("trust_remote_code", "allow_all_kernels", "use_kernels", "kernel_config"):
        return bool(value)
    if name == "weights_only":
        return value is not None and not value
    # A kernel of the Hub is named as a model is: owner/name.
    return name in ("attn_implementation", "experts_implementation") and "/" in str(value)
