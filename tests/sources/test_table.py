"""A table of embeddings as a source."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.training.tiny import BATCH, D_MODEL, sae, write_config
from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma.consistency import LabelCounter
from wsae_plugin.measures.evaluate import EvalSettings, evaluate_runs
from wsae_plugin.measures.held_out import HeldOutSource, open_held_out
from wsae_plugin.sources import open_source
from wsae_plugin.sources.held_out_rows import candidates, is_held_out, shuffled_labels
from wsae_plugin.sources.labels import Labels
from wsae_plugin.sources.table import TableSource
from wsae_plugin.sources.table_files import columns_of, fingerprint_of_column
from wsae_plugin.training import load_run_config, train

N_ROWS = 600


def rows(n: int = N_ROWS, d: int = D_MODEL) -> Tensor:
    """Row r holds r in its first dimension."""
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
    x[:, 0] = torch.arange(n)
    return x


def values(activations: Path | str, **changes: Any) -> dict[str, Any]:
    return {
        "activations": str(activations),
        "sae": sae(),
        "training_samples": 10 * BATCH,
        "batch_size": BATCH,
        "n_batches_in_buffer": 2,
        **changes,
    }


@pytest.fixture
def table(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", rows().numpy())
    return tmp_path / "x.npy"


def opened(folder: Path, **fields: Any) -> TableSource:
    config = load_run_config(write_config(folder / "c.yaml", fields))
    source = open_source(config.runner_config())
    assert isinstance(source, TableSource)
    return source


def seen(source: TableSource, n_batches: int) -> list[int]:
    torch.manual_seed(0)
    hook = next(iter(source.d_in))
    return [int(row) for _ in range(n_batches) for row in next(source)[hook][:, 0]]


def as_npy(x: Tensor, folder: Path) -> Path:
    np.save(folder / "t.npy", x.numpy())
    return folder / "t.npy"


def as_big_endian(x: Tensor, folder: Path) -> Path:
    np.save(folder / "t.npy", x.numpy().astype(">f8"))
    return folder / "t.npy"


def as_safetensors(x: Tensor, folder: Path) -> Path:
    save_file({"activations": x.bfloat16(), "scale": torch.tensor(1.0)}, folder / "t.safetensors")
    return folder / "t.safetensors"


def as_pt(x: Tensor, folder: Path) -> Path:
    torch.save(x, folder / "t.pt")
    return folder / "t.pt"


def dataset_of(x: Tensor) -> datasets.Dataset:
    labels = [f"class {row % 3}" for row in range(len(x))]
    return datasets.Dataset.from_dict({"activations": x.tolist(), "label": labels})


def as_parameter(x: Tensor, folder: Path) -> Path:
    """The weight of an embedding, say."""
    torch.save(torch.nn.Parameter(x), folder / "p.pt")
    return folder / "p.pt"


def as_parquet(x: Tensor, folder: Path) -> Path:
    dataset_of(x).to_parquet(str(folder / "t.parquet"))
    return folder / "t.parquet"


def as_saved(x: Tensor, folder: Path) -> Path:
    dataset_of(x).save_to_disk(str(folder / "saved"))
    return folder / "saved"


def as_splits(x: Tensor, folder: Path) -> Path:
    datasets.DatasetDict({"train": dataset_of(x)}).save_to_disk(str(folder / "splits"))
    return folder / "splits"


def as_npy_shards(x: Tensor, folder: Path) -> Path:
    (folder / "shards").mkdir()
    for n, part in enumerate(x.split(50)):
        np.save(folder / "shards" / f"acts_part{n}.npy", part.numpy())
    return folder / "shards"


def as_parquet_shards(x: Tensor, folder: Path) -> Path:
    (folder / "shards").mkdir()
    for n, part in enumerate(x.split(50)):
        dataset_of(part).to_parquet(str(folder / "shards" / f"part-{n}.parquet"))
    return folder / "shards"


def as_pt_parts(x: Tensor, folder: Path) -> Path:
    """As sae-for-vlm writes them."""
    (folder / "parts").mkdir()
    for n, part in enumerate(x.split(50)):
        torch.save(part.clone(), folder / "parts" / f"clip_layer_11_part{n}.pt")
    return folder / "parts"


FORMATS: list[Callable[[Tensor, Path], Path]] = [
    *(as_npy, as_big_endian, as_safetensors, as_pt, as_parameter, as_parquet, as_saved),
    *(as_splits, as_npy_shards, as_parquet_shards, as_pt_parts),
]


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_every_format_gives_the_same_rows(
    tmp_path: Path, write: Callable[[Tensor, Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsae_plugin.sources.table._BLOCK_BYTES", 70 * 4 * D_MODEL)
    x = rows(250)
    # bfloat16 holds whole numbers up to 256.
    source = opened(tmp_path, **values(write(x, tmp_path)))
    torch.manual_seed(0)
    found = torch.cat([next(source)["activations"] for _ in range(6)])
    assert found.dtype == torch.float32
    of_row = x[found[:, 0].long()]
    assert torch.allclose(found, of_row, atol=0 if write is not as_safetensors else 0.02)
    assert set(found[:, 0].tolist()) == set(range(250)) - {
        row for row in range(250) if is_held_out(torch.tensor([row]), 0.1, 0)
    }
    left_out = source.held_out(source.n_held_out)
    assert sorted(left_out.x[:, 0].tolist()) == sorted(left_out.rows.tolist())
    assert set(found[:, 0].tolist()).isdisjoint(left_out.x[:, 0].tolist())
    assert torch.allclose(left_out.x, x[left_out.rows], atol=0.02)


def test_a_layer_of_saevs_shards(tmp_path: Path) -> None:
    """Two layers of 40 examples of a CLS and five patches, in shards of 16."""
    x = torch.randn(40, 2, 6, D_MODEL, generator=torch.Generator().manual_seed(0))
    about = {"protocol": "2.0", "family": "clip", "ckpt": "ViT-B-16/openai", "layers": [3, 11]}
    about |= {"patches_per_ex": 5, "cls_token": True, "d_model": D_MODEL, "n_ex": 40}
    about |= {"dtype": "float32", "data": {}}
    shards = [{"name": f"acts{n:06d}.bin", "n_ex": len(p)} for n, p in enumerate(x.split(16))]
    (tmp_path / "metadata.json").write_text(json.dumps(about))
    (tmp_path / "shards.json").write_text(json.dumps(shards))
    for shard, part in zip(shards, x.split(16), strict=True):
        part.numpy().tofile(tmp_path / str(shard["name"]))
    np.arange(200, dtype=np.uint8).tofile(tmp_path / "labels.bin")
    section = values(tmp_path, hook_name="layers.11", labels="labels", batch_size=16)
    source = opened(tmp_path, **section)
    left_out = source.held_out(source.n_held_out)
    assert torch.equal(left_out.x, x[:, 1, 1:].flatten(0, 1)[left_out.rows])
    assert left_out.classes.labels.tolist() == left_out.rows.tolist()
    # All patches of an image are on the same side.
    assert {int(n) for n in (left_out.rows // 5).bincount()} <= {0, 5}
    assert source.metadata("layers.11")["model_name"] == "ViT-B-16/openai"
    cls = opened(tmp_path, **section | {"hook_name": "layers.3.cls", "labels": None})
    rest = cls.held_out(cls.n_held_out)
    assert torch.equal(rest.x, x[:, 0, 0][rest.rows])
    (tmp_path / "acts000002.bin").write_bytes(b"\0" * 1000)
    with pytest.raises(BadInputError, match="acts000002.bin is not as long as"):
        opened(tmp_path, **section)


def test_every_row_is_seen_once_an_epoch_in_another_order(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsae_plugin.sources.table._BLOCK_BYTES", 50 * 4 * D_MODEL)
    config = values(table, activations_mixing_fraction=0.0, batch_size=10, n_batches_in_buffer=1)
    trained = [r for r in range(N_ROWS) if not is_held_out(torch.tensor([r]), 0.1, 0)]
    n_batches = len(trained) // 10
    first = seen(opened(tmp_path, **config), n_batches)
    assert len(set(first)) == len(first)
    assert set(first) <= set(trained)
    assert first != sorted(first)
    assert seen(opened(tmp_path, **config), n_batches) == first
    assert seen(opened(tmp_path, **config, seed=1), n_batches) != first


def test_blocks_that_do_not_divide_the_buffer_are_each_read_once_an_epoch(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several blocks a read, the last of them short."""
    monkeypatch.setattr("wsae_plugin.sources.table._BLOCK_BYTES", 35 * 4 * D_MODEL)
    held = as_npy(rows(10), tmp_path)
    config = values(table, held_out=str(held), activations_mixing_fraction=0.0)
    config |= {"batch_size": 100, "n_batches_in_buffer": 1}
    found = seen(opened(tmp_path, **config), 18)
    epochs = [found[start : start + N_ROWS] for start in (0, N_ROWS, 2 * N_ROWS)]
    assert all(sorted(epoch) == list(range(N_ROWS)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


@pytest.mark.parametrize("n_before", [0, 1, 4, 9, 23])
@pytest.mark.parametrize("mixed", [0.0, 0.5])
def test_a_position_is_that_of_the_very_next_batch(
    n_before: int, mixed: float, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any epoch, whatever was read ahead, and before anything was read."""
    monkeypatch.setattr("wsae_plugin.sources.table._BLOCK_BYTES", 35 * 4 * D_MODEL)
    config = values(table, activations_mixing_fraction=mixed, batch_size=50, n_batches_in_buffer=3)
    source = opened(tmp_path, **config)
    if n_before:
        seen(source, n_before)
    source.save(tmp_path)
    after = seen(source, 30)
    resumed = opened(tmp_path, **config)
    resumed.load(tmp_path)
    assert seen(resumed, 30) == after


def test_a_position_in_another_table_is_refused(table: Path, tmp_path: Path) -> None:
    opened(tmp_path, **values(table)).save(tmp_path)
    for other in (rows(N_ROWS - 1), rows().flip(0)):
        with pytest.raises(ValueError, match="t.npy' holds other rows by now"):
            opened(tmp_path, **values(as_npy(other, tmp_path))).load(tmp_path)
    # Another file with the same rows is the same table.
    opened(tmp_path, **values(as_npy(rows(), tmp_path))).load(tmp_path)


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_rows_have_one_fingerprint_in_every_format(
    tmp_path: Path, write: Callable[[Tensor, Path], Path]
) -> None:
    x = rows(250).bfloat16().float()

    def fingerprint(x: Tensor, write: Callable[[Tensor, Path], Path]) -> str:
        return fingerprint_of_column(columns_of(str(write(x, tmp_path)))["activations"])

    found = fingerprint(x, write)
    assert found == fingerprint(x, as_npy)
    x[249, 0] += 1
    assert found != fingerprint(x, as_npy)


def test_a_fingerprint_looks_everywhere_and_knows_the_shape(tmp_path: Path) -> None:
    def fingerprint(x: Tensor) -> str:
        return fingerprint_of_column(columns_of(str(as_npy(x, tmp_path)))["activations"])

    x = rows(4000, 4)
    found = fingerprint(x)
    for row in (0, 1063, 2001, 3750, 3813):
        other = x.clone()
        other[row, 3] += 1
        assert fingerprint(other) != found, row
    assert fingerprint(x[:32].reshape(16, 8)) != fingerprint(x[:32])
    # Of labels each one counts.
    labels = torch.arange(4000) % 3
    mended = labels.clone()
    mended[70] = 2
    assert fingerprint(mended) != fingerprint(labels)
    assert fingerprint(torch.zeros(4000, 4)) != fingerprint(torch.zeros(3999, 4))


def test_shards_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    for n, part in enumerate(rows(60).split(5)):
        np.save(tmp_path / "shards" / f"part{n}.npy", part.numpy())
    column = columns_of(str(tmp_path / "shards"))["activations"]
    assert torch.equal(column.read(slice(0, 60)), rows(60))
    assert torch.equal(column.read(slice(8, 52)), rows(60)[8:52])
    where = torch.tensor([0, 4, 5, 49, 50, 59])
    assert torch.equal(column.read(where), rows(60)[where])


def test_labels_are_shuffled_image_by_image() -> None:
    codes, rows = torch.arange(10).repeat_interleave(3), torch.tensor([3, 4, 6, 7, 8, 20, 29])
    images: list[tuple[int, ...]] = []
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        shuffled = shuffled_labels(codes, rows, 3, generator)
        assert shuffled[0] == shuffled[1]
        assert len({*shuffled[2:5].tolist()}) == 1
        images.append((*shuffled[[0, 2, 5, 6]].tolist(),))
    # The images among them get each other's labels, each one's as often: 50 ± 6, four of them.
    assert all(sorted(each) == [1, 2, 6, 9] for each in images)
    assert all(abs(sum(of[0] == n for of in images) - 50) < 25 for n in (1, 2, 6, 9))


def test_labels_of_patches_go_with_their_place() -> None:
    codes = torch.arange(12)
    shuffled = shuffled_labels(codes, torch.arange(12), 4, torch.Generator().manual_seed(0))
    assert shuffled.tolist() != codes.tolist()
    assert torch.equal(shuffled % 4, codes % 4)
    assert sorted(shuffled.tolist()) == codes.tolist()


def test_the_rows_of_an_image_are_held_out_and_shuffled_together(
    table: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "y.npy", np.arange(N_ROWS // 6).repeat(6))
    np.save(tmp_path / "images.npy", np.zeros((N_ROWS // 6, 4, 4), dtype=np.uint8))
    fields = values(table, labels=str(tmp_path / "y.npy"), held_out=0.3)
    said = opened(tmp_path, **fields, rows_per_image=6)
    found = opened(tmp_path, **fields, images=str(tmp_path / "images.npy"))
    of = [source.held_out(source.n_held_out) for source in (said, found)]
    assert sorted(of[0].rows.tolist()) == sorted(of[1].rows.tolist())
    samples = of[1]
    assert torch.equal(samples.classes.images, samples.rows // 6)
    assert (samples.classes.images.bincount() % 6 == 0).all()
    # Image by image, so that batches are independent.
    in_order = samples.classes.images.unique_consecutive()
    assert len(in_order) == len(in_order.unique()) and in_order.tolist() != sorted(
        in_order.tolist()
    )
    for image in samples.classes.images.unique():
        assert len(samples.classes.shuffled[samples.classes.images == image].unique()) == 1
    assert not torch.equal(samples.classes.shuffled, samples.classes.labels)
    shuffled = found.label_evidence("activations", shuffled=True)
    assert set(shuffled.class_sizes.tolist()) == {0, 6}


def test_the_rows_of_an_image_of_another_table_are_shuffled_together(
    table: Path, tmp_path: Path
) -> None:
    held = as_npy(rows(120), tmp_path)
    np.save(tmp_path / "y.npy", np.arange(120) // 6)
    fields = values(table, held_out=str(held), held_out_labels=str(tmp_path / "y.npy"))
    samples = opened(tmp_path, **fields, rows_per_image=6).held_out(120)
    assert torch.equal(samples.classes.images, samples.rows // 6)
    assert (samples.classes.shuffled.bincount() == 6).all()
    for image in range(20):
        assert len(samples.classes.shuffled[samples.classes.images == image].unique()) == 1
    assert not torch.equal(samples.classes.shuffled, samples.classes.labels)


def test_rows_per_image_must_be_true(table: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((N_ROWS // 6, 4, 4), dtype=np.uint8))
    images = str(tmp_path / "images.npy")
    for n in (7, 16, 80, 2 * N_ROWS, 2**70):
        with pytest.raises(BadInputError, match="rows_per_image"):
            opened(tmp_path, **values(table, rows_per_image=n))
    with pytest.raises(BadInputError, match="200 by rows_per_image, 100 by images; it must be one"):
        opened(tmp_path, **values(table, rows_per_image=3, images=images))
    opened(tmp_path, **values(table, rows_per_image=6, images=images))
    folder = as_embedded(tmp_path / "t", rows(1), rows_each=1, n_images=2_562_334)
    with pytest.raises(BadInputError, match="1 rows .*: 2,562,334 by metadata.json; it must be"):
        opened(tmp_path, **values(folder))


def test_what_was_trained_on_is_not_held_out(table: Path, tmp_path: Path) -> None:
    (tmp_path / "link.npy").symlink_to(table)
    for same in (table, tmp_path / "link.npy"):
        with pytest.raises(BadInputError, match="is the table that is trained on"):
            opened(tmp_path, **values(table, held_out=str(same)))
        config = load_run_config(write_config(tmp_path / "c.yaml", values(table)))
        with pytest.raises(BadInputError, match="is the table that the run was trained on"):
            config.source.measured_on(config.values, str(same))
    with pytest.raises(BadInputError, match="held_out = '': is no table; give a share"):
        opened(tmp_path, **values(table, held_out=""))
    # As YAML 1.1 reads a number in quotes, so does the config.
    assert opened(tmp_path, **values(table, held_out="0.1")).n_held_out < N_ROWS


def test_a_held_out_row_that_is_not_finite_is_refused(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsae_plugin.sources.table._CHECKED_BYTES", 1)
    x = rows(40)
    x[17, 3] = torch.nan
    source = opened(tmp_path, **values(table, held_out=str(as_npy(x, tmp_path))))
    with pytest.raises(
        BadInputError, match="row 17 of '.*t.npy: activations' holds nan in dimension 3"
    ):
        source.held_out(40)


def test_a_reader_stops_when_the_source_is_closed(table: Path, tmp_path: Path) -> None:
    config = load_run_config(write_config(tmp_path / "c.yaml", values(table)))
    source = TableSource(replace(config.runner_config(), batch_size=10**9))
    reading = source._reader.submit(source._read_from, 0)
    source.close()
    assert reading.done()


def test_labels_are_counted_on_all_rows_that_are_trained_on_and_no_other(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsae_plugin.sources.table._BLOCK_BYTES", 35 * 4 * D_MODEL)
    labels = torch.randint(-1, 4, (N_ROWS,), generator=torch.Generator().manual_seed(1))
    np.save(tmp_path / "y.npy", labels.numpy())
    source = opened(tmp_path, **values(table, labels=str(tmp_path / "y.npy"), held_out=0.3))
    trained = ~is_held_out(torch.arange(N_ROWS), 0.3, 0)
    counter = LabelCounter(D_MODEL, 4)
    counter.add(rows()[trained], labels[trained])
    expected, found = counter.evidence(), source.label_evidence("activations")
    for name, counts in vars(expected).items():
        assert torch.equal(getattr(found, name), counts), name
    shuffled = source.label_evidence("activations", shuffled=True)
    assert not torch.equal(shuffled.active, expected.active)
    assert torch.equal(shuffled.active, source.label_evidence("activations", shuffled=True).active)
    other = opened(tmp_path, **values(table, labels=str(tmp_path / "y.npy"), held_out=0.3, seed=1))
    assert not torch.equal(
        shuffled.active, other.label_evidence("activations", shuffled=True).active
    )
    # Over all samples: as many have none, but not the same ones.
    assert abs(int(shuffled.class_sizes.sum() - expected.class_sizes.sum())) < 40


def test_of_a_large_table_a_part_says_how_consistent_dimensions_are(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsae_plugin.sources.table._BLOCK_BYTES", 35 * 4 * D_MODEL)
    monkeypatch.setattr("wsae_plugin.sources.table._MOST_LABELLED", 100)
    np.save(tmp_path / "y.npy", np.arange(N_ROWS))
    source = opened(tmp_path, **values(table, labels=str(tmp_path / "y.npy"), held_out=0.01))
    (counted,) = source.label_evidence("activations").class_sizes.nonzero(as_tuple=True)
    # Three blocks, of which hardly a row is held out, and not the first three.
    assert 95 < len(counted) <= 105
    assert len((counted // 35).unique()) == 3
    assert counted.max() >= 105


@given(st.integers(0, 2**62), st.integers(0, 2**62), st.floats(0.05, 0.95))
def test_a_share_is_held_out(start: int, seed: int, share: float) -> None:
    numbers = torch.arange(start, start + 5000)
    found, other = (is_held_out(numbers, share, of) for of in (seed, seed + 1))
    # Five standard deviations of a binomial.
    assert abs(found.double().mean() - share) < 5 * (share * (1 - share) / 5000) ** 0.5
    assert torch.equal(found[10:20], is_held_out(numbers[10:20], share, seed))
    # Another seed is no shift of this one: they agree by chance alone.
    agree = (found[1:] == other[:-1]).double().mean()
    assert abs(agree - (share**2 + (1 - share) ** 2)) < 0.05


def test_of_a_very_long_table_some_rows_from_anywhere_are_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert candidates(9).tolist() == [*range(9)]
    monkeypatch.setattr("wsae_plugin.sources.held_out_rows._MOST_CANDIDATES", 1000)
    found = candidates(2000)
    assert torch.equal(found, candidates(2000))
    assert (found.diff() > 0).all()
    # Each is missing with a probability of 1 / √e, and none lies behind the last.
    assert abs(len(found) - 2000 * (1 - np.exp(-0.5))) < 60
    assert 0 <= found[0] < 50 and 1950 < found[-1] < 2000
    assert abs(int((found < 1000).sum()) - len(found) / 2) < 80


def test_another_split_seed_holds_other_rows_out(table: Path, tmp_path: Path) -> None:
    splits = [
        set(source.held_out(source.n_held_out).rows.tolist())
        for source in (opened(tmp_path, **values(table, split_seed=seed)) for seed in (0, 1))
    ]
    assert len(splits[0] & splits[1]) < min(map(len, splits)) / 2


def test_held_out_rows_come_in_an_order_that_torchs_seed_draws(table: Path, tmp_path: Path) -> None:
    orders: list[list[int]] = []
    for seed in (1, 1, 2):
        source = opened(tmp_path, **values(table))
        n_rows = source.n_held_out
        torch.manual_seed(seed)
        left_out = [source.held_out(n) for n in (5, n_rows - 5)]
        orders.append([int(row) for samples in left_out for row in samples.rows])
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) != orders[0]


def test_another_table_is_held_out(table: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "h.npy", rows(40).numpy() + 1000)
    (tmp_path / "y.txt").write_text("\n".join(["cat"] * 300 + ["dog"] * 300))
    (tmp_path / "yh.txt").write_text("\n".join(["dog"] * 20 + ["cow"] * 20))
    held = {"held_out": str(tmp_path / "h.npy"), "labels": str(tmp_path / "y.txt")}
    held |= {"held_out_labels": str(tmp_path / "yh.txt")}
    source = opened(tmp_path, **values(table, **held))
    assert set(range(N_ROWS)) == set(seen(source, 20))
    left_out = source.held_out(40)
    assert left_out.classes.names == ("cat", "dog", "cow")
    assert [left_out.classes.names[n] for n in left_out.classes.labels] == [
        "dog" if row < 20 else "cow" for row in left_out.rows
    ]
    with pytest.raises(BadInputError, match="1 more held-out rows are wanted, and 0 are left"):
        source.held_out(1)
    # Measures open the other table alone, or one that was asked for, of which nothing is said.
    config = load_run_config(write_config(tmp_path / "c.yaml", values(table, **held)))
    asked, name, split = config.source.measured_on(config.values, "asked.npy")
    assert (name, split, asked["activations"], asked["held_out"]) == ("asked.npy", None, name, name)
    of_labels_and_pictures = {"labels", "images", "held_out_labels", "held_out_images"}
    assert {asked[field] for field in of_labels_and_pictures} == {None}
    measured, name, _ = config.source.measured_on(config.values, None)
    assert name == str(tmp_path / "h.npy")
    samples = open_source(replace(config, values=measured).runner_config()).held_out(40)
    assert [samples.classes.names[n] for n in samples.classes.labels] == [
        "dog" if row < 20 else "cow" for row in samples.rows
    ]


def test_held_out_rows_are_shared_out_among_the_batches(table: Path, tmp_path: Path) -> None:
    fields = values(table, held_out=str(as_npy(rows(40), tmp_path)))
    config = load_run_config(write_config(tmp_path / "c.yaml", fields))
    source = HeldOutSource("t.npy", None)
    for batches, n_samples in ((2, 20), (3, 13), (20, 2)):
        held_out = open_held_out([config], source, EvalSettings(None, batches, 1, 0))
        assert held_out.about["tokens"] == batches * n_samples
    with pytest.raises(BadInputError, match="t.npy: has 40 held-out rows, too few for 21 batches"):
        open_held_out([config], source, EvalSettings(None, 21, 1, 0))


def test_a_run_is_resumed_bit_for_bit(table: Path, tmp_path: Path) -> None:
    config = load_run_config(
        write_config(tmp_path / "c.yaml", values(table, n_checkpoints=3, act_store_device="cpu"))
    )
    whole = train(config, tmp_path / "whole")
    expected = load_file(whole.exports["sae"] / "sae_weights.safetensors")
    checkpoints = sorted((tmp_path / "whole" / "checkpoints").iterdir(), key=lambda p: int(p.name))
    for checkpoint in checkpoints[:-1]:
        values_of = values(table)
        del values_of["n_batches_in_buffer"]
        other = tmp_path / f"from-{checkpoint.name}"
        other.mkdir()
        (other / "checkpoints").mkdir()
        checkpoint.rename(other / "checkpoints" / checkpoint.name)
        for name in ("config.yaml", "run.json", "metrics.jsonl"):
            (other / name).write_bytes((tmp_path / "whole" / name).read_bytes())
        record = other / "run.json"
        record.write_text(record.read_text().replace('"finished"', '"interrupted"'))
        resumed = train(load_run_config(other / "config.yaml"), other, resume=True)
        found = load_file(resumed.exports["sae"] / "sae_weights.safetensors")
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_several_saes_read_the_columns_of_one_row(tmp_path: Path) -> None:
    x = rows()
    save_file({"early": x, "late": 2 * x[:, :16].clone()}, tmp_path / "x.safetensors")
    saes = {"a": sae(), "b": sae(d_in=16), "c": sae(alpha=0)}
    fields = {**values(tmp_path / "x.safetensors"), "saes": saes}
    del fields["sae"]
    hooks = {"a": "early", "b": "late", "c": "early"}
    source = opened(tmp_path, **fields, hook_names=hooks)
    assert source.d_in == {"early": D_MODEL, "late": 16}
    batch = next(source)
    assert torch.equal(batch["late"], 2 * batch["early"][:, :16])
    with pytest.raises(BadInputError, match=r"saes.b.d_in = 16: 'early' is 32 wide; set it to 32"):
        opened(tmp_path, **fields, hook_names="early")


def array(**changes: Any) -> np.ndarray:
    return rows(40).numpy().astype(changes.get("dtype", np.float32))


def with_nan() -> np.ndarray:
    x = array()
    x[17, 3] = np.nan
    return x


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "NaN": (with_nan, "row 17 of 'activations' holds nan in dimension 3; leave such rows out"),
    "integers": (lambda: array(dtype=np.int32), "holds int32; activations are floating-point"),
    "narrow": (lambda: array()[:, :8], "sae.d_in = 32: 'activations' is 8 wide; set it to 8"),
    "empty": (lambda: array()[:0], r"has shape \(0, 32\): there is nothing in it"),
    "flat": (lambda: array()[:, 0], r"has no vector a row: activations \(40,\); give an array"),
    "images": (lambda: array().reshape(40, 8, 4), "has no vector a row"),
    "objects": (
        lambda: np.array([[1.0], [1.0, 2.0]], dtype=object),
        "Array can't be memory-mapped|Python objects|allow_pickle",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_array_is_refused(tmp_path: Path, name: str) -> None:
    make, message = BAD[name]
    np.save(tmp_path / "x.npy", make())
    with pytest.raises(BadInputError, match=message) as refused:
        opened(tmp_path, **values(tmp_path / "x.npy"))
    assert "\n" not in str(refused.value)


def test_bad_files_are_refused(table: Path, tmp_path: Path) -> None:
    def refuses(match: str, activations: Path, **changes: Any) -> None:
        with pytest.raises(BadInputError, match=match):
            opened(tmp_path, **values(activations, **changes))

    refuses("no such file or folder", tmp_path / "nowhere.npy")
    (tmp_path / "empty").mkdir()
    refuses("must hold shards of one kind, .npy, .* and this has none", tmp_path / "empty")
    whole = table.read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-100])
    refuses("cut.npy", tmp_path / "cut.npy")
    save_file({"x": rows(9)}, tmp_path / "cut.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "cut.safetensors").read_bytes()[:-9])
    refuses("cut.safetensors", tmp_path / "cut.safetensors")
    torch.save({"x": [1, 2]}, tmp_path / "x.pt")
    refuses("must hold a tensor, or a dict of tensors", tmp_path / "x.pt")
    torch.save(TestPickle(), tmp_path / "code.pt")
    refuses("code.pt", tmp_path / "code.pt")
    refuses("hook_name = 'layer': no column", table, hook_name="layer")
    ragged = {"activations": [[1.0] * 32] * 5 + [[1.0] * 31]}
    datasets.Dataset.from_dict(ragged).to_parquet(str(tmp_path / "ragged.parquet"))
    refuses("row 5 of 'activations' is not as long", tmp_path / "ragged.parquet")
    column = columns_of(str(tmp_path / "ragged.parquet"))["activations"]
    for where in (slice(3, 6), torch.tensor([1, 5])):
        with pytest.raises(BadInputError, match="row 5 of 'activations' is not as long"):
            column.read(where)
    (tmp_path / "mixed").mkdir()
    np.save(tmp_path / "mixed" / "a0.npy", rows(9).numpy())
    np.save(tmp_path / "mixed" / "a1.npy", rows(9, 8).numpy())
    wide = r"a1.npy: 'activations' is \(8,\) wide, of float32, and the first shard's \(32,\)"
    refuses(wide, tmp_path / "mixed")
    np.save(tmp_path / "mixed" / "a1.npy", rows(9).double().numpy())
    refuses(r"a1.npy: 'activations' is \(32,\) wide, of float64", tmp_path / "mixed")
    np.savez(tmp_path / "archive", rows(9).numpy())
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    refuses("archive.npy.*is an archive of arrays", tmp_path / "archive.npy")
    (tmp_path / "nothing.npy").touch()
    refuses("nothing.npy", tmp_path / "nothing.npy")
    for about in ([], {"format": "wsae embed"}, {"protocol": "2.0", "ckpt": "x", "n_ex": "many"}):
        (tmp_path / "empty" / "metadata.json").write_text(json.dumps(about))
        refuses("metadata.json|must hold shards", tmp_path / "empty")
    refuses("x.csv.*a table is a file that ends in .npy", _touched(tmp_path / "x.csv"))
    refuses("held_out = 0.999.*: leaves none of 3 rows", as_npy(rows(3), tmp_path), held_out=0.9999)
    narrow = tmp_path / "narrow.npy"
    np.save(narrow, rows(9, 8).numpy())
    refuses("held_out = .*: is 8 wide, and activations are 32", table, held_out=str(narrow))
    other = {"held_out": str(as_npy(rows(9), tmp_path)), "held_out_images": "nowhere.npy"}
    refuses("^held_out_images = 'nowhere.npy': no such file", table, **other)


def test_the_labels_of_another_table_may_be_a_column_of_its_own(tmp_path: Path) -> None:
    for name in ("t", "h"):
        x = rows(60) * (1 if name == "t" else 2)
        dataset_of(x).to_parquet(str(tmp_path / f"{name}.parquet"))
    fields = values(tmp_path / "t.parquet", labels="label", held_out=str(tmp_path / "h.parquet"))
    left_out = opened(tmp_path, **fields).held_out(60)
    assert left_out.classes.names == ("class 0", "class 1", "class 2")
    assert torch.equal(left_out.classes.labels, left_out.rows % 3)


def test_columns_of_other_lengths_are_refused(tmp_path: Path) -> None:
    save_file({"a": rows(9), "b": rows(8)}, tmp_path / "x.safetensors")
    fields = values(tmp_path / "x.safetensors") | {"saes": {"a": sae(), "b": sae()}}
    del fields["sae"]
    with pytest.raises(BadInputError, match="columns are not equally long: {'a': 9, 'b': 8}"):
        opened(tmp_path, **fields, hook_names={"a": "a", "b": "b"})


def test_a_number_beside_the_rows_of_each_shard_is_no_column(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    for n, part in enumerate(rows(40).split(20)):
        saved = {"scale": torch.tensor(0.5), "activations": part.clone()}
        torch.save(saved, tmp_path / "shards" / f"{n}.pt")
    assert list(columns_of(str(tmp_path / "shards"))) == ["activations"]
    assert opened(tmp_path, **values(tmp_path / "shards")).n_rows == 40


def test_every_block_is_looked_at_and_of_a_larger_table_what_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsae_plugin.sources.table._BLOCK_BYTES", 35 * 4 * D_MODEL)
    x = rows()
    x[333, 3] = torch.inf
    said = "row 333 of 'activations' holds inf in dimension 3"
    with pytest.raises(BadInputError, match=said):
        opened(tmp_path, **values(as_npy(x, tmp_path)))
    monkeypatch.setattr("wsae_plugin.sources.table._CHECKED_BYTES", 1)
    source = opened(tmp_path, **values(tmp_path / "t.npy"))
    with pytest.raises(ValueError, match=said):
        seen(source, 10)


def test_what_is_looked_at_of_a_larger_table_lies_anywhere(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsae_plugin.sources.table._BLOCK_BYTES", 35 * 4 * D_MODEL)
    monkeypatch.setattr("wsae_plugin.sources.table._CHECKED_BYTES", 3 * 35 * 4 * D_MODEL)
    blocks: list[int] = []

    def record(x: Tensor, where: slice, _: str) -> Tensor:
        blocks.append(where.start // 35)
        return x

    monkeypatch.setattr("wsae_plugin.sources.table.refuse_not_finite", record)
    opened(tmp_path, **values(table))
    assert len(blocks) == 3
    assert max(blocks) > 4


class TestPickle:
    """What only a pickle that runs code can load."""

    __test__ = False


def _touched(file: Path) -> Path:
    file.write_text("1,2")
    return file


def test_bad_labels_are_refused(table: Path, tmp_path: Path) -> None:
    def refuses(match: str, labels: Any, **changes: Any) -> None:
        if isinstance(labels, np.ndarray):
            np.save(tmp_path / "y.npy", labels)
            labels = tmp_path / "y.npy"
        with pytest.raises(BadInputError, match=match):
            opened(tmp_path, **values(table, labels=str(labels), **changes))

    for n in (599, 601):
        said = f"labels = .*has {n} labels, and the table 600 rows"
        refuses(said, np.zeros(n, dtype=np.int64))
    refuses("holds torch.float32; labels are whole numbers", np.zeros(600, dtype=np.float32))
    refuses(r"must hold one array of labels, and holds 0", np.zeros((600, 2), dtype=np.int64))
    refuses("neither a file nor a column of the table, which has none", "nowhere")
    (tmp_path / "classes.txt").write_text("cat\ndog")
    refuses("holds 2, and 2 names are known", np.full(600, 2))
    refuses("no row has a class", np.full(600, -1))
    (tmp_path / "classes.txt").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wsae_plugin.sources.labels._MOST_CLASSES", 599)
        refuses("holds 600 classes; 599 are the most", np.arange(600))
    with pytest.raises(BadInputError, match="held_out_labels = 'y': are of another table"):
        opened(tmp_path, **values(table, held_out_labels="y"))


def test_texts_that_are_no_class(table: Path, tmp_path: Path) -> None:
    (tmp_path / "y.txt").write_text("cat\n-1\n\n-1b\n" + "dog\n" * (N_ROWS - 4))
    labels = opened(tmp_path, **values(table, labels=str(tmp_path / "y.txt"))).labels
    assert labels.names == ("-1b", "cat", "dog")
    assert labels.codes[:5].tolist() == [1, -1, -1, 0, 2]
    # None has a class under the names of another table either.
    renamed = labels.as_in(Labels(torch.zeros(1, dtype=torch.int32), ("dog", "cow")))
    assert renamed.names == ("dog", "cow", "-1b", "cat")
    assert renamed.codes[:5].tolist() == [3, -1, -1, 2, 0]
    dataset = dataset_of(rows(9)).remove_columns("label")
    dataset = dataset.add_column("label", [None, "cat", *["dog"] * 7])
    dataset.to_parquet(str(tmp_path / "t.parquet"))
    labels = opened(tmp_path, **values(tmp_path / "t.parquet", labels="label")).labels
    assert labels.names == ("cat", "dog")
    assert labels.codes.tolist() == [-1, 0, *[1] * 7]
    dataset = dataset.remove_columns("label").add_column("label", [None, 0, *[1] * 7])
    dataset = dataset.cast_column("label", datasets.ClassLabel(names=["cat", "dog"]))
    dataset.to_parquet(str(tmp_path / "n.parquet"))
    labels = opened(tmp_path, **values(tmp_path / "n.parquet", labels="label")).labels
    assert labels.names == ("cat", "dog")
    assert labels.codes.tolist() == [-1, 0, *[1] * 7]


def test_contents_are_those_of_the_rows_and_of_their_labels(tmp_path: Path) -> None:
    def contents(label: str | None, *names: str) -> dict[str, str]:
        dataset = dataset_of(rows(60)).remove_columns("label").add_column("label", [*names] * 20)
        dataset.to_parquet(str(tmp_path / "t.parquet"))
        fields = values(tmp_path / "t.parquet", labels=label)
        config = load_run_config(write_config(tmp_path / "c.yaml", fields))
        return {**config.source.contents(config.values, "activations")}

    found = contents("label", "a", "b", "c")
    assert found == contents("label", "a", "b", "c")
    other = contents("label", "a", "b", "d")
    assert (other["rows"], other["labels"] != found["labels"]) == (found["rows"], True)
    # Of a file, beside the rows as they are in a table of another kind.
    assert contents(None, "a", "b", "c") == {"rows": found["rows"]}
    fields = values(as_npy(rows(60), tmp_path), labels=str(tmp_path / "y.txt"))
    config = load_run_config(write_config(tmp_path / "c.yaml", fields))
    (tmp_path / "y.txt").write_text("a\n" * 60)
    one = config.source.contents(config.values, "activations")
    (tmp_path / "y.txt").write_text("a\n" * 59 + "b\n")
    two = config.source.contents(config.values, "activations")
    assert one["rows"] == two["rows"] == found["rows"]
    assert one["labels"] != two["labels"]


def as_embedded(folder: Path, x: Tensor, rows_each: int, **changes: Any) -> Path:
    """As `wsae embed` writes it."""
    folder.mkdir(exist_ok=True)
    save_file({"activations": x}, folder / "rows-00000.safetensors")
    about = {"format": "wsae embed", "version": 1, "model_name": "a/model", "classes": None}
    about |= {"n_images": len(x) // rows_each, "image_folder": "/somewhere/birds", "complete": True}
    (folder / "metadata.json").write_text(json.dumps(about | changes))
    return folder


def test_what_a_config_says_of_a_table_counts_before_what_the_table_says(tmp_path: Path) -> None:
    folder = as_embedded(tmp_path / "t", rows(), rows_each=6)
    said = opened(tmp_path, **values(folder)).metadata("activations")
    assert (said["model_name"], said["dataset_path"]) == ("a/model", "birds")
    fields = values(folder, model_name="my/model", dataset_path="my/birds")
    said = opened(tmp_path, **fields).metadata("activations")
    assert (said["model_name"], said["dataset_path"]) == ("my/model", "my/birds")
    as_embedded(folder, rows(), rows_each=6, complete=False)
    with pytest.raises(BadInputError, match="t': is not complete: run `wsae embed` again"):
        opened(tmp_path, **values(folder))


def test_what_changed_is_not_measured_as_if_it_had_not(table: Path, tmp_path: Path) -> None:
    labels, run = tmp_path / "y.npy", tmp_path / "run"
    np.save(labels, np.arange(N_ROWS) % 3)
    fields = values(table, labels=str(labels), held_out=0.3)
    train(load_run_config(write_config(tmp_path / "c.yaml", fields)), run)
    settings = EvalSettings(None, 2, 1, 0)

    def chance() -> float:
        (document,) = evaluate_runs([run], settings)
        scores = {score["metric"]: score for score in document["scores"]}
        return scores["semantic_consistency"]["chance"]

    assert chance() == pytest.approx(1 / 3, abs=0.1)
    np.save(labels, np.arange(N_ROWS) % 2)
    assert chance() == pytest.approx(1 / 2, abs=0.1)
    np.save(tmp_path / "same.npy", rows().numpy())
    with pytest.raises(BadInputError, match="holds the rows that the SAE was trained on"):
        evaluate_runs([run], replace(settings, dataset=str(tmp_path / "same.npy")))
    np.save(table, rows().flip(0).numpy())
    with pytest.raises(BadInputError, match="x.npy': holds other rows than the SAE was trained on"):
        evaluate_runs([run], settings)
    # What holds the labels of the training is not asked for another table.
    labels.unlink()
    table.rename(tmp_path / "other.npy")
    evaluate_runs([run], replace(settings, dataset=str(tmp_path / "other.npy")))


def test_what_no_machine_has_room_for_is_refused(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInputError, match="n_batches_in_buffer = 1099511627776: with batch_size"):
        opened(tmp_path, **values(table, n_batches_in_buffer=2**40))
    # Measuring fills no buffer, so a larger machine's SAE is measured here.
    config = load_run_config(write_config(tmp_path / "c.yaml", values(table)))
    TableSource(replace(config.runner_config(), n_batches_in_buffer=2**40))
    np.save(tmp_path / "y.npy", np.arange(N_ROWS))
    monkeypatch.setattr("wsae_plugin.sources.table._MOST_COUNTS", 1000)
    with pytest.raises(BadInputError, match="to count 600 classes for .* latents takes"):
        opened(tmp_path, **values(table, labels=str(tmp_path / "y.npy")))


@pytest.mark.parametrize(
    "field",
    [
        *({"device": "cuda:7"}, {"act_store_device": "foo"}, {"dtype": "int8"}, {"batch_size": 0}),
        *({"activations_mixing_fraction": 2}, {"seed": -1}, {"held_out": 1e-9}),
    ],
    ids=str,
)
def test_a_field_that_cannot_be_is_refused(
    table: Path, tmp_path: Path, field: dict[str, Any]
) -> None:
    with pytest.raises(BadInputError, match=next(iter(field))):
        opened(tmp_path, **values(table, **field))


def test_the_rows_that_are_trained_on_are_not_held_out(table: Path, tmp_path: Path) -> None:
    save_file({"activations": rows()}, tmp_path / "same.safetensors")
    with pytest.raises(BadInputError, match="holds the rows that are trained on; give others"):
        opened(tmp_path, **values(table, held_out=str(tmp_path / "same.safetensors")))


def test_a_table_that_is_replaced_is_still_the_one_that_was_opened(
    table: Path, tmp_path: Path
) -> None:
    source = opened(tmp_path, **values(table))
    np.save(table, rows().flip(0).numpy())
    source.save(tmp_path)
    with pytest.raises(ValueError, match="holds other rows by now"):
        opened(tmp_path, **values(table)).load(tmp_path)


def test_nulls_and_tensors_with_gradients(tmp_path: Path) -> None:
    dataset = dataset_of(rows(9)).remove_columns("label")
    dataset = dataset.add_column("label", [None, 4, *[2] * 7])
    dataset.to_parquet(str(tmp_path / "t.parquet"))
    labels = opened(tmp_path, **values(tmp_path / "t.parquet", labels="label")).labels
    assert (labels.names, labels.codes.tolist()) == (("2", "4"), [-1, 1, *[0] * 7])
    torch.save(rows(9).requires_grad_(), tmp_path / "t.pt")
    assert opened(tmp_path, **values(tmp_path / "t.pt")).n_rows == 9


def test_another_table_need_not_have_the_column_of_labels(tmp_path: Path) -> None:
    dataset_of(rows(200)).to_parquet(str(tmp_path / "t.parquet"))
    other = as_npy(2 * rows(300), tmp_path)
    fields = values(tmp_path / "t.parquet", labels="label", held_out=str(other))
    fields["training_samples"] = 2 * BATCH
    train(load_run_config(write_config(tmp_path / "c.yaml", fields)), tmp_path / "run")
    (document,) = evaluate_runs([tmp_path / "run"], EvalSettings(None, 2, 1, 0))
    metrics = {score["metric"] for score in document["scores"]}
    assert "explained_variance" in metrics and "semantic_consistency" not in metrics


def test_a_block_of_another_width_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsae_plugin.sources.table._BLOCK_BYTES", 50 * 4 * D_MODEL)
    ragged = {"activations": [[1.0] * D_MODEL] * 50 + [[1.0] * (D_MODEL - 1)] * 50}
    datasets.Dataset.from_dict(ragged).to_parquet(str(tmp_path / "ragged.parquet"))
    with pytest.raises(BadInputError, match="row 50 of 'activations' is not as long"):
        opened(tmp_path, **values(tmp_path / "ragged.parquet"))


def test_a_name_on_the_hub_may_hold_dots(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, split: str) -> datasets.Dataset:
        assert (name, split) == ("user/name-v1.0", "train")
        return dataset_of(rows(9))

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert len(columns_of("user/name-v1.0")["activations"]) == 9
