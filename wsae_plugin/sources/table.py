"""Rows of a table of embeddings, which any model made, shuffled, as a source of activations."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from os.path import isdir, realpath
from pathlib import Path
from typing import Any

import numpy as np
import torch
from psutil import virtual_memory
from sae_lens.synthetic.synthetic_sae_runner import RUNNER_CONFIG_FILENAME
from sae_lens.util import str_to_dtype
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm
from typing_extensions import override

from wsae_plugin.distributed.spread_rows import SpreadRows
from wsae_plugin.distributed.world import ALONE, World
from wsae_plugin.errors import BadInputError
from wsae_plugin.fingerprint import fingerprint_of_files
from wsae_plugin.gamma.consistency import LabelCounter, LabelEvidence
from wsae_plugin.messages import naming, nearest, refusals_as_bad_input
from wsae_plugin.sources.held_out_rows import (
    HeldOutRows,
    candidates,
    is_held_out,
    shuffled_labels,
)
from wsae_plugin.sources.labels import Labels, is_file_name, read_labels
from wsae_plugin.sources.mixing_buffer import DATA_POSITION_FILENAME, MixingBuffer, read_position
from wsae_plugin.sources.pictures import Pictures, read_pictures
from wsae_plugin.sources.source import Samples, Source
from wsae_plugin.sources.table_config import MultiTableSAERunnerConfig, TableSAERunnerConfig
from wsae_plugin.sources.table_files import (
    Column,
    columns_of,
    described,
    fingerprint_of_column,
    refuse_not_finite,
)

_BLOCK_BYTES = 4 * 2**20
"""What is read at a time, from a random place: long enough for any disk, and short enough that many
fit into the buffer, so that a table that is sorted by class is well shuffled."""
_CHECKED_BYTES = 2**30
"""Of a larger table, this much in random places is looked at before it is trained on."""
_MOST_COUNTS = 2**27
"""Latents times classes: measures take some 80 bytes for each."""
_MOST_LABELLED = 2**20
"""Rows of the training that say how consistent each dimension is, from random places."""


class TableSource(Source):
    """The rows of a table, in random order, epoch after epoch, without those that are held out.

    Blocks of rows are read in an order that the seed draws anew for each epoch, ahead of their
    use, and shuffled through SAELens's mixing buffer; whether a row is held out depends on its
    number and on `split_seed` alone. Its position is exact: a checkpoint holds the buffer and how
    many blocks were read.

    Args:
        cfg: The runner config.

    Raises:
        BadInputError: The table, a column, its width or a value in it is not as it must be.
    """

    runner_configs = {
        ("activations", "sae"): TableSAERunnerConfig,
        ("activations", "saes"): MultiTableSAERunnerConfig,
    }
    n_samples_field, batch_size_field = "training_samples", "batch_size"
    has_language_model = False
    cfg_filename = RUNNER_CONFIG_FILENAME
    held_out_fields = (
        *("activations", "hook_name", "labels", "images", "held_out", "held_out_labels"),
        *("held_out_images", "split_seed", "rows_per_image"),
    )

    def __init__(self, cfg: TableSAERunnerConfig | MultiTableSAERunnerConfig) -> None:
        self._cfg = cfg
        field = f"activations = {cfg.activations!r}"
        with naming(field), refusals_as_bad_input():
            columns = columns_of(cfg.activations)
            about = described(cfg.activations)
        self._columns = {hook: _vectors(columns, hook, field) for hook in self._hooks()}
        self.d_in = {hook: column.shape[1] for hook, column in self._columns.items()}
        self._check_widths()
        lengths = {hook: len(column) for hook, column in self._columns.items()}
        if len(set(lengths.values())) > 1:
            raise BadInputError(f"{field}: its columns are not equally long: {lengths}")
        self.n_rows = next(iter(lengths.values()))
        self.name = f"{cfg.activations} ({self.n_rows:,} rows)"
        self._about = about
        labels = cfg.labels
        if cfg.held_out == cfg.activations and not is_file_name(labels or ""):
            # Another table is measured on, which need not have the column that was trained with.
            labels = labels if labels in columns else None
        self.labels = read_labels(labels, columns, self.n_rows, "labels", about.get("classes"))
        self.pictures = _pictures(cfg.images, about, self.n_rows)
        self._rows_each = _rows_each(cfg.rows_per_image, self.pictures, about, self.n_rows)
        row_bytes = sum(4 * width for width in self.d_in.values())
        self._block_rows = max(1, _BLOCK_BYTES // row_bytes)
        self._n_blocks = -(-self.n_rows // self._block_rows)
        self._check_counts(f"labels = {cfg.labels!r}", self.labels)
        self._check_values(row_bytes)
        # Of what was opened: a file that is replaced meanwhile is another table on resuming.
        self._fingerprints = {h: fingerprint_of_column(c) for h, c in self._columns.items()}
        is_trained_on, is_share = self._is_trained_on(candidates(self.n_rows)), cfg.held_out
        if not is_trained_on.any() or (not isinstance(is_share, str) and is_trained_on.all()):
            which = "takes" if is_trained_on.any() else "leaves"
            raise BadInputError(f"held_out = {is_share}: {which} none of {self.n_rows} rows")
        self._n_read = 0
        self._world = ALONE
        self._reader = ThreadPoolExecutor(max_workers=1)
        self._ahead: Future[tuple[Tensor, list[list[int]]]] | None = None
        self._buffer_size = cfg.n_batches_in_buffer * cfg.batch_size
        self._buffer = MixingBuffer(
            self._read, self._buffer_size, cfg.batch_size, cfg.activations_mixing_fraction
        )
        # Another table is opened now, so that what is wrong with it is not found after training.
        self._left_out = self._open_held_out() if isinstance(cfg.held_out, str) else None
        self._is_closed = threading.Event()

    @override
    @classmethod
    def problems(cls, values: Mapping[str, Any]) -> Iterator[str]:
        other = values["held_out"]
        if not other:
            yield f"held_out = {other!r}: is no table; give a share such as 0.1, or a table"
        elif isinstance(other, str) and realpath(other) == realpath(values["activations"]):
            yield f"held_out = {other!r}: is the table that is trained on; give a share, or another"
        sections = values.get("saes") or {"sae": values["sae"]}
        n_rows = values["n_batches_in_buffer"] * values["batch_size"]
        buffer = 4 * n_rows * max(section["d_in"] for section in sections.values())
        if buffer > (there := virtual_memory().total):
            # Nothing interrupts its first filling.
            yield (
                f"n_batches_in_buffer = {values['n_batches_in_buffer']}: with batch_size = "
                f"{values['batch_size']} the buffer takes {buffer / 2**30:,.0f} GiB, and this "
                f"machine has {there / 2**30:,.0f}; lower one"
            )
        for name in ("held_out_labels", "held_out_images"):
            if values[name] and not isinstance(other, str):
                yield (
                    f"{name} = {values[name]!r}: are of another table, and held_out = {other} is a "
                    "share of this one; leave them out"
                )

    @override
    @classmethod
    def measured_on(
        cls, values: Mapping[str, Any], dataset: str | None
    ) -> tuple[dict[str, Any], str, str | None]:
        other = dataset or values["held_out"]
        if not isinstance(other, str):
            return {**values}, values["activations"], "held_out"
        if realpath(other) == realpath(values["activations"]):
            raise BadInputError(
                f"--dataset {other}: is the table that the run was trained on; leave it out, or "
                "give another"
            )
        # The table that was trained on need not be at hand: only the other one is opened.
        names = ("labels", "images")
        of_other = {name: None if dataset else values[f"held_out_{name}"] for name in names}
        own = {name: None if is_file_name(values[name] or "") else values[name] for name in names}
        its = {name: of_other[name] or own[name] for name in names}
        none = {f"held_out_{name}": of_other[name] for name in names}
        return {**values, "activations": other, "held_out": other, **its, **none}, other, None

    @override
    @classmethod
    def contents(cls, values: Mapping[str, Any], hook: str) -> dict[str, str]:
        field, labels = f"activations = {values['activations']!r}", values["labels"]
        with naming(field), refusals_as_bad_input():
            columns = columns_of(values["activations"])
            found = {"rows": fingerprint_of_column(_vectors(columns, hook, field))}
            if labels in columns:
                found["labels"] = fingerprint_of_column(columns[labels])
            elif labels is not None and Path(labels).is_file():
                found["labels"] = fingerprint_of_files(Path(labels))
        return found

    def _hooks(self) -> list[str]:
        return list(dict.fromkeys(self._cfg.hook_names_per_sae.values()))

    def _check_widths(self) -> None:
        cfg = self._cfg
        is_multi = isinstance(cfg, MultiTableSAERunnerConfig)
        for name, sae in (cfg.saes if is_multi else {"sae": cfg.sae}).items():
            hook = cfg.hook_names_per_sae.get(name)
            if hook is None:
                raise BadInputError(f"hook_names: says no column for {name!r}; add {name}: COLUMN")
            if sae.d_in != (width := self.d_in[hook]):
                where = f"saes.{name}" if is_multi else name
                raise BadInputError(
                    f"{where}.d_in = {sae.d_in}: {hook!r} is {width} wide; set it to {width}"
                )

    def _check_counts(self, field: str, labels: Labels | None) -> None:
        cfg = self._cfg
        saes = cfg.saes.values() if isinstance(cfg, MultiTableSAERunnerConfig) else [cfg.sae]
        n_classes, d_sae = len(labels.names) if labels else 0, max(s.d_sae for s in saes)
        if n_classes * d_sae > _MOST_COUNTS:
            raise BadInputError(
                f"{field}: to count {n_classes:,} classes for {d_sae:,} latents takes "
                f" {80 * n_classes * d_sae / 2**30:,.0f} GiB; give coarser classes"
            )

    def _check_values(self, row_bytes: int) -> None:
        n_blocks = max(1, min(self._n_blocks, _CHECKED_BYTES // (self._block_rows * row_bytes)))
        blocks = torch.randperm(self._n_blocks, generator=torch.Generator().manual_seed(0))
        dtype = str_to_dtype(self._cfg.dtype)
        with naming(f"activations = {self._cfg.activations!r}"), refusals_as_bad_input():
            for n in tqdm(sorted(blocks[:n_blocks].tolist()), "Checking the table", leave=False):
                for hook, column in self._columns.items():
                    where = self._rows_of(n)
                    refuse_not_finite(column.read(where).to(dtype), where, hook)

    @override
    def __next__(self) -> dict[str, Tensor]:
        batch = next(self._buffer)
        return dict(zip(self.d_in, batch.split(list(self.d_in.values()), dim=1), strict=True))

    @override
    def share(self, world: World) -> None:
        if world.size > 1:
            self._world, self._buffer.spread = world, SpreadRows(world, self._cfg.device)

    def _read(self) -> Tensor:
        """What the buffer has served, read while it was served."""
        ahead = self._ahead or self._reader.submit(self._read_from, self._n_read)
        rows, lengths = ahead.result()
        self._n_read += len(lengths)
        self._ahead = self._reader.submit(self._read_from, self._n_read)
        rows = rows.to(self._cfg.act_store_device)
        if self._buffer.spread is None:
            return rows
        of_ranks = [*zip(*lengths, strict=True)]
        added = self._buffer.spread.add(rows, [*map(sum, of_ranks)])
        shares = [part.split(of) for part, of in zip(added, of_ranks, strict=True)]
        return torch.cat([share for block in zip(*shares, strict=True) for share in block])

    def _read_from(self, n_read: int) -> tuple[Tensor, list[list[int]]]:
        """The blocks from one on, as many as a full buffer serves.

        Of several processes each reads its share of every block, so that all have as much to serve.

        Returns:
            The rows of this process, and of every block how many each process has.
        """
        size, share = self._buffer_size, self._cfg.activations_mixing_fraction
        lengths: list[list[int]] = []
        own = [torch.empty(0, sum(self.d_in.values()), dtype=str_to_dtype(self._cfg.dtype))]
        n_wanted = max(1, size - int(size * share))
        while sum(map(sum, lengths)) < n_wanted and not self._is_closed.is_set():
            shares = self._shares(self._rows_at(n_read + len(lengths)))
            trained = [self._is_trained_on(torch.arange(at.start, at.stop)) for at in shares]
            if len(mine := trained[self._world.rank]):
                own.append(self._read_rows(shares[self._world.rank], mine))
            lengths.append([int(each.sum()) for each in trained])
        return torch.cat(own), lengths

    def _shares(self, where: slice) -> list[slice]:
        """The rows of a block in as many parts as there are processes."""
        n, size = where.stop - where.start, self._world.size
        ends = [where.start + n * rank // size for rank in range(size + 1)]
        return [slice(first, end) for first, end in pairwise(ends)]

    def _rows_at(self, n_read: int) -> slice:
        """Which rows are read after so many blocks."""
        epoch, place = divmod(n_read, self._n_blocks)
        return self._rows_of(int(_order(self._cfg.seed, epoch, self._n_blocks)[place]))

    def _read_rows(self, where: slice, trained: Tensor) -> Tensor:
        """Those rows of a block that are trained on, all columns side by side."""
        dtype = str_to_dtype(self._cfg.dtype)
        columns = [
            refuse_not_finite(column.read(where).to(dtype), where, hook)
            for hook, column in self._columns.items()
        ]
        rows = columns[0] if len(columns) == 1 else torch.cat(columns, dim=1)
        return rows if trained.all() else rows[trained]

    def _rows_of(self, block: int) -> slice:
        start = block * self._block_rows
        return slice(start, min(start + self._block_rows, self.n_rows))

    def _is_trained_on(self, rows: Tensor) -> Tensor:
        if isinstance(self._cfg.held_out, str):
            return torch.ones(len(rows), dtype=torch.bool)
        return ~is_held_out(rows // self._rows_each, self._cfg.held_out, self._cfg.split_seed)

    @override
    def save(self, folder: Path) -> None:
        none = torch.zeros(0, sum(self.d_in.values()))
        read = torch.tensor([self._n_read, self.n_rows])
        position = {"read": read, "table": self._fingerprint(), "waiting": none, "kept": none}
        save_file(position | self._buffer.position(), folder / DATA_POSITION_FILENAME)

    @override
    def gather(self) -> None:
        self._buffer.gather()

    def _fingerprint(self) -> Tensor:
        of_columns = "".join(self._fingerprints.values())
        return torch.tensor([*bytes.fromhex(of_columns)], dtype=torch.uint8)

    @override
    def load(self, folder: Path) -> None:
        position = read_position(folder / DATA_POSITION_FILENAME, str(self._cfg.act_store_device))
        table = position.get("table")
        if table is None or not torch.equal(table.cpu(), self._fingerprint()):
            raise ValueError(f"activations = {self._cfg.activations!r} holds other rows by now")
        self._n_read, _ = position["read"].tolist()
        if len(position["waiting"]) + len(position["kept"]):
            self._buffer.restore(position)

    @override
    def label_evidence(self, hook: str, shuffled: bool = False) -> LabelEvidence:
        if self.labels is None:
            return super().label_evidence(hook, shuffled)
        codes = self.labels.codes
        if shuffled:
            generator = torch.Generator().manual_seed(self._cfg.seed)
            codes = shuffled_labels(codes, torch.arange(len(codes)), self._rows_each, generator)
        n_blocks = min(self._n_blocks, -(-_MOST_LABELLED // self._block_rows))
        counter = LabelCounter(self.d_in[hook], len(self.labels.names))
        blocks = sorted(_order(self._cfg.seed, 0, self._n_blocks)[:n_blocks].tolist())
        for n in tqdm(blocks, "Semantic consistency", unit="block", leave=False):
            where = self._rows_of(n)
            trained = self._is_trained_on(torch.arange(where.start, where.stop))
            counter.add(self._columns[hook].read(where)[trained], codes[where][trained].long())
        return counter.evidence()

    @override
    def metadata(self, hook: str) -> dict[str, Any]:
        said = {name: self._about.get(name) for name in ("model_name", "dataset_path")}
        own = {name: getattr(self._cfg, name) for name in said}
        rows = self._fingerprints[hook]
        known = {name: own[name] or said[name] for name in said}
        return {"hook_name": hook, "table_fingerprint": rows, **known}

    @property
    @override
    def n_held_out(self) -> int:
        return len(self._held_out_rows())

    @property
    @override
    def rows_per_image(self) -> int:
        return self._held_out_rows().rows_each

    @override
    def held_out(self, n_samples: int) -> Samples:
        return self._held_out_rows().next(n_samples)

    def _held_out_rows(self) -> HeldOutRows:
        if self._left_out is None:
            self._left_out = self._open_held_out()
        return self._left_out

    def _open_held_out(self) -> HeldOutRows:
        cfg, hook = self._cfg, self._hooks()[0]
        if not isinstance(cfg.held_out, str):
            rows, column = candidates(self.n_rows), self._columns[hook]
            left_out = rows[~self._is_trained_on(rows)]
            return HeldOutRows(column, left_out, self.labels, self._rows_each, hook)
        field = f"held_out = {cfg.held_out!r}"
        with naming(field), refusals_as_bad_input():
            columns = columns_of(cfg.held_out)
            about = described(cfg.held_out)
        column = _vectors(columns, hook, field)
        if column.shape == (self.n_rows, self.d_in[hook]) and (
            cfg.held_out != cfg.activations  # a run that is measured on another table
            and fingerprint_of_column(column) == self._fingerprints[hook]
        ):
            raise BadInputError(f"{field}: holds the rows that are trained on; give others")
        if column.shape[1] != self.d_in[hook]:
            raise BadInputError(
                f"{field}: is {column.shape[1]} wide, and activations are {self.d_in[hook]}"
            )
        of_column = cfg.labels if cfg.labels in columns else None
        labels = read_labels(
            cfg.held_out_labels or of_column,
            columns,
            len(column),
            "held_out_labels",
            about.get("classes"),
        )
        pictures = _pictures(cfg.held_out_images, about, len(column), "held_out_images")
        rows_each = _rows_each(cfg.rows_per_image, pictures, about, len(column))
        named = labels and labels.as_in(self.labels)
        self._check_counts(f"held_out_labels = {cfg.held_out_labels or of_column!r}", named)
        name = f"{cfg.held_out}: {hook}"
        return HeldOutRows(column, candidates(len(column)), named, rows_each, name)

    @override
    def close(self) -> None:
        self._is_closed.set()
        self._reader.shutdown(cancel_futures=True)


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, n_blocks: int) -> Tensor:
    """In which order the blocks of a table are read."""
    seeds = np.random.SeedSequence([seed, epoch])
    generator = torch.Generator().manual_seed(int(seeds.generate_state(1, np.uint64)[0] >> 1))
    return torch.randperm(n_blocks, generator=generator)


def _pictures(
    said: str | None, about: Mapping[str, Any], n_rows: int, field: str = "images"
) -> Pictures | None:
    if said is not None or not isdir(about.get("image_folder", "")):
        return read_pictures(said, n_rows, field, None)
    return read_pictures(about.get("images"), n_rows, "images", about.get("image_folder"))


def _rows_each(
    said: int | None, pictures: Pictures | None, about: Mapping[str, Any], n_rows: int
) -> int:
    """How many rows in a row are of one image; 1 where nobody says."""
    images_by = {
        "rows_per_image": said and n_rows / said,
        "images": pictures and pictures.n,
        "metadata.json": about.get("n_images"),
    }
    found = {who: n for who, n in images_by.items() if n is not None}
    if len({*found.values()}) > 1 or any(n < 1 or n % 1 or n_rows % n for n in found.values()):
        told = ", ".join(f"{n:,.15g} by {who}" for who, n in found.items())
        raise BadInputError(
            f"rows_per_image: {n_rows:,} rows are of so many images: {told}; it must be one number "
            "that divides the rows"
        )
    return n_rows // int(next(iter(found.values()), n_rows))


def _vectors(columns: Mapping[str, Column], hook: str, field: str) -> Column:
    """One column, if vectors can be trained on are in it."""
    vectors = {name: column for name, column in columns.items() if len(column.shape) == 2}
    if hook not in vectors:
        if not vectors:
            shapes = ", ".join(f"{name} {column.shape}" for name, column in columns.items())
            raise BadInputError(f"{field}: has no vector a row: {shapes}; give an array (rows, d)")
        raise BadInputError(
            f"hook_name = {hook!r}: no column of {field} is called so; {nearest(hook, vectors)}"
        )
    column = vectors[hook]
    if "float" not in (kind := column.dtype.lower()) and not kind.startswith(("f", "bf", "double")):
        raise BadInputError(
            f"{field}: {hook!r} holds {column.dtype}; activations are floating-point numbers"
        )
    if 0 in column.shape:
        raise BadInputError(f"{field}: {hook!r} has shape {column.shape}: there is nothing in it")
    return column
