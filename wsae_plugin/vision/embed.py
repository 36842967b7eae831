"""A folder of images → a table of embeddings in shards, which goes on where it was stopped.

The folder of a table holds metadata.json, images.txt (the images in row order) and
rows-00000.safetensors and so on, with a tensor for each hook and one for the labels. Row r is of
image r // rows_per_image, at position r % rows_per_image.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import PIL
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from tqdm.auto import tqdm

from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.files import (
    folder_written_whole,
    locked,
    partial_of,
    refuse_output,
    write_bytes_atomic,
    write_json_atomic,
)
from wsae_plugin.images import load_image
from wsae_plugin.messages import naming, one_line, refusals_as_bad_input
from wsae_plugin.provenance import versions
from wsae_plugin.validation import convert, read_json
from wsae_plugin.vision.encoder import Encoder, Tokens, open_encoder
from wsae_plugin.vision.images import ImageFolder, find_images

FORMAT, VERSION = "wsae embed", 1
_METADATA, _IMAGES = "metadata.json", "images.txt"
_SHARD_BYTES = 64 * 2**20
"""What a shard holds of rows, at most: what an interruption loses, and what memory has to hold."""
_THE_SAME = ("model_name", "hook_names", "tokens", "d_in", "rows_per_image", "classes")
"""What may not change in a table that has rows."""

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class _Table:
    """A table that is being written.

    Args:
        path: Its folder.
        images: What its rows are of.
        encoder: What makes them.
        first: Hook → rows of the first image, `(rows of an image, width)`.
        shapes: What the encoder is given of the first image, and has to be of all.
    """

    path: Path
    images: ImageFolder
    encoder: Encoder
    first: Mapping[str, Tensor]
    shapes: Mapping[str, torch.Size]

    @property
    def images_per_shard(self) -> int:
        n_bytes = sum(rows.nbytes for rows in self.first.values())
        return max(1, _SHARD_BYTES // n_bytes)

    def shard(self, number: int) -> Path:
        return self.path / f"rows-{number:05d}.safetensors"

    def metadata(self, complete: bool) -> dict[str, Any]:
        n_images, (n_rows, *_) = len(self.images.names), {len(r) for r in self.first.values()}
        return {
            "format": FORMAT,
            "version": VERSION,
            "model_name": self.encoder.name,
            "hook_names": [*self.first],
            "tokens": self.encoder.tokens,
            "d_in": {hook: rows.shape[1] for hook, rows in self.first.items()},
            "n_images": n_images,
            "rows_per_image": n_rows,
            "n_rows": n_images * n_rows,
            "classes": self.images.classes,
            "image_folder": str(self.images.path),
            "versions": versions() | {"pillow": PIL.__version__},
            "complete": complete,
        }

    def describe(self, folder: Path) -> None:
        """Write what the table is going to hold."""
        write_bytes_atomic(folder / _IMAGES, "".join(f"{n}\n" for n in self.images.names).encode())
        write_json_atomic(folder / _METADATA, self.metadata(complete=False))

    def pixels(self, name: str) -> dict[str, Tensor]:
        """What the encoder is given of an image."""
        path = self.images.path / name
        with naming(str(path)):
            pixels = self.encoder.pixels(load_image(path))
        shapes = {key: value.shape for key, value in pixels.items()}
        if shapes != self.shapes:
            raise RunFailedError(
                f"{path}: the model's image processor makes {_sizes(shapes)} of it and "
                f"{_sizes(self.shapes)} of the first image, so they have no table in common"
            )
        return pixels


def embed_folder(
    images: Path,
    model: str,
    output: Path,
    hooks: Sequence[str] = (),
    tokens: Tokens = "mean",
    batch_size: int = 32,
    device: str = "cpu",
) -> dict[str, Any]:
    """Write what a vision model makes of the images of a folder, or go on with it.

    What was written before an interruption is kept. The same call then gives the same bytes, on
    one machine and with one batch size; with others they are the same to rounding.

    Args:
        images: A folder; see `find_images`.
        model: A name on the Hub, or a folder.
        output: The table's folder: a new or empty one, or that of the same table, in which only
            images may have changed whose rows are not written yet.
        hooks: Dotted names of modules, and fields of the model's output; see `Encoder`.
        tokens: Which tokens make a row: `cls`, `mean` or `patches`.
        batch_size: How many images the model sees at once.
        device: Where the model runs.

    Returns:
        The table's metadata.json.

    Raises:
        BadInputError: The images, the model or a hook are not there, or `output` is not free.
        RunFailedError: An image cannot be read, the disk is full, or it was interrupted; whole
            shards are kept.
    """
    refuse_output("--output", output)
    output = Path(os.path.realpath(output))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with locked(output, partial_of(output).with_suffix(".lock")):
            table = _open(images, model, output, hooks, tokens, device)
            if _start(table):
                _write(table, batch_size)
    except KeyboardInterrupt:
        raise RunFailedError(
            f"interrupted; the whole files in {output} stay, and the same command goes on behind "
            "them"
        ) from None
    except OSError as error:
        reason = error.strerror or error
        raise RunFailedError(f"--output {output}: cannot be written: {reason}") from error
    return read_json(output / _METADATA, made_by=FORMAT)


def _open(
    images: Path, model: str, output: Path, hooks: Sequence[str], tokens: Tokens, device: str
) -> _Table:
    folder = find_images(images)
    encoder = open_encoder(model, hooks, tokens, device)
    pixels = encoder.pixels(load_image(folder.path / folder.names[0]))
    first = {hook: rows[0] for hook, rows in encoder.rows([pixels]).items()}
    counts = {hook: len(rows) for hook, rows in first.items()}
    if len({*counts.values()}) > 1:
        raise BadInputError(
            f"--hook: one table has as many rows of an image at each; here they are {counts}; "
            "write tables of their own, or use --tokens mean"
        )
    shapes = {key: value.shape for key, value in pixels.items()}
    return _Table(output, folder, encoder, first, shapes)


def _start(table: _Table) -> bool:
    """Make the table's folder, or see that it can go on; whether anything is left to write."""
    if not (table.path / _METADATA).exists():
        if table.path.is_dir() and any(table.path.iterdir()):
            raise BadInputError(f"--output {table.path}: is not empty; choose another folder")
        with folder_written_whole(table.path) as partial:
            table.describe(partial)
        return True
    before = read_json(table.path / _METADATA, made_by=FORMAT)
    if (before.get("format"), before.get("version")) != (FORMAT, VERSION):
        raise BadInputError(
            f"--output {table.path}: holds something that is not of this version of `{FORMAT}`; "
            "choose another folder"
        )
    n_images = convert(before.get("n_images"), int, f"{table.path / _METADATA}: n_images")
    has_all = _n_shards(table) * table.images_per_shard >= n_images
    complete = before.get("complete") is True and has_all
    if _n_shards(table):
        _refuse_another(table, before, complete)
    if not complete:
        table.describe(table.path)
    return not complete


def _refuse_another(table: _Table, before: Mapping[str, Any], complete: bool) -> None:
    now = table.metadata(complete)
    differences = [
        f"{name} was {one_line(before.get(name))} and is now {one_line(now[name])}"
        for name in _THE_SAME
        if before.get(name) != now[name]
    ]
    if not differences:
        # A folder can hold another model than it did, and a name on the Hub another revision.
        with (
            refusals_as_bad_input(str(table.shard(0))),
            safe_open(table.shard(0), framework="pt") as shard,
        ):
            for hook, rows in table.first.items():
                written = shard.get_slice(hook)[: len(rows)]
                # Far above what a batch size changes by rounding.
                if not torch.allclose(written, rows, rtol=0, atol=1e-3 * float(rows.abs().max())):
                    differences.append("the model makes other rows of the first image")
    names = (table.path / _IMAGES).read_text(encoding="utf-8").split("\n")[:-1]
    n_written = len(names) if complete else _n_shards(table) * table.images_per_shard
    old, new = names[:n_written], table.images.names[: None if complete else n_written]
    for number in range(max(len(old), len(new))):
        was, is_now = (", ".join(some[number : number + 1]) or "none" for some in (old, new))
        if was != is_now:
            differences.append(f"image {number} was {was} and is now {is_now}")
            break
    if differences:
        raise BadInputError(
            f"--output {table.path}: holds another table: {'; '.join(differences)}; undo the "
            "change, or choose another folder"
        )


def _write(table: _Table, batch_size: int) -> None:
    """Write the shards that are missing, and at last that the table is complete."""
    names, size = table.images.names, table.images_per_shard
    done = _n_shards(table)
    # Decoding takes as long as a small model does, and leaves Python's lock alone.
    with (
        ThreadPoolExecutor() as threads,
        tqdm(desc="Images", total=len(names), initial=done * size, unit="image") as bar,
    ):
        for number, start in enumerate(range(done * size, len(names), size), done):
            of_shard = names[start : start + size]
            pixels = _ahead(threads, table.pixels, of_shard, 2 * batch_size)
            parts: dict[str, list[Tensor]] = {hook: [] for hook in table.first}
            while batch := list(islice(pixels, batch_size)):
                for hook, rows in table.encoder.rows(batch).items():
                    parts[hook].append(rows.flatten(0, 1))
                bar.update(len(batch))
            tensors = {hook: torch.cat(rows) for hook, rows in parts.items()}
            labels = table.images.labels(of_shard)
            if labels is not None:
                n_rows = len(next(iter(table.first.values())))
                tensors["labels"] = labels.repeat_interleave(n_rows)
            write_bytes_atomic(table.shard(number), save(tensors))
    write_json_atomic(table.path / _METADATA, table.metadata(complete=True))


def _ahead(
    threads: ThreadPoolExecutor, function: Callable[[T], U], items: Iterable[T], n_ahead: int
) -> Iterator[U]:
    """The results in order, with no more than `n_ahead` at a time under way or waiting."""
    pending: deque[Future[U]] = deque()
    for item in items:
        pending.append(threads.submit(function, item))
        if len(pending) > n_ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _n_shards(table: _Table) -> int:
    """How many there are without a gap."""
    number = 0
    while table.shard(number).is_file():
        number += 1
    return number


def _sizes(shapes: Mapping[str, torch.Size]) -> str:
    return ", ".join(f"{key} of {tuple(shape[1:])}" for key, shape in shapes.items())
