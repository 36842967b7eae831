"""Which images a folder has, their order and labels; pixels worked out by hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.vision.tiny import LABELS, NAMES, picture, pictures
from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.images import load_image
from wsae_plugin.vision.images import find_images


def test_folders_are_classes(tmp_path: Path) -> None:
    folder = find_images(pictures(tmp_path))
    assert folder.names == NAMES
    assert folder.classes == ["ant", "cat"]
    labels = folder.labels(NAMES)
    assert labels is not None and labels.tolist() == LABELS
    assert find_images(tmp_path / "cat").classes is None
    assert find_images(tmp_path / "cat").labels(["1.png"]) is None


def test_classes_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    """As strings, 'a-b/1.png' comes before 'a/1.png'."""
    for n, name in enumerate(("a/1.png", "a-b/1.png", "a/0.png")):
        picture(tmp_path / name, n)
    folder = find_images(tmp_path)
    assert folder.names == ["a/0.png", "a/1.png", "a-b/1.png"]
    assert folder.classes == ["a", "a-b"]


def test_what_is_no_image_is_left_out(tmp_path: Path) -> None:
    picture(tmp_path / "a.JPG", 0)
    for name in ("._a.jpg", "notes.txt", "table.h5", "page.eps", "b"):
        (tmp_path / name).touch()
    (tmp_path / ".thumbnails").mkdir()
    picture(tmp_path / ".thumbnails" / "a.png", 0)
    assert find_images(tmp_path).names == ["a.JPG"]


def test_links_are_followed(tmp_path: Path) -> None:
    picture(tmp_path / "all" / "n01" / "1.png", 0)
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "n01").symlink_to(tmp_path / "all" / "n01")
    folder = find_images(tmp_path / "few")
    assert folder.names == ["n01/1.png"] and folder.classes == ["n01"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "no image in it"),
        (["cat/1.png", "stray.png"], "stray.png lies beside folders"),
        (["a\nb.png"], "cannot stand on a line"),
        (["a\u2028b.png"], "cannot stand on a line"),
        ([os.fsdecode(b"a\xff.png")], "cannot stand on a line"),
    ],
)
def test_folders_that_are_refused(names: list[str], said: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(BadInputError, match=f"^IMAGES .*{said}"):
        find_images(tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="IMAGES .*nothing: no such folder"):
        find_images(tmp_path / "nothing")


def shown(image: Image.Image, file: Path) -> list[list[list[int]]]:
    image.save(file)
    loaded = load_image(file)
    assert loaded.mode == "RGB"
    return np.asarray(loaded).tolist()


def test_every_kind_is_rgb(tmp_path: Path) -> None:
    grey = Image.fromarray(np.array([[0, 200]], dtype=np.uint8))
    assert shown(grey, tmp_path / "grey.png") == [[[0] * 3, [200] * 3]]
    deep = Image.fromarray(np.array([[0, 1000, 65535]], dtype=np.uint16))
    for name in ("deep.png", "deep.tif"):
        assert shown(deep, tmp_path / name) == [[[0] * 3, [3] * 3, [255] * 3]]
    clear = Image.fromarray(np.array([[[1, 2, 3, 0], [4, 5, 6, 255]]], dtype=np.uint8))
    assert shown(clear, tmp_path / "clear.png") == [[[1, 2, 3], [4, 5, 6]]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([9, 8, 7, 6, 5, 4])
    palette.putpixel((1, 0), 1)
    palette.info["transparency"] = bytes([0, 128])
    assert shown(palette, tmp_path / "palette.png") == [[[9, 8, 7], [6, 5, 4]]]
    assert shown(Image.new("1", (1, 1), 1), tmp_path / "bit.png") == [[[255] * 3]]
    assert shown(Image.new("CMYK", (1, 1), (0, 255, 255, 0)), tmp_path / "ink.tif") == [
        [[255, 0, 0]]
    ]


def test_images_stand_upright(tmp_path: Path) -> None:
    """Orientation 6: turn by 90° clockwise to see it."""
    image = Image.fromarray(np.array([[10, 20]], dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    assert np.asarray(load_image(tmp_path / "turned.png"))[..., 0].tolist() == [[10], [20]]
    exif[0x0112] = 8
    image.save(tmp_path / "turned.png", exif=exif)
    assert np.asarray(load_image(tmp_path / "turned.png"))[..., 0].tolist() == [[20], [10]]


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    whole = picture(tmp_path / "whole.png", 3).read_bytes()
    contents = {
        "cut.png": whole[: len(whole) // 2],
        "empty.jpg": b"",
        "text.png": b"a page that was not found",
        # Ghostscript would run it.
        "program.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RunFailedError, match=f"{name}: cannot be read as an image") as error:
            load_image(tmp_path / name)
        assert "\n" not in str(error.value)
        assert ("cannot identify" in str(error.value)) == (name != "cut.png")


def test_numbers_without_a_range_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.5]], dtype=np.float32)).save(tmp_path / "depth.tif")
    with pytest.raises(RunFailedError, match=r"depth.tif: .*mode F"):
        load_image(tmp_path / "depth.tif")
