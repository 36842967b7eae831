"""Rows of a table of embeddings, which any model made, shuffled, as a source of activations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sae_lens.synthetic.synthetic_sae_runner import RUNNER_CONFIG_FILENAME
from sae_lens.util import str_to_dtype
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm
from typing_extensions import override

from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma.consistency import LabelCounter, LabelEvidence
from wsae_plugin.messages import naming, nearest, refusals_as_bad_input
from wsae_plugin.sources.labels import Labels, read_labels
from wsae_plugin.sources.mixing_buffer import DATA_POSITION_FILENAME, MixingBuffer, read_position
from wsae_plugin.sources.pictures import Pictures, read_pictures
from wsae_plugin.sources.source import Samples, Source
from wsae_plugin.sources.table_config import MultiTableSAERunnerConfig, TableSAERunnerConfig
from wsae_plugin.sources.table_files import Column, columns_of, described

_BLOCK_BYTES = 4 * 2**20
"""What is read at a time, from a random place: long enough for any disk, and short enough that many
fit into the buffer, so that a table that is sorted by class is well shuffled."""
_CHECKED_BYTES = 2**30
"""Of a larger table, this much in random places is looked at before it is trained on."""
_MOST_LABELLED = 2**20
"""Rows of the training that say how consistent each dimension is, from random places."""
_MOST_CANDIDATES = 2**26
"""Of a longer table, this many random rows are asked whether they are held out."""


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
        self._rows_per_image = cfg.rows_per_image or max(
            1, self.n_rows // about.get("n_images", self.n_rows)
        )
        self.labels = read_labels(cfg.labels, columns, self.n_rows, "labels", about.get("classes"))
        row_bytes = sum(4 * width for width in self.d_in.values())
        self.pictures = _pictures(cfg.images, about, self.n_rows)
        self._block_rows = max(1, _BLOCK_BYTES // row_bytes)
        self._n_blocks = -(-self.n_rows // self._block_rows)
        self._check_values(row_bytes)
        if not self._is_trained_on(torch.arange(min(self.n_rows, _MOST_CANDIDATES))).any():
            raise BadInputError(f"held_out = {cfg.held_out}: leaves none of {self.n_rows} rows")
        self._n_read = 0
        self._reader = ThreadPoolExecutor(max_workers=1)
        self._ahead: Future[tuple[Tensor, int]] | None = None
        self._buffer_size = cfg.n_batches_in_buffer * cfg.batch_size
        self._buffer = MixingBuffer(
            self._read, self._buffer_size, cfg.batch_size, cfg.activations_mixing_fraction
        )
        self._left_out: _Rows | None = None

    @override
    @classmethod
    def problems(cls, values: Mapping[str, Any]) -> Iterator[str]:
        if values["held_out_labels"] and not isinstance(values["held_out"], str):
            yield (
                f"held_out_labels = {values['held_out_labels']!r}: are of another table, and "
                f"held_out = {values['held_out']} is a share of this one; leave them out"
            )

    @override
    @classmethod
    def measured_on(
        cls, values: Mapping[str, Any], dataset: str | None
    ) -> tuple[dict[str, Any], str, str | None]:
        other = dataset or values["held_out"]
        if not isinstance(other, str):
            return {**values}, values["activations"], "held_out"
        # The table that was trained on need not be at hand: only the other one is opened.
        names = ("labels", "images")
        of_other = {name: None if dataset else values[f"held_out_{name}"] for name in names}
        is_file = {name: Path(values[name] or "").is_file() for name in names}
        own = {name: None if is_file[name] else values[name] for name in names}
        its = {name: of_other[name] or own[name] for name in names}
        none = {f"held_out_{name}": of_other[name] for name in names}
        return {**values, "activations": other, "held_out": other, **its, **none}, other, None

    def _hooks(self) -> list[str]:
        return list(dict.fromkeys(self._cfg.hook_names_per_sae.values()))

    def _check_widths(self) -> None:
        cfg = self._cfg
        is_multi = isinstance(cfg, MultiTableSAERunnerConfig)
        for name, sae in (cfg.saes if is_multi else {"sae": cfg.sae}).items():
            hook = cfg.hook_names_per_sae[name]
            if sae.d_in != (width := self.d_in[hook]):
                where = f"saes.{name}" if is_multi else name
                raise BadInputError(
                    f"{where}.d_in = {sae.d_in}: {hook!r} is {width} wide; set it to {width}"
                )

    def _check_values(self, row_bytes: int) -> None:
        n_blocks = max(1, min(self._n_blocks, _CHECKED_BYTES // (self._block_rows * row_bytes)))
        blocks = torch.randperm(self._n_blocks, generator=torch.Generator().manual_seed(0))
        with naming(f"activations = {self._cfg.activations!r}"), refusals_as_bad_input():
            for n in tqdm(sorted(blocks[:n_blocks].tolist()), "Checking the table", leave=False):
                for hook, column in self._columns.items():
                    _refuse_not_finite(column.read(where := self._rows_of(n)), where, hook)

    @override
    def __next__(self) -> dict[str, Tensor]:
        batch = next(self._buffer)
        return dict(zip(self.d_in, batch.split(list(self.d_in.values()), dim=1), strict=True))

    def _read(self) -> Tensor:
        """What the buffer has served, read while it was served."""
        ahead = self._ahead or self._reader.submit(self._read_from, self._n_read)
        rows, self._n_read = ahead.result()
        self._ahead = self._reader.submit(self._read_from, self._n_read)
        return rows.to(self._cfg.act_store_device)

    def _read_from(self, n_read: int) -> tuple[Tensor, int]:
        """The blocks from one on, as many as a full buffer serves, and which is the next."""
        size, share = self._buffer_size, self._cfg.activations_mixing_fraction
        blocks: list[Tensor] = []
        while sum(map(len, blocks)) < max(1, size - int(size * share)):
            blocks.append(self._read_block(n_read + len(blocks)))
        return torch.cat(blocks), n_read + len(blocks)

    def _read_block(self, n_read: int) -> Tensor:
        """The rows of a block that are trained on, all columns side by side."""
        epoch, place = divmod(n_read, self._n_blocks)
        where = self._rows_of(int(self._order(epoch)[place]))
        dtype = str_to_dtype(self._cfg.dtype)
        columns = [
            _refuse_not_finite(column.read(where), where, hook).to(dtype)
            for hook, column in self._columns.items()
        ]
        trained = self._is_trained_on(torch.arange(where.start, where.stop))
        return torch.cat([column[trained] for column in columns], dim=1)

    def _order(self, epoch: int) -> Tensor:
        seeds = np.random.SeedSequence([self._cfg.seed, epoch])
        generator = torch.Generator().manual_seed(int(seeds.generate_state(1, np.uint64)[0] >> 1))
        return torch.randperm(self._n_blocks, generator=generator)

    def _rows_of(self, block: int) -> slice:
        start = block * self._block_rows
        return slice(start, min(start + self._block_rows, self.n_rows))

    def _is_trained_on(self, rows: Tensor) -> Tensor:
        if isinstance(self._cfg.held_out, str):
            return torch.ones(len(rows), dtype=torch.bool)
        return ~is_held_out(rows // self._rows_per_image, self._cfg.held_out, self._cfg.split_seed)

    @override
    def save(self, folder: Path) -> None:
        waiting, kept = self._buffer.waiting, self._buffer.kept
        if waiting is None or kept is None:
            waiting = kept = torch.zeros(0, sum(self.d_in.values()))
        read = torch.tensor([self._n_read, self.n_rows])
        position = {"read": read, "waiting": waiting.contiguous(), "kept": kept.contiguous()}
        save_file(position, folder / DATA_POSITION_FILENAME)

    @override
    def load(self, folder: Path) -> None:
        position = read_position(folder / DATA_POSITION_FILENAME, str(self._cfg.act_store_device))
        self._n_read, n_rows = position["read"].tolist()
        if n_rows != self.n_rows:
            raise ValueError(f"the table had {n_rows} rows, and has {self.n_rows}")
        if len(position["waiting"]) + len(position["kept"]):
            self._buffer.waiting, self._buffer.kept = position["waiting"], position["kept"]

    @override
    def label_evidence(self, hook: str, shuffled: bool = False) -> LabelEvidence:
        if self.labels is None:
            return super().label_evidence(hook, shuffled)
        codes = self.labels.codes
        if shuffled:
            generator = torch.Generator().manual_seed(self._cfg.seed)
            codes = codes[torch.randperm(len(codes), generator=generator)]
        n_blocks = min(self._n_blocks, -(-_MOST_LABELLED // self._block_rows))
        counter = LabelCounter(self.d_in[hook], len(self.labels.names))
        blocks = sorted(self._order(0)[:n_blocks].tolist())
        for n in tqdm(blocks, "Semantic consistency", unit="block", leave=False):
            where = self._rows_of(n)
            trained = self._is_trained_on(torch.arange(where.start, where.stop))
            counter.add(self._columns[hook].read(where)[trained], codes[where][trained].long())
        return counter.evidence()

    @override
    def metadata(self, hook: str) -> dict[str, Any]:
        said = {name: self._about.get(name) for name in ("model_name", "dataset_path")}
        own = {name: getattr(self._cfg, name) for name in said}
        return {"hook_name": hook} | {name: own[name] or said[name] for name in said}

    @property
    @override
    def n_held_out(self) -> int:
        return len(self._held_out_rows())

    @override
    def held_out(self, n_samples: int) -> Samples:
        return self._held_out_rows().next(n_samples)

    def _held_out_rows(self) -> _Rows:
        if self._left_out is None:
            self._left_out = self._open_held_out()
        return self._left_out

    def _open_held_out(self) -> _Rows:
        cfg, hook = self._cfg, self._hooks()[0]
        if not isinstance(cfg.held_out, str):
            rows = _candidates(self.n_rows)
            return _Rows(self._columns[hook], rows[~self._is_trained_on(rows)], self.labels)
        field = f"held_out = {cfg.held_out!r}"
        with naming(field), refusals_as_bad_input():
            columns = columns_of(cfg.held_out)
            about = described(cfg.held_out)
        column = _vectors(columns, hook, field)
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
        return _Rows(column, _candidates(len(column)), labels and labels.as_in(self.labels))

    @override
    def close(self) -> None:
        self._reader.shutdown(cancel_futures=True)


class _Rows:
    """Rows of a column, each once, in an order that torch's generator draws with the first."""

    def __init__(self, column: Column, rows: Tensor, labels: Labels | None) -> None:
        self._column, self._rows, self._labels = column, rows, labels
        self._n_given = 0

    def __len__(self) -> int:
        return len(self._rows)

    def next(self, n_samples: int) -> Samples:
        if self._n_given == 0:
            self._rows = self._rows[torch.randperm(len(self))]
        rows = self._rows[self._n_given : self._n_given + n_samples]
        if len(rows) < n_samples:
            raise BadInputError(
                f"{n_samples:,} more held-out rows are wanted, and {len(rows):,} are left of "
                f"{len(self):,}; ask for fewer batches or hold out more"
            )
        self._n_given += n_samples
        ascending, back = rows.sort()
        x = torch.empty(n_samples, self._column.shape[1])
        x[back] = self._column.read(ascending).float()
        labels = self._labels and self._labels.codes[rows].long()
        return Samples(x, rows, labels, self._labels.names if self._labels else ())


def _pictures(said: str | None, about: Mapping[str, Any], n_rows: int) -> Pictures | None:
    if said is not None or not Path(about.get("image_folder", "")).is_dir():
        return read_pictures(said, n_rows, "images", None)
    return read_pictures(about.get("images"), n_rows, "images", about.get("image_folder"))


def is_held_out(numbers: Tensor, share: float, seed: int) -> Tensor:
    """Which rows are held out: by a hash of their numbers alone, so that it never changes.

    Args:
        numbers: Of rows, or of images, shape (n,), int64.
        share: Of all that are to be.
        seed: Another one holds others out.

    Returns:
        Shape (n,), bool.
    """
    # The finaliser of splitmix64 (Steele, Lea and Flood 2014).
    hashed = numbers.numpy().astype(np.uint64) + np.uint64(1)
    with np.errstate(over="ignore"):
        hashed = (hashed + np.uint64(seed) * np.uint64(0xD1342543DE82EF95)) * np.uint64(
            0x9E3779B97F4A7C15
        )
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            hashed = (hashed ^ (hashed >> np.uint64(shift))) * np.uint64(factor)
    hashed ^= hashed >> np.uint64(31)
    return torch.from_numpy(hashed < np.uint64(share * 2**64))


def _candidates(n_rows: int) -> Tensor:
    """All rows of a table, or very many, always the same."""
    if n_rows <= _MOST_CANDIDATES:
        return torch.arange(n_rows)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(n_rows, (_MOST_CANDIDATES,), generator=generator).unique()


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


def _refuse_not_finite(x: Tensor, where: slice, hook: str) -> Tensor:
    # One pass without a tensor of flags; a sum overflows to infinity only where it hardly differs.
    if not torch.isfinite(x.sum(dtype=torch.float64)):
        row, dimension = (~torch.isfinite(x)).nonzero()[0].tolist()
        raise ValueError(
            f"row {where.start + row} of {hook!r} holds {x[row, dimension]} in dimension "
            f"{dimension}; leave such rows out"
        )
    return x
