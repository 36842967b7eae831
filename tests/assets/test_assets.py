"""The bundled language model, tokenizer and data set, as a user meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from datasets import Dataset
from sae_lens import LanguageModelSAERunnerConfig, StandardTrainingSAEConfig
from sae_lens.load_model import load_model
from sae_lens.training.activations_store import ActivationsStore
from safetensors.torch import load_file
from transformer_lens import loading_from_pretrained
from transformers import AutoModelForCausalLM, AutoTokenizer

from tools.make_language_model import token_stream
from tools.scoring import (
    bigram_cross_entropy,
    fit_tuned_bigram,
    fit_unigram,
    model_cross_entropy,
    scoring_windows,
    unigram_cross_entropy,
)
from wsae_plugin.assets import BUNDLED_MODEL_NAME, bundled_dataset, bundled_model_path

pytestmark = [
    # TransformerLens announces its next major version whenever a HookedTransformer is made.
    pytest.mark.filterwarnings("ignore:HookedTransformer.* is deprecated:DeprecationWarning"),
    # SAELens compares rows of text with tokens wanted, and would rather be given tokens.
    pytest.mark.filterwarnings("ignore:The training dataset contains fewer samples:UserWarning"),
    pytest.mark.filterwarnings("ignore:Dataset is not tokenized:UserWarning"),
]

HOOKS = {
    "HookedTransformer": "blocks.1.hook_resid_post",
    "AutoModelForCausalLM": "gpt_neox.layers.1",
}


@pytest.fixture(scope="module")
def held_out() -> Dataset:
    return bundled_dataset("held_out")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(bundled_model_path())


@pytest.fixture(scope="module")
def models() -> Iterator[dict[str, Any]]:
    """The bundled model as SAELens loads it, by the name of the class."""
    path = str(bundled_model_path())
    with pytest.MonkeyPatch.context() as patch:
        # TransformerLens reads local folders, but only those on its list of names.
        names = [*loading_from_pretrained.OFFICIAL_MODEL_NAMES, path]
        patch.setattr(loading_from_pretrained, "OFFICIAL_MODEL_NAMES", names)
        yield {class_name: load_model(class_name, path, device="cpu") for class_name in HOOKS}


@pytest.fixture(scope="module")
def snippet(held_out: Dataset, tokenizer: Any) -> torch.Tensor:
    """Tokens (1, 200) of real source that the model was not trained on."""
    text = held_out[0]["text"][:4000]
    return tokenizer(text, return_tensors="pt").input_ids[:, :200]


def test_folder_is_small_and_holds_no_pickle() -> None:
    files = [path for path in bundled_model_path().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 4 * 10**6
    assert {path.suffix for path in files} == {".json", ".safetensors"}


def test_folder_says_nothing_about_where_it_was_made() -> None:
    for path in bundled_model_path().glob("*config.json"):
        text = path.read_text(encoding="utf-8")
        assert "name_or_path" not in text
        assert "/home" not in text and "/tmp" not in text and "/root" not in text


def test_weights_are_stored_in_half_precision_and_load_in_single() -> None:
    stored = load_file(bundled_model_path() / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.float16}
    loaded = AutoModelForCausalLM.from_pretrained(bundled_model_path())
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}


def test_both_ways_of_loading_give_the_same_logits(
    models: dict[str, Any], snippet: torch.Tensor
) -> None:
    with torch.no_grad():
        logits = {name: model(snippet) for name, model in models.items()}
    assert logits["HookedTransformer"].dtype == torch.float32
    torch.testing.assert_close(
        logits["HookedTransformer"], logits["AutoModelForCausalLM"], rtol=0, atol=1e-4
    )


def test_both_ways_of_hooking_see_the_same_residual_stream(
    models: dict[str, Any], snippet: torch.Tensor
) -> None:
    seen: list[torch.Tensor] = []
    for name, model in models.items():
        cache = model.run_with_cache(snippet, names_filter=[HOOKS[name]])[1]
        seen.append(cache[HOOKS[name]])
    assert seen[0].shape == (1, 200, 128)
    torch.testing.assert_close(seen[0], seen[1], rtol=0, atol=1e-4)


def test_tokenizer_gives_python_source_back_exactly(tokenizer: Any, held_out: Dataset) -> None:
    odd = "\tif x:\r\n        y  =  'é → 🐍'   # trailing \n\n\n\u2028ﬁ\x00 don 't , do n't\n"
    for text in [odd, *held_out["text"]]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_tokenizer_has_one_special_token_and_adds_none_by_itself(tokenizer: Any) -> None:
    assert tokenizer.bos_token == tokenizer.eos_token == tokenizer.pad_token == "<|endoftext|>"
    assert (
        tokenizer.bos_token_id
        == AutoModelForCausalLM.from_pretrained(bundled_model_path()).config.bos_token_id
    )
    assert len(tokenizer) == 2048
    assert tokenizer("")["input_ids"] == []


def test_model_predicts_held_out_source_far_better_than_the_best_bigram(
    tokenizer: Any, held_out: Dataset
) -> None:
    train = token_stream(tokenizer, bundled_dataset("train")["text"])
    tokens = token_stream(tokenizer, held_out["text"])
    windows = scoring_windows(tokens, context_size=256, bos_token_id=tokenizer.bos_token_id)[::20]
    model = model_cross_entropy(AutoModelForCausalLM.from_pretrained(bundled_model_path()), windows)
    bigram = bigram_cross_entropy(fit_tuned_bigram(train, len(tokenizer)), windows)
    unigram = unigram_cross_entropy(fit_unigram(train, len(tokenizer)), windows)
    assert model < bigram - 0.8
    assert bigram < unigram - 1


def test_the_record_tells_the_numbers_and_how_to_get_them_again() -> None:
    record = json.loads((bundled_model_path() / "training.json").read_text(encoding="utf-8"))
    losses = record["held_out_nats_per_token"]
    assert losses["model"] < losses["bigram"] - 0.8 < losses["unigram"]
    assert {"seed", "tokens_trained_on", "versions", "parameters"} <= record.keys()


def test_dataset_is_deterministic_and_its_splits_share_no_text(held_out: Dataset) -> None:
    assert held_out.column_names == ["text"]
    assert list(held_out["text"]) == list(bundled_dataset("held_out")["text"])
    texts = list(bundled_dataset("train")["text"])
    assert texts != sorted(texts)
    assert len(set(texts) & set(held_out["text"])) == 0


def test_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="'validation'; it must be 'train' or 'held_out'"):
        bundled_dataset("validation")  # type: ignore[arg-type]


@pytest.mark.parametrize("class_name", HOOKS)
def test_saelens_streams_activations_from_model_and_dataset(
    class_name: str, models: dict[str, Any], held_out: Dataset
) -> None:
    cfg: Any = LanguageModelSAERunnerConfig(
        sae=StandardTrainingSAEConfig(d_in=128, d_sae=256),
        model_class_name=class_name,
        model_name=BUNDLED_MODEL_NAME,
        hook_name=HOOKS[class_name],
        dataset_path="bundled",
        streaming=False,
        context_size=128,
        training_tokens=2048,
        train_batch_size_tokens=256,
        store_batch_size_prompts=4,
        n_batches_in_buffer=4,
        device="cpu",
        act_store_device="cpu",
    )
    store = ActivationsStore.from_config(models[class_name], cfg, override_dataset=held_out)
    batches = list(islice(store, 3))
    assert all(batch.shape == (256, 128) for batch in batches)
    assert all(batch.isfinite().all() and batch.std() > 0 for batch in batches)
    # Every row of tokens begins with the token that the model was trained to find there.
    assert store.get_batch_tokens(2)[:, 0].tolist() == [0, 0]


def test_importing_the_text_reader_costs_no_heavy_import() -> None:
    code = (
        "import sys, wsae_plugin.assets;"
        "assert not {'torch', 'datasets', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
