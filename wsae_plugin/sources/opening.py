"""The language model and the data set that a config names, `bundled` among them."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import datasets
import transformer_lens.loading_from_pretrained as transformer_lens_names
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from sae_lens.load_model import load_model
from transformer_lens.HookedRootModule import HookedRootModule
from transformers.utils import logging as transformers_logging

from wsae_plugin import remote_code
from wsae_plugin.assets import BUNDLED_MODEL_NAME, bundled_dataset, bundled_model_path
from wsae_plugin.errors import BadInputError
from wsae_plugin.messages import nearest, refusals_as_bad_input

logger = logging.getLogger(__name__)

BUNDLED = "bundled"
_FILE_FORMATS = {
    ".parquet": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".txt": "text",
    ".arrow": "arrow",
}


def published_model_name(model_name: str) -> str:
    """The name that stands in configs and metadata: never a path of this machine for `bundled`."""
    return BUNDLED_MODEL_NAME if model_name == BUNDLED else model_name


def local_model_name(model_name: str) -> str:
    """What Hugging Face can load: a folder for the bundled model, else the name itself."""
    is_bundled = model_name in (BUNDLED, BUNDLED_MODEL_NAME)
    return str(bundled_model_path()) if is_bundled else model_name


def cached_config(model_name: str) -> Path | None:
    """The config.json of a model of the Hub that is in the cache; None for one that is not."""
    try:
        found = try_to_load_from_cache(model_name, "config.json")
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def open_model(config: Any, hook_names: list[str]) -> HookedRootModule:
    """Load the language model of a runner config, as SAELens does.

    A local folder also loads as a `HookedTransformer`, which TransformerLens does not offer. Code
    that comes with the model is run only where the config asks for it and the user trusts it.

    Args:
        config: A `LanguageModelSAERunnerConfig` or `MultiSAETrainingRunnerConfig`.
        hook_names: The hooks that are needed.

    Raises:
        BadInputError: There is no such model, or it cannot be loaded.
    """
    name = local_model_name(config.model_name)
    _check_model_name(config.model_class_name, config.model_name, name)
    is_local = Path(name).is_dir()
    known = known_to_transformer_lens(name) if is_local else contextlib.nullcontext()
    with guarded_model(config), quietly(), known:
        return load_model(
            config.model_class_name,
            name,
            device=config.llm_device,
            model_from_pretrained_kwargs=config.model_from_pretrained_kwargs,
            hook_names=hook_names,
        )


@contextlib.contextmanager
def guarded_model(config: Any) -> Generator[None]:
    """Load parts of a runner config's model inside; what cannot be loaded is the user's to mend.

    Raises:
        BadInputError: Instead of what the libraries raise; it names the model and the way out.
    """
    asked = bool((config.model_from_pretrained_kwargs or {}).get("trust_remote_code"))
    with (
        refusals_as_bad_input(f"model_name = {config.model_name!r}", remote_code.way_out),
        remote_code.guarded(asked),
    ):
        yield


def open_dataset(
    dataset_path: str, streaming: bool, split: str = "train"
) -> datasets.IterableDataset | None:
    """Open a data set that is at hand.

    Args:
        dataset_path: `bundled`; a local folder of data files, or one written by `save_to_disk`; a
            local .parquet, .json, .jsonl, .csv, .txt or .arrow file; or a name on the Hub.
        streaming: Read files as they are needed, not into a cache of Arrow files first.
        split: Of a folder with several.

    Returns:
        The data set for SAELens's `override_dataset`, or None for a name on the Hub, which SAELens
        opens itself. It is iterable: of a data set with a length, SAELens warns that it has fewer
        *rows* than the run has *tokens*.

    Raises:
        BadInputError: The folder or file holds no data set with that split.
    """
    if dataset_path == BUNDLED:
        return bundled_dataset("train").to_iterable_dataset()
    path = Path(dataset_path)
    if not path.exists():
        _check_dataset_name(dataset_path)
        return None
    with refusals_as_bad_input(f"dataset_path = {dataset_path!r}"):
        dataset: Any
        if (path / "state.json").is_file():
            dataset = datasets.load_from_disk(str(path))
        elif (path / "dataset_dict.json").is_file():
            dataset = datasets.load_from_disk(str(path))[split]
        elif path.is_dir():
            check_format(path)
            dataset = datasets.load_dataset(str(path), split=split, streaming=streaming)
        else:
            dataset = datasets.load_dataset(
                _file_format(path), data_files=str(path), split="train", streaming=streaming
            )
    return dataset.to_iterable_dataset() if isinstance(dataset, datasets.Dataset) else dataset


def check_format(folder: Path) -> None:
    """Refuse a folder that `datasets` would not read as data files of a known format.

    Raises:
        ValueError: It holds other files, or none, or a script.
    """
    reader = type(datasets.load_dataset_builder(str(folder)))
    readers = [cls.__module__.rpartition(".")[2] for cls in reader.__mro__]
    if not set(readers) & set(_FILE_FORMATS.values()):
        raise ValueError(
            f"{folder}: most of its files are none of {', '.join(_FILE_FORMATS)} ({readers[0]})"
        )


@contextlib.contextmanager
def raw_text_on_purpose() -> Generator[None]:
    """Keep SAELens's advice to tokenise text beforehand back, which it gives as a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Dataset is not tokenized")
        yield


@contextlib.contextmanager
def quietly() -> Generator[None]:
    """Loading prints, logs and draws bars; none of it is a part of our output."""
    bars_were_on = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    disabled_level = logging.root.manager.disable
    logging.disable(max(disabled_level, logging.INFO))
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            # HookedTransformer is what SAELens asks for, deprecated or not.
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logging.disable(disabled_level)
        if bars_were_on:
            transformers_logging.enable_progress_bar()


@contextlib.contextmanager
def known_to_transformer_lens(name: str) -> Generator[None]:
    """Put the name of a local model on TransformerLens's list, the only thing that refuses it."""
    names: list[str] = transformer_lens_names.OFFICIAL_MODEL_NAMES  # pyright: ignore[reportPrivateImportUsage]
    names.append(name)
    try:
        yield
    finally:
        names.remove(name)


def _check_model_name(class_name: str, model_name: str, local_name: str) -> None:
    classes = ("HookedTransformer", "HookedMamba", "AutoModelForCausalLM")
    if class_name not in classes:
        raise BadInputError(
            f"model_class_name = {class_name!r}: unknown; {nearest(class_name, classes)}"
        )
    if class_name != "HookedTransformer" or Path(local_name).is_dir():
        return
    names = transformer_lens_names.make_model_alias_map()
    if model_name.lower() not in names:
        raise BadInputError(
            f"model_name = {model_name!r}: neither a folder nor a name that TransformerLens knows; "
            f"{nearest(model_name, names)}; with model_class_name = 'AutoModelForCausalLM' it may "
            "be any model of the Hub"
        )


def _check_dataset_name(dataset_path: str) -> None:
    path = Path(dataset_path)
    is_path = dataset_path.startswith((".", "~")) or path.is_absolute() or len(path.parts) > 2
    if is_path or path.suffix in _FILE_FORMATS:
        raise BadInputError(f"dataset_path = {dataset_path!r}: no such file or folder")
    if dataset_path.isidentifier() and find_spec(f"datasets.packaged_modules.{dataset_path}"):
        raise BadInputError(
            f"dataset_path = {dataset_path!r}: is a reader of files, which would read those in the "
            "working directory; name the folder or file itself"
        )


def _file_format(path: Path) -> str:
    if path.suffix not in _FILE_FORMATS:
        raise BadInputError(
            f"dataset_path = {str(path)!r}: a file must end in {', '.join(_FILE_FORMATS)}"
        )
    return _FILE_FORMATS[path.suffix]
