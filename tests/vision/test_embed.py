"""Tables against a plain loop over the images, and what is left of them when they are stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from tests.vision.tiny import LABELS, N_PATCHES, NAMES, picture, pictures, resnet, vit
from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.images import load_image
from wsae_plugin.vision import embed, embed_folder

WIDTH = 32
TWO = {"hooks": ["layers.0", "last_hidden_state"], "tokens": "patches"}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return pictures(tmp_path / "images")


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(vit(tmp_path / "vit"))


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images of one hook's patches each: four shards for seven images."""
    monkeypatch.setattr(embed, "_SHARD_BYTES", 5 * N_PATCHES * WIDTH * 4 // 2)


def plain_loop(model: str, images: Path, name: str) -> Any:
    processor = transformers.AutoImageProcessor.from_pretrained(model, backend="pil")
    loaded = transformers.AutoModel.from_pretrained(model)
    with torch.no_grad():
        return loaded(
            **processor(images=load_image(images / name), return_tensors="pt"),
            output_hidden_states=True,
        )


def contents(table: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in table.iterdir()}


def read(table: Path) -> dict[str, torch.Tensor]:
    shards = [load_file(path) for path in sorted(table.glob("rows-*.safetensors"))]
    return {name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}


@pytest.mark.usefixtures("small_shards")
def test_rows_are_those_of_each_image_alone(images: Path, model: str, tmp_path: Path) -> None:
    metadata = embed_folder(images, model, tmp_path / "table", batch_size=2, **TWO)  # pyright: ignore[reportArgumentType]
    versions = metadata.pop("versions")
    assert versions["transformers"] == transformers.__version__ and "pillow" in versions
    assert metadata == {
        "format": "wsae embed",
        "version": 1,
        "model_name": model,
        "hook_names": ["layers.0", "last_hidden_state"],
        "tokens": "patches",
        "d_in": {"layers.0": WIDTH, "last_hidden_state": WIDTH},
        "n_images": 7,
        "rows_per_image": N_PATCHES,
        "n_rows": 7 * N_PATCHES,
        "classes": ["ant", "cat"],
        "image_folder": str(images),
        "complete": True,
    }
    names = (tmp_path / "table" / "images.txt").read_text().splitlines()
    assert names == NAMES
    # Two hooks: one image a shard.
    assert len(list((tmp_path / "table").glob("rows-*"))) == 7
    rows = read(tmp_path / "table")
    assert rows["labels"].tolist() == [label for label in LABELS for _ in range(N_PATCHES)]
    assert rows["labels"].dtype == torch.int64 and rows["layers.0"].dtype == torch.float32
    for number, name in enumerate(names):
        output = plain_loop(model, images, name)
        own = slice(number * N_PATCHES, (number + 1) * N_PATCHES)
        for hook, states in (
            ("layers.0", output.hidden_states[1]),
            ("last_hidden_state", output.last_hidden_state),
        ):
            torch.testing.assert_close(rows[hook][own], states[0, 1:], rtol=0, atol=1e-5)


def test_one_row_an_image_without_labels(tmp_path: Path) -> None:
    model = str(resnet(tmp_path / "resnet"))
    for seed in range(5):
        picture(tmp_path / "images" / f"{seed}.png", 3 * seed)
    metadata = embed_folder(tmp_path / "images", model, tmp_path / "table", batch_size=3)
    assert metadata["classes"] is None and metadata["n_rows"] == 5
    rows = read(tmp_path / "table")
    assert [*rows] == ["last_hidden_state"]
    for seed in range(5):
        states = plain_loop(model, tmp_path / "images", f"{seed}.png").last_hidden_state
        wanted = states[0].mean((1, 2))
        torch.testing.assert_close(rows["last_hidden_state"][seed], wanted, rtol=0, atol=1e-5)


def stopped(monkeypatch: pytest.MonkeyPatch, error: BaseException, after: int) -> None:
    """Let the writing of shards fail after some of them."""
    write, calls = embed.write_bytes_atomic, [0]

    def failing(path: Path, content: bytes) -> None:
        calls[0] += path.name.startswith("rows-")
        if calls[0] > after:
            raise error
        write(path, content)

    monkeypatch.setattr(embed, "write_bytes_atomic", failing)


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize(
    ("error", "said"),
    [(KeyboardInterrupt(), "interrupted; .*goes on"), (OSError(28, "No space left"), "No space")],
)
@pytest.mark.parametrize("after", [0, 1, 3, 4])
def test_a_stopped_table_goes_on(
    error: BaseException,
    said: str,
    after: int,
    images: Path,
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(output: Path) -> dict[str, Any]:
        return embed_folder(images, model, output, tokens="patches", batch_size=2)

    whole = run(tmp_path / "whole")
    table = tmp_path / "table"
    with monkeypatch.context() as patch:
        stopped(patch, error, after)
        if after == 4:  # all are there, and the last word is not
            patch.setattr(embed._Table, "metadata", incomplete(embed._Table.metadata, error))
        with pytest.raises(RunFailedError, match=said):
            run(table)
    assert json.loads((table / "metadata.json").read_text())["complete"] is False
    assert len(list(table.glob("rows-*"))) == after
    labels = read(tmp_path / "whole")["labels"]
    assert labels.tolist() == [label for label in LABELS for _ in range(N_PATCHES)]
    before = {path.name: path.stat().st_mtime_ns for path in table.glob("rows-*")}
    assert run(table) == whole
    assert contents(table) == contents(tmp_path / "whole")
    assert {name: (table / name).stat().st_mtime_ns for name in before} == before
    # And once more: nothing is left.
    before = {path: path.stat().st_mtime_ns for path in table.iterdir()}
    assert run(table) == whole
    assert {path: path.stat().st_mtime_ns for path in table.iterdir()} == before


def incomplete(metadata: Callable[..., Any], error: BaseException) -> Callable[..., Any]:
    def fail(table: Any, complete: bool) -> Any:
        if complete:
            raise error
        return metadata(table, complete)

    return fail


@pytest.fixture
def half(
    small_shards: None,  # noqa: ARG001
    images: Path,
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A table with the patches of the first four images."""
    with monkeypatch.context() as patch, pytest.raises(RunFailedError):
        stopped(patch, KeyboardInterrupt(), 2)
        embed_folder(images, model, tmp_path / "half", tokens="patches")
    return tmp_path / "half"


def test_another_table_is_refused(half: Path, images: Path, model: str, tmp_path: Path) -> None:
    vit(tmp_path / "other", seed=1)
    before = contents(half)

    def refused(said: str, model: str = model, **changes: Any) -> None:
        with pytest.raises(BadInputError, match=f"^--output {half}: holds another .*{said}"):
            embed_folder(images, model, half, **{"tokens": "patches", **changes})
        assert contents(half) == before

    refused(
        r"tokens was patches and is now mean; rows_per_image was 16 and is now 1", tokens="mean"
    )
    refused(r"hook_names was \['last_hidden_state'\] and is now \['layers.1'\]", hooks=["layers.1"])
    refused(f"model_name was {model} and is now .*other", model=str(tmp_path / "other"))
    picture(images / "ant" / "c.png", 1)
    refused("image 2 was ant/z.jpg and is now ant/c.png")
    (images / "ant" / "c.png").unlink()
    picture(images / "dog" / "c.png", 1)
    refused(r"classes was \['ant', 'cat'\] and is now \['ant', 'cat', 'dog'\]")
    (images / "dog" / "c.png").unlink()
    vit(Path(model), seed=1)
    refused("the model makes other rows of the first image")


def test_images_to_come_may_change(half: Path, images: Path, model: str, tmp_path: Path) -> None:
    """One that is broken can be taken out, or mended."""
    (images / "cat" / "3.png").write_bytes(b"no image")
    with pytest.raises(RunFailedError, match=r"cat/3.png: cannot be read .*same command again"):
        embed_folder(images, model, half, tokens="patches")
    (images / "cat" / "3.png").unlink()
    metadata = embed_folder(images, model, half, tokens="patches")
    assert metadata["n_images"] == 6 and metadata["n_rows"] == 6 * N_PATCHES
    embed_folder(images, model, tmp_path / "new", tokens="patches")
    assert contents(half) == contents(tmp_path / "new")
    # What is complete stays as it is.
    picture(images / "cat" / "z.png", 1)
    with pytest.raises(BadInputError, match="image 6 was none and is now cat/z.png"):
        embed_folder(images, model, half, tokens="patches")


def test_a_lost_shard_is_written_again(images: Path, model: str, tmp_path: Path) -> None:
    embed_folder(images, model, tmp_path / "t")
    whole = contents(tmp_path / "t")
    lost = sorted((tmp_path / "t").glob("rows-*"))[-1]
    lost.unlink()
    embed_folder(images, model, tmp_path / "t")
    assert contents(tmp_path / "t") == whole


def test_a_table_without_rows_may_become_another(images: Path, model: str, tmp_path: Path) -> None:
    table = tmp_path / "table"
    broken = images / "ant" / "b.png"
    whole = broken.read_bytes()
    broken.write_bytes(b"")
    with pytest.raises(RunFailedError, match=r"b.png"):
        embed_folder(images, model, table)
    broken.write_bytes(whole)
    assert embed_folder(images, model, table, tokens="cls")["tokens"] == "cls"


def test_folders_that_are_not_free(images: Path, model: str, tmp_path: Path) -> None:
    for name, content, said in (
        ("notes.txt", "mine", "is not empty"),
        ("metadata.json", '{"format": "other"}', "not of this version"),
        ("metadata.json", "[", "cannot be read as JSON"),
    ):
        table = tmp_path / "mine"
        table.mkdir(exist_ok=True)
        (table / name).write_text(content)
        with pytest.raises(BadInputError, match=said):
            embed_folder(images, model, table)
        assert (table / name).read_text() == content
        (table / name).unlink()
    (tmp_path / "file").touch()
    with pytest.raises(BadInputError, match="--output .*is a file"):
        embed_folder(images, model, tmp_path / "file")
    # The last is empty, and free.
    assert embed_folder(images, model, table)["complete"] is True  # pyright: ignore[reportPossiblyUnboundVariable]


def test_hooks_with_other_rows_have_no_table_in_common(
    images: Path, model: str, tmp_path: Path
) -> None:
    hooks = ["layers.0", "pooler"]
    with pytest.raises(BadInputError, match=r"\{'layers.0': 16, 'pooler': 1\}"):
        embed_folder(images, model, tmp_path / "table", hooks, "patches")
    assert not (tmp_path / "table").exists()
    assert embed_folder(images, model, tmp_path / "table", hooks)["rows_per_image"] == 1


def test_images_that_stay_of_different_sizes(tmp_path: Path) -> None:
    model = resnet(tmp_path / "resnet")
    file = model / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"do_resize": False}))
    for seed in (1, 1, 2):
        picture(tmp_path / "images" / f"{seed}.png", seed)
    with pytest.raises(RunFailedError, match=r"2.png: .*\(3, 22, 30\) of it and .*\(3, 21, 30\)"):
        embed_folder(tmp_path / "images", str(model), tmp_path / "table")


def test_an_image_that_the_processor_refuses_is_named(
    images: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, calls = embed.Encoder.pixels, [0]

    def refusing(encoder: Any, image: Any) -> Any:
        calls[0] += 1
        # The first image is seen once before the table is begun.
        if calls[0] == 3:
            raise BadInputError("--model: no such size")
        return pixels(encoder, image)

    class OneThread(ThreadPoolExecutor):
        def __init__(self) -> None:
            super().__init__(1)

    monkeypatch.setattr(embed.Encoder, "pixels", refusing)
    monkeypatch.setattr(embed, "ThreadPoolExecutor", OneThread)
    with pytest.raises(BadInputError, match=r"ant/b.png: --model: no such size"):
        embed_folder(images, model, tmp_path / "table")


def test_no_more_is_read_than_the_batches_to_come(
    images: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many images a shard has."""
    for seed in range(20):
        picture(images / "cat" / f"many-{seed}.png", seed)
    loaded, most, rows = [0], [0], embed.Encoder.rows

    def load(path: Path) -> Any:
        loaded[0] += 1
        return load_image(path)

    def encode(encoder: Any, pixels: Any) -> Any:
        most[0] = max(most[0], loaded[0])
        loaded[0] -= len(pixels)
        return rows(encoder, pixels)

    monkeypatch.setattr(embed, "load_image", load)
    monkeypatch.setattr(embed.Encoder, "rows", encode)
    embed_folder(images, model, tmp_path / "table", batch_size=2)
    assert loaded[0] == 0
    assert most[0] <= 3 * 2 + 1
