"""The text and the labelled data that evals read."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from datasets import Dataset, load_dataset

from wsae_plugin.errors import BadInputError
from wsae_plugin.saebench import library
from wsae_plugin.saebench.data import (
    ATTRIBUTES,
    PACKAGES,
    labelled_sources,
    registered,
    stdlib_snippets,
    text_source,
)
from wsae_plugin.saebench.evals.probing import sizes
from wsae_plugin.saebench.stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path / "stage")


def write_own(folder: Path, labels: tuple[str, ...] = ("a", "b"), n: int = 6) -> Path:
    rows = [
        {"text": f"{label} {attribute} {i}", "label": label, "attribute": attribute}
        for label in labels
        for attribute in ("x", "y")
        for i in range(n)
    ]
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        pd.DataFrame(rows).to_parquet(folder / f"{split}-0.parquet")
    return folder


def test_snippets_are_balanced_enough_and_no_text_is_in_both_splits() -> None:
    train, test = stdlib_snippets().values()
    for split, least in ((train, 100), (test, 50)):
        counts = split.groupby(["label", "attribute"]).size()
        assert len(counts) == len(PACKAGES) * len(ATTRIBUTES)
        assert counts.min() > least
    # Different files share licences and idioms.
    assert len(set(train["text"]) & set(test["text"])) < 0.02 * len(test)
    pd.testing.assert_frame_equal(train, stdlib_snippets()["train"])


def test_own_data_is_registered_for_as_long_as_it_is_used(tmp_path: Path, stage: Stage) -> None:
    write_own(tmp_path / "data" / "mine", labels=("a", "b", "c"))
    (source,) = labelled_sources(tmp_path / "data", is_bundled_model=False, stage=stage)
    assert source.labels == ("a", "b", "c")
    assert source.pairs == [("a", "b")]
    assert source.smallest == (6, 6)
    info = library.module("sae_bench_utils.dataset_info")
    utils = library.module("sae_bench_utils.dataset_utils")
    before = dict(info.chosen_classes_per_dataset)
    with registered([source]), stage.entered():
        train, test = utils.get_multi_label_train_test_data(source.names[0], 12, 8, 0)
        assert {label: len(texts) for label, texts in train.items()} == dict.fromkeys("abc", 6)
        assert {label: len(texts) for label, texts in test.items()} == dict.fromkeys("abc", 4)
        assert all(text.startswith("a") for text in train["a"])
    assert info.chosen_classes_per_dataset == before


def test_probes_get_no_more_texts_than_there_are(tmp_path: Path, stage: Stage) -> None:
    write_own(tmp_path / "data" / "mine", n=7)
    sources = labelled_sources(tmp_path / "data", is_bundled_model=False, stage=stage)
    assert sizes(sources, (400, 8)) == (24, 8)
    # SCR wants strictly more than 2 · (12 // 4) = 6 texts of a kind.
    assert sizes(sources, (400, 200), spare=2) == (12, 12)
    published = labelled_sources(None, is_bundled_model=False, stage=stage)
    assert sizes(published, (4000, 1000)) == (4000, 1000)


def test_published_data_under_its_own_name(tmp_path: Path, stage: Stage) -> None:
    folder = tmp_path / "data" / "fancyzhx" / "ag_news"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        frame = pd.DataFrame({"text": [f"{i}" for i in range(8)], "label": [0, 1, 2, 3] * 2})
        frame.to_parquet(folder / f"{split}-0.parquet")
    (source,) = labelled_sources(tmp_path / "data", is_bundled_model=False, stage=stage)
    assert source.names == ("fancyzhx/ag_news",)
    assert source.names_for_ablation == ()
    utils = library.module("sae_bench_utils.dataset_utils")
    with stage.entered():
        train, _ = utils.get_multi_label_train_test_data("fancyzhx/ag_news", 4, 4, 0)
    assert sorted(train) == list("0123")


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"label": "a"}, "no column attribute"),
        ({"label": "a", "attribute": "x"}, "two values"),
        ({"label": "a", "attribute": ["x", "y"]}, "label must have two"),
        ({"label": ["a", "b"], "attribute": ["x", "y"]}, "needs 2 texts"),
    ],
)
def test_own_data_that_lacks_something_is_refused(
    tmp_path: Path, stage: Stage, columns: dict[str, object], said: str
) -> None:
    folder = tmp_path / "data" / "mine"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        pd.DataFrame({"text": ["1", "2"], **columns}).to_parquet(folder / f"{split}.parquet")
    with pytest.raises(BadInputError, match=f"mine: .*{said}"):
        labelled_sources(tmp_path / "data", is_bundled_model=False, stage=stage)


def test_folders_without_data_are_refused(tmp_path: Path, stage: Stage) -> None:
    with pytest.raises(BadInputError, match="holds none of LabHC/bias_in_bios"):
        labelled_sources(tmp_path, is_bundled_model=False, stage=stage)
    with pytest.raises(BadInputError, match="no such folder"):
        labelled_sources(tmp_path / "none", is_bundled_model=False, stage=stage)
    with pytest.raises(BadInputError, match="no such file or folder"):
        text_source(str(tmp_path / "none"), False, stage)


def test_text_from_files_folders_and_saved_data_sets(tmp_path: Path, stage: Stage) -> None:
    rows = Dataset.from_dict({"text": ["one", "two"]})
    rows.to_json(tmp_path / "lines.jsonl")
    (tmp_path / "folder").mkdir()
    rows.to_parquet(tmp_path / "folder" / "train.parquet")
    rows.save_to_disk(tmp_path / "saved")  # which load_dataset refuses
    for name in ("lines.jsonl", "folder", "saved"):
        text = text_source(str(tmp_path / name), False, stage)
        assert str(tmp_path) not in text.name
        with stage.entered():
            assert load_dataset(text.name, split="train")["text"] == ["one", "two"]
    assert text_source(None, False, stage).name == "Skylion007/openwebtext"
    assert text_source("owner/name", False, stage).name == "owner/name"
    held_out = text_source(None, True, stage)
    assert held_out.fingerprint == text_source("bundled", False, stage).fingerprint
