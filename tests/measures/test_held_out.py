"""Which text SAEs are measured on, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from datasets import Dataset, DatasetDict

from tests.training.tiny import TinyWorld, write_config, write_texts
from wsae_plugin.errors import BadInputError
from wsae_plugin.measures.held_out import (
    BUNDLED_HELD_OUT,
    EvalSettings,
    HeldOutSource,
    HeldOutText,
    held_out_source,
    open_held_out,
)
from wsae_plugin.training.config import RunConfig, load_run_config


@pytest.fixture
def with_test_split(tmp_path: Path) -> Path:
    folder = tmp_path / "with-splits"
    folder.mkdir()
    write_texts(folder / "train.jsonl", n_rows=3)
    write_texts(folder / "test.jsonl", n_rows=40)
    return folder


def test_the_default_is_the_held_out_part_of_the_training_data(with_test_split: Path) -> None:
    assert held_out_source("bundled", None) == HeldOutSource(BUNDLED_HELD_OUT, None)
    assert held_out_source(str(with_test_split), None) == HeldOutSource(
        str(with_test_split), "test"
    )
    write_texts(with_test_split / "validation.jsonl", n_rows=3)
    assert held_out_source(str(with_test_split), None).split == "validation"


def test_text_may_be_named(world: TinyWorld, with_test_split: Path) -> None:
    trained_on = str(with_test_split)
    assert held_out_source(trained_on, BUNDLED_HELD_OUT).dataset == BUNDLED_HELD_OUT
    assert held_out_source(trained_on, str(world.texts)).split == "train"
    assert held_out_source(trained_on, trained_on).split == "test"
    file = str(with_test_split / "test.jsonl")
    assert held_out_source(trained_on, file) == HeldOutSource(file, None)
    assert str(HeldOutSource("texts", "test")) == "texts (test)"
    assert str(HeldOutSource(BUNDLED_HELD_OUT, None)) == BUNDLED_HELD_OUT


def test_training_text_is_refused(world: TinyWorld) -> None:
    texts = str(world.texts)
    with pytest.raises(BadInputError, match=r"--dataset: missing; .* has no held-out split \(its"):
        held_out_source(texts, None)
    with pytest.raises(BadInputError, match="is what the run was trained on"):
        held_out_source(texts, str(world.path / "model" / ".." / "texts"))
    with pytest.raises(BadInputError, match=r"is what the run was trained on .* \(it has no"):
        held_out_source("bundled", "bundled")
    with pytest.raises(BadInputError, match="no such file or folder"):
        held_out_source("bundled", "./nowhere.jsonl")


def opened(
    world: TinyWorld, source: HeldOutSource, seed: int = 0, n_batches: int = 2
) -> HeldOutText:
    path = write_config(world.path / "held_out.yaml", world.language_model(device="cpu"))
    config: RunConfig = load_run_config(path)
    settings = EvalSettings(batches=n_batches, batch_size_prompts=3, seed=seed)
    text = open_held_out([config], source, settings)
    assert isinstance(text, HeldOutText)
    return text


def test_batches_are_tokens_of_the_held_out_text(world: TinyWorld, with_test_split: Path) -> None:
    first, again, other = (
        opened(world, HeldOutSource(str(with_test_split), "test"), seed) for seed in (0, 0, 1)
    )
    assert [batch.shape for batch in first.batches] == [(3, 32), (3, 32)]
    assert torch.equal(first.batches[0], again.batches[0])
    assert not torch.equal(first.batches[0], other.batches[0])
    assert first.excluded == [first.tokenizer.bos_token_id]
    text = first.tokenizer.decode(first.batches[0][0], skip_special_tokens=True)
    assert "lambda" in text or "return" in text


def test_tables_saved_by_datasets_can_be_read(world: TinyWorld, tmp_path: Path) -> None:
    table = Dataset.from_dict({"text": [" ".join(["alpha beta"] * 40)] * 20})
    table.save_to_disk(tmp_path / "one")
    DatasetDict({"train": table, "validation": table}).save_to_disk(tmp_path / "several")
    one = held_out_source("bundled", str(tmp_path / "one"))
    several = held_out_source("bundled", str(tmp_path / "several"))
    assert (one.split, several.split) == (None, "validation")
    for source in (one, several):
        assert opened(world, source).batches[0].shape == (3, 32)


def test_splits_of_which_none_is_for_this_are_refused(world: TinyWorld, tmp_path: Path) -> None:
    table = Dataset.from_dict({"text": ["alpha"]})
    DatasetDict({"spare": table}).save_to_disk(tmp_path / "spare")
    source = held_out_source("bundled", str(tmp_path / "spare"))
    with pytest.raises(BadInputError, match="spare': .*'train'"):
        opened(world, source)


def test_too_little_text_is_refused(world: TinyWorld, with_test_split: Path) -> None:
    with pytest.raises(BadInputError, match="ends before 500 batches of 3 × 32 tokens"):
        opened(world, HeldOutSource(str(with_test_split), "test"), n_batches=500)
