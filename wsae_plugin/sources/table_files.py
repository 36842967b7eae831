"""Files that hold a vector a row: their columns, each read a few rows at a time.

Nothing is kept open or mapped between two reads, so that a table of any size takes no memory.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from annotated_types import Gt
from safetensors import safe_open
from torch import Tensor

from wsae_plugin.errors import BadInputError
from wsae_plugin.files import refuse_links, sha256_of
from wsae_plugin.fingerprint import fingerprint_of
from wsae_plugin.validation import convert, read_json

ONLY = "activations"
"""What the column of a file with one array is called."""
Where = slice | Tensor
"""Rows: a slice with start and stop, or their numbers, int64."""
_OF_DATASETS = {".parquet": "parquet", ".arrow": "arrow"}
_LOOKS, _ROWS_OF_A_LOOK = 16, 64
"""Into a column, evenly spaced, for its fingerprint: any table takes a moment."""

_Count = Annotated[int, Gt(0)]


@dataclass(frozen=True)
class _OfEmbed:
    """What `wsae embed` says of a table."""

    model_name: str
    n_images: _Count
    classes: list[str] | None
    image_folder: str
    complete: bool


@dataclass(frozen=True)
class _OfSaev:
    """What saev says of its shards."""

    ckpt: str
    n_ex: _Count
    layers: list[int]
    d_model: _Count
    cls_token: bool
    patches_per_ex: _Count
    dtype: str


@dataclass(frozen=True)
class _Shard:
    """One of them."""

    name: str
    n_ex: _Count


@dataclass(frozen=True)
class Column:
    """One array, whose first axis are the rows of a table.

    Args:
        shape: (rows, width) of vectors, (rows,) of labels, (rows, …) of pictures.
        dtype: What it holds, for messages.
        read: Rows → a tensor of them, or a list of texts.
        names: What the numbers of a column of labels are called; empty where nobody says.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[Where], Any]
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.shape[0]


def columns_of(path: str) -> dict[str, Column]:
    """What a table holds: of a file, of a folder of shards of one kind in the order of their
    numbers, of what `datasets` saved, or of a data set of the Hub.

    Args:
        path: .npy, .safetensors, .pt, .parquet or .arrow; a folder of such files, of
            `save_to_disk`, or of shards as saev writes them; or a name on the Hub.

    Returns:
        Name → column. An array without a name is called `activations`.

    Raises:
        BadInputError: The folder holds no table, or shards that do not belong together.
        ValueError, OSError, RuntimeError, SafetensorError, UnpicklingError: A file cannot be read.
    """
    place = Path(path)
    if place.is_file():
        return _columns_of_file(place)
    if not place.exists():
        if place.suffix in READERS or place.is_absolute() or path.startswith(("~", ".")):
            raise BadInputError("no such file or folder")
        return _columns_of_dataset(datasets.load_dataset(path, split="train"))
    refuse_links(place)
    if (place / "dataset_dict.json").is_file() or (place / "state.json").is_file():
        saved = datasets.load_from_disk(str(place))
        return _columns_of_dataset(saved["train"] if isinstance(saved, dict) else saved)
    if (place / "acts000000.bin").is_file():
        return _columns_of_saev(place)
    files = [file for file in place.iterdir() if file.suffix in READERS and file.is_file()]
    kinds = sorted({file.suffix for file in files})
    if len(kinds) != 1:
        found = f"files of {len(kinds)} kinds ({', '.join(kinds)})" if kinds else "none"
        raise BadInputError(
            f"a folder must hold shards of one kind, {', '.join(READERS)}, and this has {found}; "
            "name the file"
        )
    files.sort(key=_number)
    if kinds[0] in _OF_DATASETS:
        return _columns_of_datasets_files(files)
    return _concatenated({file.name: _columns_of_file(file) for file in files})


def described(path: str) -> dict[str, Any]:
    """What `wsae embed`, or saev, says of a table that it wrote; empty of others.

    Returns:
        `model_name`, `dataset_path`, `n_images`, and of `wsae embed` `classes`, `images` and
        `image_folder`.

    Raises:
        BadInputError: It is not complete.
    """
    file = Path(path) / "metadata.json"
    if not file.is_file():
        return {}
    about = read_json(file, made_by="wsae embed")
    if about.get("format") == "wsae embed":
        said = convert(about, _OfEmbed, file.name, others_allowed=True)
        if not said["complete"]:
            raise BadInputError("is not complete: run `wsae embed` again, which goes on with it")
        data, images = Path(said["image_folder"]).name, str(file.parent / "images.txt")
        return {**said, "dataset_path": data, "images": images}
    if "protocol" in about:
        said = _of_saev(file)
        return {"model_name": said["ckpt"], "n_images": said["n_ex"]}
    return {}


def fingerprint_of_column(column: Column) -> str:
    """Of how many rows there are and of what some of them hold, or all labels, in float32 or as
    text, so that the same rows in a file of another kind are the same."""
    n, is_labels = len(column), len(column.shape) == 1
    looks, n_each = (1, n) if is_labels else (min(_LOOKS, n), _ROWS_OF_A_LOOK)
    starts = [n * look // looks for look in range(looks)]
    rows = [column.read(slice(at, min(at + n_each, n))) for at in starts]
    is_text = not isinstance(rows[0], Tensor)
    seen = json.dumps(rows).encode() if is_text else torch.cat(rows).float().numpy().tobytes()
    return fingerprint_of([column.shape, sha256_of(seen)])


def refuse_not_finite(x: Tensor, where: Where, name: str) -> Tensor:
    """Give back rows of a column, of shape (n, d), if all of them are finite.

    Raises:
        BadInputError: One is not.
    """
    # One pass without a tensor of flags; a sum overflows to infinity only where it hardly differs.
    if not torch.isfinite(x.sum(dtype=torch.float64)):
        row, dimension = (~torch.isfinite(x)).nonzero()[0].tolist()
        number = where.start + row if isinstance(where, slice) else int(where[row])
        raise BadInputError(
            f"row {number} of {name!r} holds {x[row, dimension]} in dimension {dimension}; leave "
            "such rows out"
        )
    return x


def _columns_of_file(file: Path) -> dict[str, Column]:
    if file.suffix not in READERS:
        raise BadInputError(f"a table is a file that ends in {', '.join(READERS)}, or a folder")
    return READERS[file.suffix](file)


def _number(file: Path) -> list[tuple[bool, int | str]]:
    """`part10` after `part9`."""
    parts = re.split(r"(\d+)", file.name)
    return [(part.isdigit(), int(part) if part.isdigit() else part) for part in parts if part]


def _columns_of_npy(file: Path) -> dict[str, Column]:
    array = np.load(file, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise BadInputError("is an archive of arrays (.npz); save one array with np.save")

    def read(where: Where) -> Tensor:
        return _tensor(np.load(file, mmap_mode="r")[_numpy(where)])

    return {ONLY: Column(array.shape, array.dtype.name, read)}


def _columns_of_safetensors(file: Path) -> dict[str, Column]:
    def read(name: str, where: Where) -> Tensor:
        with safe_open(file, "pt") as opened:
            if isinstance(where, slice):
                return opened.get_slice(name)[where].clone()
            return opened.get_tensor(name)[where]

    with safe_open(file, "pt") as opened:
        slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
        return {
            name: Column(tuple(of.get_shape()), of.get_dtype(), partial(read, name))
            for name, of in slices.items()
            if of.get_shape()
        }


def _columns_of_pt(file: Path) -> dict[str, Column]:
    def load() -> Mapping[str, Tensor]:
        loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        found = loaded if isinstance(loaded, Mapping) else {ONLY: loaded}
        if not found or not all(isinstance(value, Tensor) for value in found.values()):
            raise ValueError("must hold a tensor, or a dict of tensors")
        return found

    def read(name: str, where: Where) -> Tensor:
        return load()[name][where].detach().clone()

    return {
        str(name): Column(tuple(of.shape), str(of.dtype), partial(read, name))
        for name, of in load().items()
    }


def _columns_of_datasets_files(files: Sequence[Path]) -> dict[str, Column]:
    # Written once as Arrow into the cache of `datasets`, which can be read at any row.
    names = [str(file) for file in files]
    kind = _OF_DATASETS[files[0].suffix]
    return _columns_of_dataset(datasets.load_dataset(kind, data_files=names, split="train"))


def _columns_of_dataset(dataset: datasets.Dataset) -> dict[str, Column]:
    in_arrow: Any = dataset.with_format("arrow")

    def read(name: str, where: Where, width: int = 0) -> Any:
        index = where if isinstance(where, slice) else where.tolist()
        found = in_arrow.select_columns([name])[index].column(name).combine_chunks()
        return _of_arrow(found, name, where, width)

    columns: dict[str, Column] = {}
    for name, feature in dataset.features.items():
        kind = dataset.features.arrow_schema.field(name).type
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        if is_list or pa.types.is_fixed_size_list(kind):
            width = len(dataset[0][name] or ()) if len(dataset) else 0
            read_vectors = partial(read, name, width=width)
            columns[name] = Column((len(dataset), width), str(kind.value_type), read_vectors)
        elif (
            pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)
        ):
            names = tuple(getattr(feature, "names", None) or ())
            columns[name] = Column((len(dataset),), str(kind), partial(read, name), names)
    return columns


def _of_arrow(found: Any, name: str, where: Where, width: int) -> Any:
    if not hasattr(found.type, "value_type"):
        if not pa.types.is_integer(found.type):
            return found.to_pylist()
        return _tensor(found.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False))
    lengths = found.value_lengths().to_numpy(zero_copy_only=False)
    if found.null_count or (lengths != width).any():
        bad = int(np.flatnonzero(~(lengths == width))[0])
        row = where.start + bad if isinstance(where, slice) else int(where[bad])
        raise BadInputError(f"row {row} of {name!r} is not as long as the others: {lengths[bad]}")
    return _tensor(found.flatten().to_numpy(zero_copy_only=False)).view(len(found), width)


def _of_saev(file: Path) -> dict[str, Any]:
    about = read_json(file, made_by="saev")
    # Earlier versions of the protocol call it otherwise.
    about.setdefault("patches_per_ex", about.pop("content_tokens_per_example", None))
    return convert(about, _OfSaev, file.name, others_allowed=True)


def _columns_of_saev(folder: Path) -> dict[str, Column]:
    """The layers, without and with CLS alone, of saev's protocol 2 (its docs, protocol.md)."""
    about = _of_saev(folder / "metadata.json")
    layers, width, has_cls = about["layers"], about["d_model"], about["cls_token"]
    patches, dtype = about["patches_per_ex"], np.dtype(about["dtype"])
    listed = json.loads((folder / "shards.json").read_text(encoding="utf-8"))
    shards = convert(listed, list[_Shard], "shards.json", others_allowed=True)

    def read(file: Path, n: int, layer: int, tokens: slice, where: Where) -> Tensor:
        shape = (n, len(layers), patches + has_cls, width)
        rows = np.memmap(file, dtype, "r", shape=shape)[:, layer, tokens]
        index = np.arange(where.start, where.stop) if isinstance(where, slice) else where.numpy()
        return _tensor(rows[np.divmod(index, rows.shape[1])])

    found: list[dict[str, Column]] = []
    for shard in shards:
        n, file = shard["n_ex"], folder / Path(shard["name"]).name
        if (
            not file.is_file()
            or file.stat().st_size != n * len(layers) * (patches + has_cls) * width * dtype.itemsize
        ):
            raise ValueError(f"{file.name} is not as long as metadata.json and shards.json say")
        kinds = {"": slice(int(has_cls), None)} | ({".cls": slice(0, 1)} if has_cls else {})
        found.append({})
        for (place, layer), (suffix, tokens) in (
            (at, kind) for at in enumerate(layers) for kind in kinds.items()
        ):
            shape = (n * (1 if suffix else patches), width)
            part = partial(read, file, n, place, tokens)
            found[-1][f"layers.{layer}{suffix}"] = Column(shape, dtype.name, part)
    columns = _concatenated({f"shard {n}": each for n, each in enumerate(found)})
    if (labels := folder / "labels.bin").is_file():
        shape = (labels.stat().st_size,)

        def read_labels(where: Where) -> Tensor:
            return _tensor(np.memmap(labels, np.uint8, "r")[_numpy(where)]).long()

        columns["labels"] = Column(shape, "uint8", read_labels)
    return columns


def _concatenated(shards: Mapping[str, Mapping[str, Column]]) -> dict[str, Column]:
    """The same columns of all shards, one after the other."""
    names = [set(columns) for columns in shards.values()]
    columns: dict[str, Column] = {}
    for name in next(iter(shards.values()), {}):
        parts = {shard: of[name] for shard, of in shards.items() if name in of}
        first = next(iter(parts.values()))
        if not first.shape:
            continue  # a number beside the rows
        for shard, part in parts.items():
            if (part.shape[1:], part.dtype) != (first.shape[1:], first.dtype):
                raise BadInputError(
                    f"{shard}: {name!r} is {part.shape[1:]} wide, of {part.dtype}, and the first "
                    f"shard's {first.shape[1:]}, of {first.dtype}"
                )
        ends = list(accumulate(map(len, parts.values())))
        read = partial(_read_shards, list(parts.values()), ends)
        columns[name] = Column((ends[-1], *first.shape[1:]), first.dtype, read, first.names)
    if any(of != names[0] for of in names):
        raise BadInputError(f"its shards hold different columns: {sorted(set().union(*names))}")
    return columns


def _read_shards(parts: Sequence[Column], ends: Sequence[int], where: Where) -> Any:
    if isinstance(where, slice):
        found: list[Any] = []
        start = where.start
        for n in range(bisect_right(ends, start), len(parts)):
            if start >= where.stop:
                break
            begin, stop = ends[n] - len(parts[n]), min(where.stop, ends[n])
            found.append(parts[n].read(slice(start - begin, stop - begin)))
            start = stop
        return found[0] if len(found) == 1 else torch.cat(found)
    shard_of = torch.bucketize(where, torch.tensor(ends), right=True)
    rows: Tensor | None = None
    for n in shard_of.unique().tolist():
        chosen = shard_of == n
        read = parts[n].read(where[chosen] - (ends[n] - len(parts[n])))
        rows = read.new_empty(len(where), *read.shape[1:]) if rows is None else rows
        rows[chosen] = read
    assert rows is not None
    return rows


def _numpy(where: Where) -> Any:
    return where if isinstance(where, slice) else where.numpy()


def _tensor(array: Any) -> Tensor:
    """A copy, in this machine's order of bytes."""
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=")))


READERS: dict[str, Callable[[Path], dict[str, Column]]] = {
    ".npy": _columns_of_npy,
    ".safetensors": _columns_of_safetensors,
    ".pt": _columns_of_pt,
    ".parquet": lambda file: _columns_of_datasets_files([file]),
    ".arrow": lambda file: _columns_of_datasets_files([file]),
}
