"""The language model of a benchmark: its name in SAEBench's files, its fingerprint, one copy."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformer_lens.loading_from_pretrained as transformer_lens_names
from transformer_lens import HookedTransformer

from wsae_plugin.assets import BUNDLED_MODEL_NAME
from wsae_plugin.fingerprint import fingerprint_of_files
from wsae_plugin.messages import refusals_as_bad_input
from wsae_plugin.remote_code import guarded, harmless, tensors_only, way_out
from wsae_plugin.replaced import replaced
from wsae_plugin.saebench.stage import Stage
from wsae_plugin.sources.opening import (
    cached_config,
    known_to_transformer_lens,
    local_model_name,
    published_model_name,
    quietly,
)

_FILES = ("*.json", "*.safetensors", "*.bin", "*.model", "*.txt")


@dataclass(frozen=True)
class BenchModel:
    """A language model.

    Args:
        name: What SAEBench and its files call it: relative, without a path of this machine.
        folder: Where it lies, if it is no model of the Hub.
    """

    name: str
    folder: Path | None

    @property
    def fingerprint(self) -> str:
        """Of its files, or the commit of the Hub's that is in the cache."""
        if self.folder is not None:
            return fingerprint_of_files(self.folder, _FILES)
        official = transformer_lens_names.make_model_alias_map().get(self.name.lower(), self.name)
        config = cached_config(official)
        return "not in the cache" if config is None else config.parent.name

    @contextlib.contextmanager
    def loaded(self, stage: Stage, device: str) -> Generator[Any]:
        """Load it once, and let SAEBench have that copy instead of one for every SAE.

        Its name stands in a folder, so safetensors alone are read, and as long as this lasts no
        pickle is carried out.

        Raises:
            BadInputError: It cannot be loaded.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(guarded())
            stack.enter_context(tensors_only())
            if self.folder is not None:
                stage.put(self.name, self.folder)
                stack.enter_context(known_to_transformer_lens(self.name))
            stack.enter_context(stage.entered())
            with refusals_as_bad_input(f"model_name = {self.name!r}", way_out), quietly():
                model: Any = HookedTransformer.from_pretrained_no_processing(
                    self.name, device=device, **harmless({}, "HookedTransformer")
                )
            stack.enter_context(_served(self.name, model))
            yield model


def bench_model(model_name: str) -> BenchModel:
    """The model that an SAE's metadata names.

    A path is not used as a name: SAEBench joins the name to its folders, so it would write its
    caches into the model's.
    """
    folder = Path(local_model_name(model_name))
    if not folder.is_dir():
        return BenchModel(model_name, None)
    published = published_model_name(model_name)
    is_bundled = published == BUNDLED_MODEL_NAME
    return BenchModel(
        published if is_bundled else f"local/{folder.resolve().name}", folder.resolve()
    )


@contextlib.contextmanager
def _served(name: str, model: Any) -> Generator[None]:
    original = HookedTransformer.from_pretrained_no_processing

    def load(model_name: str, *args: Any, **kwargs: Any) -> Any:
        return model if model_name == name else original(model_name, *args, **kwargs)

    with replaced(HookedTransformer, from_pretrained_no_processing=staticmethod(load)):
        yield
