"""What the rows of a table look like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.sources.pictures import read_pictures


def test_arrays_are_the_pictures_of_their_rows(tmp_path: Path) -> None:
    arrays = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
    np.save(tmp_path / "p.npy", arrays)
    pictures = read_pictures(str(tmp_path / "p.npy"), 6, "images", None)
    assert pictures is not None
    first, second = pictures(torch.tensor([4, 0]))
    assert np.array_equal(np.asarray(first), arrays[4])
    assert np.array_equal(np.asarray(second), arrays[0])
    assert read_pictures(None, 6, "images", None) is None


def test_a_patch_is_marked_in_its_image(tmp_path: Path) -> None:
    """Nine rows an image: patch 5 is in the middle row, on the right."""
    names = ["a.png", "b.png"]
    for name in names:
        Image.new("L", (40, 40), 128).save(tmp_path / name)
    (tmp_path / "images.txt").write_text("\n".join(names))
    pictures = read_pictures(str(tmp_path / "images.txt"), 18, "images", str(tmp_path))
    assert pictures is not None
    (image,) = pictures(torch.tensor([9 + 5]))
    red = (np.asarray(image) == (255, 0, 0)).all(axis=-1)
    rows, columns = np.nonzero(red)
    assert (rows.min(), rows.max()) == (42, 84)
    assert (columns.min(), columns.max()) == (85, 127)
    # Two rows are no square: the image as it is.
    pictures = read_pictures(str(tmp_path / "images.txt"), 4, "images", None)
    assert pictures is not None
    assert pictures(torch.tensor([3]))[0].size == (40, 40)
    # As it is, too, where no patch would be seen.
    for side, size in ((128, 128), (129, 40)):
        pictures = read_pictures(str(tmp_path / "images.txt"), 2 * side**2, "images", str(tmp_path))
        assert pictures is not None
        assert pictures(torch.tensor([2 * side**2 - 1]))[0].size == (size, size)


def test_paths_are_relative_to_the_folder_that_was_embedded_or_to_their_file(
    tmp_path: Path,
) -> None:
    for folder, grey in (("images", 200), ("table", 50)):
        (tmp_path / folder).mkdir()
        Image.new("L", (3, 3), grey).save(tmp_path / folder / "a.png")
    (tmp_path / "table" / "images.txt").write_text("a.png\n")
    said = str(tmp_path / "table" / "images.txt")
    for folder, grey in ((str(tmp_path / "images"), 200), (None, 50)):
        pictures = read_pictures(said, 1, "images", folder)
        assert pictures is not None
        assert pictures(torch.tensor([0]))[0].getpixel((0, 0)) == (grey,) * 3


def test_a_picture_that_was_lost_is_grey(tmp_path: Path) -> None:
    names = ["a.png", "b.png", "c.png"]
    for name in names:
        Image.new("L", (40, 40), 255).save(tmp_path / name)
    (tmp_path / "p.txt").write_text("\n".join(names))
    pictures = read_pictures(str(tmp_path / "p.txt"), 3, "images", None)
    assert pictures is not None
    (tmp_path / "b.png").unlink()
    with pytest.warns(UserWarning, match=r"b.png: cannot be read as an image: there is no such"):
        shown = pictures(torch.tensor([0, 1, 2]))
    assert [image.getpixel((5, 5)) for image in shown] == [(255,) * 3, (128,) * 3, (255,) * 3]
    # Before the training, the first and the last are looked at.
    for lost in ("c.png", "a.png"):
        Image.new("L", (40, 40), 255).save(tmp_path / "a.png")
        (tmp_path / lost).unlink()
        with pytest.raises(RunFailedError, match=f"{lost}: cannot be read"):
            read_pictures(str(tmp_path / "p.txt"), 3, "images", None)
        Image.new("L", (40, 40), 255).save(tmp_path / "c.png")


def test_bad_pictures_are_refused(tmp_path: Path) -> None:
    def refuses(match: str, array: np.ndarray | None) -> None:
        if array is not None:
            np.save(tmp_path / "p.npy", array)
        with pytest.raises(BadInputError, match=match):
            read_pictures(str(tmp_path / "p.npy"), 6, "images", None)

    refuses("images = .*no such file", None)
    refuses("must hold one array", np.zeros((6, 4, 4), dtype=np.float32))
    refuses("must hold one array", np.zeros((6, 16), dtype=np.uint8))
    refuses("has 4 pictures, which is no divisor of 6 rows", np.zeros((4, 4, 4), dtype=np.uint8))
