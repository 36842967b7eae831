"""Train the bundled language model: ``python -m tools.make_language_model``.

A byte-level BPE tokenizer and a small GPT-NeoX (Pythia's architecture), both trained on the
source of Python's standard library and scored, as stored, on held-out files of it.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    PreTrainedTokenizerFast,
)

from tools.scoring import (
    bigram_cross_entropy,
    fit_tuned_bigram,
    fit_unigram,
    model_cross_entropy,
    scoring_windows,
    unigram_cross_entropy,
)
from tools.training_loop import Budget, sample_batch, train
from wsae_plugin.assets import bundled_dataset, bundled_model_path
from wsae_plugin.files import write_json_atomic

logger = logging.getLogger(__name__)

END_OF_TEXT = "<|endoftext|>"
VOCAB_SIZE = 2048
CONTEXT_SIZE = 256
ARCHITECTURE: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "hidden_act": "gelu",
    "rotary_pct": 0.25,
    "max_position_embeddings": CONTEXT_SIZE,
    "use_parallel_residual": True,
    "tie_word_embeddings": False,
}


def train_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer that gives every text back exactly.

    As in Pythia, ``<|endoftext|>`` (token 0) is the BOS, EOS and padding token in one.
    """
    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )


def token_stream(tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """All texts as one stream (n_tokens,) int64, each led by ``<|endoftext|>``."""
    separator = [tokenizer.bos_token_id]
    encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return torch.cat([torch.tensor(separator + ids, dtype=torch.long) for ids in encoded])


def new_model(bos_token_id: int) -> GPTNeoXForCausalLM:
    """A GPT-NeoX of 1.3 million parameters with random weights."""
    config = GPTNeoXConfig(**ARCHITECTURE, bos_token_id=bos_token_id, eos_token_id=bos_token_id)
    return GPTNeoXForCausalLM(config)


def save(model: Any, tokenizer: PreTrainedTokenizerFast, output: Path) -> None:
    """Write the model and its tokenizer into ``output``, each file whole.

    The weights are rounded to float16 to halve their size, while ``config.json`` says float32:
    whoever loads the folder computes in float32.
    """
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as name:
        folder = Path(name)
        half = {key: value.half() for key, value in model.state_dict().items()}
        model.save_pretrained(folder, state_dict=half)
        tokenizer.save_pretrained(folder)
        _name_tokenizer_class(folder / "tokenizer_config.json")
        for path in folder.iterdir():
            path.chmod(0o644)
            path.replace(output / path.name)


def _name_tokenizer_class(path: Path) -> None:
    """Name the class that transformers 4 and 5 both know; 5 writes a name that 4 does not."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    write_json_atomic(path, config)


def score(folder: Path, train_tokens: Tensor, held_out_tokens: Tensor) -> dict[str, Any]:
    """Held-out cross-entropies of the model stored in ``folder`` and of the n-gram models.

    Args:
        folder: Where `save` wrote the model.
        train_tokens: (n_tokens,) what the n-gram models are fitted on.
        held_out_tokens: (n_tokens,) what all three are scored on.
    """
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    windows = scoring_windows(held_out_tokens, CONTEXT_SIZE, model.config.bos_token_id)
    bigram = fit_tuned_bigram(train_tokens, VOCAB_SIZE)
    unigram = fit_unigram(train_tokens, VOCAB_SIZE)
    return {
        "held_out_nats_per_token": {
            "model": round(model_cross_entropy(model, windows), 4),
            "bigram": round(bigram_cross_entropy(bigram, windows), 4),
            "unigram": round(unigram_cross_entropy(unigram, windows), 4),
        },
        "held_out_tokens_scored": windows[:, 2:].numel(),
        "bigram_smoothing": {"discount": bigram.discount, "lower_order": bigram.lower_order},
    }


def make_language_model(output: Path, budget: Budget, seed: int) -> dict[str, Any]:
    """Train, store and score the language model.

    Args:
        output: Folder to write to; it is made if need be.
        budget: How long to train.
        seed: Fixes the initial weights and the order of the training text.

    Returns:
        What is also written to ``training.json``: losses in nats per token, seed, token counts
        and versions.
    """
    texts = {split: list(bundled_dataset(split)["text"]) for split in ("train", "held_out")}
    tokenizer = train_tokenizer(texts["train"])
    streams = {split: token_stream(tokenizer, texts[split]) for split in texts}
    logger.info("%d training tokens", len(streams["train"]))

    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    bos: int = tokenizer.convert_tokens_to_ids(END_OF_TEXT)  # type: ignore[assignment]
    model = new_model(bos)
    start = time.monotonic()
    trained = train(
        model, lambda: sample_batch(streams["train"], CONTEXT_SIZE, bos, generator), budget
    )
    minutes = (time.monotonic() - start) / 60
    save(model, tokenizer, output)

    characters = sum(len(text) for text in texts["held_out"])
    record = {
        **score(output, streams["train"], streams["held_out"]),
        "held_out_characters_per_token": round(characters / len(streams["held_out"]), 3),
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens_trained_on": trained,
        "tokens_in_training_text": len(streams["train"]),
        "seed": seed,
        "minutes": round(minutes, 1),
        "versions": {
            "python": platform.python_version(),
            "tokenizers": tokenizers.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }
    write_json_atomic(output / "training.json", record)
    return record


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see ``--help``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[-1])
    parser.add_argument("--output", type=Path, default=bundled_model_path(), help="folder to fill")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--tokens", type=int, help="tokens to train on (default: 8 million)")
    length.add_argument("--minutes", type=float, help="train for so long instead")
    parser.add_argument("--seed", type=int, default=0, help="initial weights and order of the text")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    options = parser.parse_args(arguments)

    tokens = 8_000_000 if options.tokens is None and options.minutes is None else options.tokens
    try:
        budget = Budget(tokens, options.minutes)
    except ValueError as error:
        parser.error(str(error))

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    record = make_language_model(options.output, budget, options.seed)
    _print_table(record["held_out_nats_per_token"])


def _print_table(nats_per_token: dict[str, float]) -> None:
    """The held-out cross-entropies, worst first."""
    table = Table("predictor", "held-out nats per token")
    for name, value in sorted(nats_per_token.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{value:.4f}")
    Console().print(table)


if __name__ == "__main__":
    main()
