"""Labelled grey images from installed packages, in two splits that share no pixel.

`textures`, `pictures` (both scikit-image's) and `digits` (scikit-learn's) download nothing: what
they show is in the wheels of these packages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import skimage
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from wsae_plugin.files import folder_written_whole

TEXTURES = ("brick", "grass", "gravel")
PICTURES = (
    *("astronaut", "brick", "camera", "cell", "chelsea", "coffee", "coins", "grass", "gravel"),
    *("hubble_deep_field", "immunohistochemistry", "moon", "page", "retina", "rocket"),
    *("stereo_motorcycle", "text"),
)
"""All of scikit-image's wheel but what is drawn (its logo, the chessboard, the phantom, the horse),
the microaneurysms, which are a part of the retina, and the clock, most of which is a blur."""
PICTURE_PATCHES = {"train": 1100, "held_out": 550}
"""Of each class, so that chance is 1 in 17: about as many as the smallest, the cell, has."""
FLAT = 5.0
"""A patch whose pixels have a smaller standard deviation, of 255 grey levels, is left out: sky and
the edges of a microscope's field look alike in all pictures."""


@dataclass(frozen=True)
class LabelledImages:
    """Grey images and what they show.

    Attributes:
        images: Shape (n, height, width), uint8.
        labels: The class of each, a number of `classes`, shape (n,), int64.
        classes: What the numbers mean.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]


Splits = dict[str, LabelledImages]
"""`train` and `held_out`."""


def textures(size: int = 8, stride: int = 4) -> Splits:
    """Patches of bricks, grass and gravel: those of the upper halves, and those of the lower ones.

    Args:
        size: Height and width of a patch, pixels.
        stride: From one patch to the next, pixels.
    """
    return _splits({name: bands(_grey(name), 256, size, stride) for name in TEXTURES}, TEXTURES)


def pictures(size: int = 16, stride: int = 4) -> Splits:
    """As many patches of each of 17 pictures, from alternate bands of 64 rows.

    A class is a picture. Bands, since the halves of a photograph show different things.

    Args:
        size: Height and width of a patch, pixels.
        stride: From one patch to the next, pixels.
    """
    found: dict[str, dict[str, NDArray[np.uint8]]] = {}
    for name in PICTURES:
        drawn = np.random.default_rng(0)
        found[name] = {
            split: drawn.permutation(patches[patches.std(axis=(1, 2)) >= FLAT])[
                : PICTURE_PATCHES[split]
            ]
            for split, patches in bands(_grey(name), 64, size, stride).items()
        }
    return _splits(found, PICTURES)


def digits() -> Splits:
    """scikit-learn's 1,797 handwritten digits of 8 × 8 pixels, a third of each class held out."""
    bunch: Any = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    rows = train_test_split(
        np.arange(len(images)), test_size=1 / 3, stratify=bunch.target, random_state=0
    )
    return {
        split: LabelledImages(
            images[mine], bunch.target[mine].astype(np.int64), tuple("0123456789")
        )
        for split, mine in zip(("train", "held_out"), map(np.sort, rows), strict=True)
    }


def bands(
    picture: NDArray[np.uint8], height: int, size: int, stride: int
) -> dict[str, NDArray[np.uint8]]:
    """The patches of a picture that lie whole in one band of rows, its even bands and its odd ones.

    Args:
        picture: Shape (rows, columns).
        height: Of a band, rows; the last may be lower.
        size: Height and width of a patch, pixels.
        stride: From one patch to the next, pixels.

    Returns:
        `train`, from the first band, the third and so on, and `held_out`, from those between:
        each of shape (n, size, size).
    """
    found: dict[str, list[NDArray[np.uint8]]] = {"train": [], "held_out": []}
    for n, top in enumerate(range(0, len(picture) - size + 1, height)):
        band = picture[top : top + height]
        windows = np.lib.stride_tricks.sliding_window_view(band, (size, size))[::stride, ::stride]
        found["held_out" if n % 2 else "train"].append(windows.reshape(-1, size, size))
    return {split: np.concatenate(patches) for split, patches in found.items()}


def pixels(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Images as rows of grey levels from 0 to 1, shape (n, height · width)."""
    return images.reshape(len(images), -1) / np.float32(255)


def write_table(folder: Path, rows: Mapping[str, NDArray[np.float32]], splits: Splits) -> None:
    """Write a table of embeddings with its labels and images, whole or not at all.

    `folder/train` and `folder/held_out` hold activations.npy, (n, d), float32; labels.npy, (n,),
    int64; images.npy, (n, height, width), uint8; and classes.txt, a name a line. Rows are in a
    random order, the same each time: those of a class would otherwise be beside each other, and a
    reader that shuffles through a buffer needs one of many classes.

    Args:
        folder: An existing one is replaced.
        rows: Split → activations, shape (n, d), in the order of its images.
        splits: The images.
    """
    with folder_written_whole(folder) as partial:
        for split, labelled in splits.items():
            order = np.random.default_rng(0).permutation(len(labelled.labels))
            (partial / split).mkdir()
            np.save(partial / split / "activations.npy", rows[split][order])
            np.save(partial / split / "labels.npy", labelled.labels[order])
            np.save(partial / split / "images.npy", labelled.images[order])
            (partial / split / "classes.txt").write_text("\n".join(labelled.classes) + "\n")


def _grey(name: str) -> NDArray[np.uint8]:
    picture: Any = getattr(skimage.data, name)()
    if isinstance(picture, tuple):  # of a stereo pair, the left one
        picture = picture[0]
    if picture.ndim == 3:
        picture = np.rint(255 * skimage.color.rgb2gray(picture)).astype(np.uint8)
    return picture


def _splits(found: dict[str, dict[str, NDArray[np.uint8]]], classes: Sequence[str]) -> Splits:
    return {
        split: LabelledImages(
            np.concatenate([found[name][split] for name in classes]),
            np.repeat(np.arange(len(classes)), [len(found[name][split]) for name in classes]),
            tuple(classes),
        )
        for split in ("train", "held_out")
    }
