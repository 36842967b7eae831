"""A language model and a data set so small that a training run takes a second."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

D_MODEL = 32
D_SAE = 64
BATCH = 128
WORDS = ("alpha", "beta", "def", "return", "self", "import", "gamma", "while", "None", "lambda")


@dataclass(frozen=True)
class TinyWorld:
    """A folder with a model, texts, and config files made on demand.

    Args:
        path: Where everything is.
    """

    path: Path

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def texts(self) -> Path:
        return self.path / "texts"

    def language_model(self, **changes: Any) -> dict[str, Any]:
        """A config of one SAE, ten steps long."""
        return self._common() | {"hook_name": "blocks.1.hook_resid_post", "sae": sae()} | changes

    def multi(self, **changes: Any) -> dict[str, Any]:
        """A config of a baseline and two weighted SAEs in one pass."""
        saes = {
            "baseline": sae(architecture="topk", alpha=None),
            "alpha-0": sae(alpha=0),
            "alpha-1": sae(alpha=1),
        }
        shared = {"hook_names": "blocks.1.hook_resid_post", "saes": saes}
        return self._common() | shared | changes

    def synthetic(self, **changes: Any) -> dict[str, Any]:
        """A config of one SAE on a synthetic model."""
        return {
            "synthetic_model": {"num_features": 48, "hidden_dim": D_MODEL, "seed": 1},
            "sae": sae(),
            "training_samples": 10 * BATCH,
            "batch_size": BATCH,
            "eval_samples": 256,
        } | changes

    def table(self, **changes: Any) -> dict[str, Any]:
        """A config of one SAE on a table with labels."""
        if not (file := self.path / "table.npy").exists():
            generator = torch.Generator().manual_seed(0)
            labels = torch.randint(3, (1000,), generator=generator)
            x = torch.randn(1000, D_MODEL, generator=generator) + labels.unsqueeze(1)
            np.save(self.path / "labels.npy", labels.numpy())
            np.save(file, x.numpy())
        return {
            "activations": str(file),
            "labels": str(self.path / "labels.npy"),
            "sae": sae(),
            "training_samples": 10 * BATCH,
            "batch_size": BATCH,
            "n_batches_in_buffer": 3,
        } | changes

    def _common(self) -> dict[str, Any]:
        return {
            "model_name": str(self.model),
            "dataset_path": str(self.texts),
            "context_size": 32,
            "store_batch_size_prompts": 4,
            "n_batches_in_buffer": 8,
            "training_tokens": 10 * BATCH,
            "train_batch_size_tokens": BATCH,
            "lr": 1e-3,
        }


def sae(**changes: Any) -> dict[str, Any]:
    """An `sae:` section; a field changed to None is left out."""
    fields: dict[str, Any] = {
        "architecture": "weighted_topk",
        "alpha": 0.5,
        "d_in": D_MODEL,
        "d_sae": D_SAE,
        "k": 4,
    }
    return {name: value for name, value in (fields | changes).items() if value is not None}


def signed_and_pursued() -> dict[str, dict[str, Any]]:
    """Sections of the SAEs whose latents are negative too, or found one after the other."""
    pursued = {"k": None, "max_iterations": 4, "decoder_init_norm": 1.0}
    return {
        "abstopk": sae(architecture="weighted_abstopk"),
        "pursuit": sae(architecture="weighted_matching_pursuit", **pursued),
    }


def write_config(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def make_world(path: Path) -> TinyWorld:
    """Make the model and the texts in `path`."""
    world = TinyWorld(path)
    world.texts.mkdir(parents=True)
    write_texts(world.texts / "train.jsonl", n_rows=400)
    vocab_size = save_tokenizer(world.model)
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=vocab_size,
        hidden_size=D_MODEL,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    GPTNeoXForCausalLM(config).save_pretrained(world.model)
    return world


def write_texts(path: Path, n_rows: int) -> None:
    draw = random.Random(0)
    with path.open("w") as file:
        for _ in range(n_rows):
            file.write(json.dumps({"text": " ".join(draw.choices(WORDS, k=60))}) + "\n")


def save_tokenizer(path: Path) -> int:
    """Save a byte-level tokenizer; returns its number of tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(WORDS)] * 4, trainer)
    end = "<|endoftext|>"
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=end, eos_token=end, unk_token=end
    )
    wrapped.save_pretrained(path)
    return len(wrapped)
