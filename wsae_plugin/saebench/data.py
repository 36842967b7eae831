"""The text and the labelled data that evals read: bundled, local, or of the Hub."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsae_plugin.assets import bundled_dataset
from wsae_plugin.assets.stdlib_text import read_stdlib
from wsae_plugin.errors import BadInputError
from wsae_plugin.fingerprint import fingerprint_of_files
from wsae_plugin.messages import naming, refusals_as_bad_input
from wsae_plugin.replaced import replaced_items
from wsae_plugin.saebench import library
from wsae_plugin.saebench.stage import Stage
from wsae_plugin.sources.opening import BUNDLED, check_format

if TYPE_CHECKING:
    import pandas as pd

PACKAGES = ("asyncio", "email", "importlib", "multiprocessing", "xml")
"""Packages of many files and of different subjects, in every supported Python."""

ATTRIBUTES = ("defines", "uses")

_LINES = 6
_TEST_EVERY = 3  # files; no file is in both splits
_DEFINES = re.compile(r"^\s*(?:async\s+)?(?:def|class)\s", re.MULTILINE)

# SAEBench tells the form of a data set by a part of its name, so ours carry that part.
_FORM = "_in_bias_in_bios_form"
_COLUMNS = ("text", "label", "attribute")
_PUBLISHED = {
    "LabHC/bias_in_bios": tuple(f"LabHC/bias_in_bios_class_set{n}" for n in (1, 2, 3)),
    "canrager/amazon_reviews_mcauley_1and5": (
        "canrager/amazon_reviews_mcauley_1and5",
        "canrager/amazon_reviews_mcauley_1and5_sentiment",
    ),
    "codeparrot/github-code": ("codeparrot/github-code",),
    "fancyzhx/ag_news": ("fancyzhx/ag_news",),
    "Helsinki-NLP/europarl": ("Helsinki-NLP/europarl",),
}
_FOR_ABLATION = ("LabHC/bias_in_bios_class_set1", "canrager/amazon_reviews_mcauley_1and5")
_SUFFIXES = (".parquet", ".json", ".jsonl", ".csv", ".txt", ".arrow")


@dataclass(frozen=True)
class Text:
    """Text for `core` and `autointerp`.

    Args:
        name: What SAEBench asks `datasets` for.
        fingerprint: Of a local one; its name for one of the Hub.
        is_local: Whether it lies on this machine.
    """

    name: str
    fingerprint: str
    is_local: bool


@dataclass(frozen=True)
class Labelled:
    """One labelled data set for sparse probing, TPP and SCR.

    Args:
        names: What SAEBench calls it; one data set may be asked about in several ways.
        fingerprint: Of a local one; its name for one of the Hub.
        labels: The classes of an own data set; empty for one that SAEBench knows.
        attributes: The two values of its other column.
        smallest: Texts of the rarest (label, attribute), in train and in test; None if unknown.
    """

    names: tuple[str, ...]
    fingerprint: str
    labels: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    smallest: tuple[int, int] | None = None

    @property
    def names_for_ablation(self) -> tuple[str, ...]:
        """Those that TPP and SCR accept."""
        return self.names if self.labels else tuple(n for n in self.names if n in _FOR_ABLATION)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Pairs of own classes for SCR, each class once."""
        return list(zip(self.labels[::2], self.labels[1::2], strict=False))


def text_source(dataset: str | None, is_bundled_model: bool, stage: Stage) -> Text:
    """What `--dataset` names; else held-out Python source for the bundled model, else openwebtext.

    Raises:
        BadInputError: There is no such file or folder, or it cannot be read.
    """
    if dataset == BUNDLED or (dataset is None and is_bundled_model):
        return _staged_text(stage, "wsae/python_stdlib_held_out", bundled_dataset("held_out"))
    if dataset is None:
        return Text("Skylion007/openwebtext", "Skylion007/openwebtext", is_local=False)
    path = Path(dataset).expanduser()
    if not path.exists():
        if path.is_absolute() or dataset.startswith((".", "~")) or path.suffix in _SUFFIXES:
            raise BadInputError(f"--dataset {dataset}: no such file or folder")
        return Text(dataset, dataset, is_local=False)
    path = path.resolve()
    name = f"local/{path.stem}"
    if (path / "state.json").is_file():
        from datasets import load_from_disk

        with refusals_as_bad_input(f"--dataset {dataset}"):
            return _staged_text(stage, name, load_from_disk(str(path)))
    if path.is_file():
        if path.suffix not in _SUFFIXES:
            raise BadInputError(f"--dataset {dataset}: must end in {', '.join(_SUFFIXES)}")
        stage.clear(name)
        stage.put(f"{name}/train{path.suffix}", path)
    else:
        with refusals_as_bad_input(f"--dataset {dataset}"):
            check_format(path)
        stage.put(name, path)
    return Text(name, fingerprint_of_files(path), is_local=True)


def labelled_sources(
    datasets: Path | None, is_bundled_model: bool, stage: Stage
) -> tuple[Labelled, ...]:
    """What is in `--datasets`; else Python source for the bundled model, else SAEBench's own.

    A folder may hold SAEBench's data sets under their names (`LabHC/bias_in_bios/train-0.parquet`,
    `test-0.parquet`, …), and own ones: a folder with `train*.parquet` and `test*.parquet` of the
    columns `text`, `label` and `attribute` (two values, both with every label).

    Raises:
        BadInputError: The folder holds no data set, or an own one has other columns.
    """
    if datasets is None and is_bundled_model:
        return (_staged_frames(stage, "wsae/python_stdlib", stdlib_snippets()),)
    if datasets is None:
        return tuple(Labelled(names, dataset) for dataset, names in _PUBLISHED.items())
    folder = datasets.expanduser().resolve()
    if not folder.is_dir():
        raise BadInputError(f"--datasets {datasets}: no such folder")
    found: list[Labelled] = []
    for dataset, names in _PUBLISHED.items():
        if (folder / dataset).is_dir():
            with refusals_as_bad_input(f"--datasets {datasets}"):
                check_format(folder / dataset)
            stage.put(dataset, folder / dataset)
            found.append(Labelled(names, fingerprint_of_files(folder / dataset)))
    for own in sorted(path for path in folder.iterdir() if any(path.glob("train*.parquet"))):
        found.append(_own(own, stage))
    if not found:
        raise BadInputError(
            f"--datasets {datasets}: holds none of {', '.join(_PUBLISHED)}, and no folder with "
            f"train*.parquet and test*.parquet of the columns {', '.join(_COLUMNS)}"
        )
    return tuple(found)


@contextlib.contextmanager
def registered(sources: Sequence[Labelled]) -> Generator[None]:
    """Tell SAEBench, whose list of data sets is fixed, of own ones, for as long as this lasts."""
    info = library.module("sae_bench_utils.dataset_info")
    column2 = library.module("evals.scr_and_tpp.main").COLUMN2_VALS_LOOKUP
    own = {source.names[0]: source for source in sources if source.labels}
    metadata = {
        name: {
            "text_column_name": "text",
            "column1_name": "label",
            "column2_name": "attribute",
            "column2_autointerp_name": "attribute",
            "column1_mapping": {label: label for label in source.labels},
            "column2_mapping": {value: value for value in source.attributes},
        }
        for name, source in own.items()
    }
    classes = {name: list(source.labels) for name, source in own.items()}
    with (
        replaced_items(info.dataset_metadata, metadata),
        replaced_items(info.chosen_classes_per_dataset, classes),
        replaced_items(column2, {name: source.attributes for name, source in own.items()}),
    ):
        yield


def stdlib_snippets() -> dict[str, pd.DataFrame]:
    """Lines of Python's standard library: `train` and `test` rows, from different files.

    `text` is six consecutive lines that are not blank, `label` the package that they come from.
    `attribute` is "defines" where one of them begins a function or a class, else "uses".
    """
    import pandas as pd

    rows: dict[str, list[tuple[str, ...]]] = {"train": [], "test": []}
    files = sorted([*read_stdlib("train"), *read_stdlib("held_out")], key=lambda file: file.path)
    for package in PACKAGES:
        mine = [file for file in files if file.path.startswith(f"{package}/")]
        for index, file in enumerate(mine):
            lines = [line for line in file.text.splitlines() if line.strip()]
            for start in range(0, len(lines) - _LINES + 1, _LINES):
                text = "\n".join(lines[start : start + _LINES])
                attribute = ATTRIBUTES[0] if _DEFINES.search(text) else ATTRIBUTES[1]
                split = "test" if index % _TEST_EVERY == 0 else "train"
                rows[split].append((text, package, attribute))
    return {split: pd.DataFrame(of_split, columns=_COLUMNS) for split, of_split in rows.items()}


def _staged_text(stage: Stage, name: str, dataset: Any) -> Text:
    file = stage.folder / name / "train-00000.parquet"
    stage.clear(name)
    file.parent.mkdir(parents=True)
    dataset.to_parquet(str(file))
    return Text(name, fingerprint_of_files(file), is_local=True)


def _own(folder: Path, stage: Stage) -> Labelled:
    import pandas as pd

    frames: dict[str, pd.DataFrame] = {}
    with naming(str(folder)):
        for split in ("train", "test"):
            files = sorted(folder.glob(f"{split}*.parquet"))
            if not files:
                raise BadInputError(f"has no {split}*.parquet")
            with refusals_as_bad_input():
                frame = pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)
            if missing := [column for column in _COLUMNS if column not in frame.columns]:
                raise BadInputError(f"{split} has no column {', '.join(missing)}")
            frames[split] = frame[list(_COLUMNS)].astype(str)
        return _staged_frames(stage, f"own/{folder.name}", frames)


def _staged_frames(stage: Stage, name: str, frames: Mapping[str, pd.DataFrame]) -> Labelled:
    labels, attributes = (tuple(sorted(frames["train"][key].unique())) for key in _COLUMNS[1:])
    if len(attributes) != 2:
        raise BadInputError(f"attribute must have two values; it has {len(attributes)}")
    if len(labels) < 2:
        raise BadInputError("label must have two values or more")
    folder = stage.folder / (name + _FORM)
    stage.clear(name + _FORM)
    folder.mkdir(parents=True)
    smallest: dict[str, int] = {}
    for split, frame in frames.items():
        counts = frame.value_counts(["label", "attribute"])
        smallest[split] = counts.reindex(list(product(labels, attributes)), fill_value=0).min()
        frame.to_parquet(folder / f"{split}-00000.parquet", index=False)
    if min(smallest.values()) < 2:
        raise BadInputError(
            "every label needs 2 texts or more with each attribute, in train and in test"
        )
    fewest = smallest["train"], smallest["test"]
    return Labelled((name + _FORM,), fingerprint_of_files(folder), labels, attributes, fewest)
