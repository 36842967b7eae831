"""A small real language model and a data set for it, both at hand without a network."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

from wsae_plugin.assets.stdlib_text import Split, read_stdlib

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["BUNDLED_MODEL_NAME", "bundled_dataset", "bundled_model_path"]

BUNDLED_MODEL_NAME = "bundled/python-neox"
"""What the bundled model is called in configs, reports and cards; never a path of one machine."""

_SHUFFLE_SEED = 0


def bundled_model_path() -> Path:
    """Folder of the bundled language model, as Hugging Face's ``save_pretrained`` lays one out.

    A GPT-NeoX (Pythia's architecture: 4 layers, d_model 128, 256 positions, 2048 tokens) trained
    on the source of Python's standard library. Its weights are stored as float16 and load as
    float32. The folder's ``training.json`` says how well it predicts and how it was trained.

    SAELens takes the path as a string for ``model_name``, with ``model_class_name``
    ``"AutoModelForCausalLM"`` (hooks such as ``gpt_neox.layers.1``). ``"HookedTransformer"``
    (hooks such as ``blocks.1.hook_resid_post``) loads it too, once the path is on TransformerLens's
    list of names; the configs of this package say ``bundled`` and need not care.

    Returns:
        The folder with ``config.json``, ``model.safetensors`` and the tokenizer's files.

    Example:
        >>> from transformers import AutoModelForCausalLM
        >>> model = AutoModelForCausalLM.from_pretrained(bundled_model_path())
        >>> model.config.hidden_size
        128
    """
    return Path(__file__).parent / "model"


def bundled_dataset(split: Split) -> Dataset:
    """The source text of the running Python's standard library, one file a row.

    The rows are the files sorted by path and then shuffled by a fixed seed, so one Python always
    gives the same rows in the same order. Another version of Python gives its own text, and a
    module is in the same split in both. Nothing is downloaded and nothing is cached on disk.

    Args:
        split: ``"train"`` (what the bundled model was trained on, about 7 million characters) or
            ``"held_out"`` (files it never saw, about 1 million characters).

    Returns:
        A data set with the single column ``text``, for SAELens's ``override_dataset``.

    Raises:
        ValueError: ``split`` is neither of the two.
        FileNotFoundError: This Python's library is not installed as ``.py`` files.

    Example:
        >>> bundled_dataset("held_out").column_names
        ['text']
    """
    from datasets import Dataset

    texts = [file.text for file in read_stdlib(split)]
    random.Random(_SHUFFLE_SEED).shuffle(texts)
    return Dataset.from_dict({"text": texts})
