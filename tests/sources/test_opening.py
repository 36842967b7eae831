"""Models and data sets, by name and by path."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from datasets import Dataset, DatasetDict, IterableDataset
from transformer_lens import HookedTransformer

from tests.training.tiny import TinyWorld, write_config
from wsae_plugin.assets import BUNDLED_MODEL_NAME, bundled_model_path
from wsae_plugin.errors import BadInputError
from wsae_plugin.sources.opening import (
    local_model_name,
    open_dataset,
    open_model,
    published_model_name,
    raw_text_on_purpose,
)
from wsae_plugin.training.config import load_run_config

TEXTS = [{"text": f"row {row}"} for row in range(3)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def make_dataset(kind: str, path: Path) -> Path:
    rows = Dataset.from_list(TEXTS)
    path.mkdir()
    if kind.startswith("save_to_disk"):
        several = DatasetDict({"test": rows.select([1]), "train": rows})
        (several if kind.endswith("splits") else rows).save_to_disk(str(path))
        return path
    file = path / f"train.{kind.removesuffix(' folder')}"
    if file.suffix == ".parquet":
        rows.to_parquet(str(file))
    elif file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in TEXTS))
    elif file.suffix == ".csv":
        rows.to_csv(str(file))
    else:
        file.write_text("".join(row["text"] + "\n" for row in TEXTS))
    return path if kind.endswith("folder") else file


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize(
    "kind",
    [
        *("save_to_disk", "save_to_disk of splits"),
        *("jsonl folder", "parquet folder", "jsonl", "parquet", "csv", "txt"),
    ],
)
def test_local_data_sets(tmp_path: Path, kind: str, streaming: bool) -> None:
    dataset = open_dataset(str(make_dataset(kind, tmp_path / "data")), streaming)
    # Of a data set with a length, SAELens warns that it has fewer rows than the run has tokens.
    assert isinstance(dataset, IterableDataset)
    assert list(dataset) == TEXTS


def test_the_bundled_text_and_names_of_the_hub() -> None:
    bundled = open_dataset("bundled", streaming=True)
    assert bundled is not None
    assert next(iter(bundled))["text"]
    assert open_dataset("monology/pile-uncopyrighted", streaming=True) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./nowhere", "no such file or folder"),
        ("data/of/mine", "no such file or folder"),
        ("nowhere.jsonl", "no such file or folder"),
        ("{empty}", "doesn't contain any data files"),
        ("{file}", "a file must end in .parquet"),
        ("{broken}", "dataset_path"),
        ("{archives}", "most of its files are none of .parquet, .json"),
        ("pandas", "is a reader of files"),
        ("text", "is a reader of files"),
    ],
)
def test_data_sets_that_are_none(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "data.xyz").touch()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "state.json").write_text("{")
    (tmp_path / "archives").mkdir()
    for member in ("train.tar", "test.tar", "notes.txt"):
        (tmp_path / "archives" / member).touch()
    path = name.format(
        empty=tmp_path / "empty",
        file=tmp_path / "data.xyz",
        broken=tmp_path / "broken",
        archives=tmp_path / "archives",
    )
    with pytest.raises(BadInputError) as error:
        open_dataset(path, streaming=False)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def runner_config(world: TinyWorld, folder: Path, **changes: Any) -> Any:
    values = world.language_model(**changes)
    return load_run_config(write_config(folder / "config.yaml", values)).runner_config()


def test_a_local_folder_loads_as_either_class(
    world: TinyWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hooked = open_model(runner_config(world, tmp_path), ["blocks.1.hook_resid_post"])
    assert isinstance(hooked, HookedTransformer)
    as_module = runner_config(
        world, tmp_path, model_class_name="AutoModelForCausalLM", hook_name="gpt_neox.layers.1"
    )
    proxy = open_model(as_module, ["gpt_neox.layers.1"])
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(hooked(tokens), proxy(tokens), rtol=1e-4, atol=1e-4)
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_name": "pythia-160m-dedup"}, "did you mean 'pythia-160m-deduped'?"),
        ({"model_class_name": "HookedTransfomer"}, "did you mean 'HookedTransformer'?"),
        ({"model_class_name": "AutoModelForCausalLM", "model_name": "{empty}"}, "model_name = "),
    ],
)
def test_models_that_are_none(
    world: TinyWorld, tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    changes = {name: value.format(empty=tmp_path / "empty") for name, value in changes.items()}
    with pytest.raises(BadInputError) as error:
        open_model(runner_config(world, tmp_path, **changes), [])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_names_of_the_bundled_model() -> None:
    assert published_model_name("bundled") == BUNDLED_MODEL_NAME
    assert published_model_name("gpt2") == local_model_name("gpt2") == "gpt2"
    for name in ("bundled", BUNDLED_MODEL_NAME):
        assert local_model_name(name) == str(bundled_model_path())


def test_only_the_advice_to_tokenise_is_kept_back() -> None:
    with pytest.warns(UserWarning) as caught, raw_text_on_purpose():
        warnings.warn("Dataset is not tokenized. Pre-tokenizing will improve …", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
    assert [str(warning.message) for warning in caught] == ["something else"]
