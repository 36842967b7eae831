"""A folder of images: which there are, in which order, of which class; and one of them in RGB."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.messages import one_line

_NOT_DECODED = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
"""Formats that pillow knows by name only, or leaves to another program, as EPS to Ghostscript."""


@dataclass(frozen=True)
class ImageFolder:
    """The images of a folder.

    Args:
        path: The folder, absolute.
        names: Path of each image in it, with forward slashes, in row order.
        classes: Names of the first-level folders that hold images, sorted; None where the images
            lie in the folder itself.
    """

    path: Path
    names: list[str]
    classes: list[str] | None

    def labels(self, names: Sequence[str]) -> torch.Tensor | None:
        """The index of each one's class, `(len(names),)` int64; None where there are no classes."""
        if self.classes is None:
            return None
        index = {name: number for number, name in enumerate(self.classes)}
        return torch.tensor([index[name.split("/")[0]] for name in names])


def find_images(folder: Path) -> ImageFolder:
    """Find what pillow can decode, by its suffix, in a folder and the folders below it.

    Links are followed. What is hidden, with a name that starts with a dot, is left out.

    Args:
        folder: The folder. Where it has folders, the first of them that leads to an image is the
            image's class, as in torchvision's ImageFolder.

    Raises:
        BadInputError: There is no such folder, or no image in it; there are images beside folders
            of images, so that some have a class and others none; a name cannot stand on a line.
    """
    if not folder.is_dir():
        raise BadInputError(f"IMAGES {folder}: no such folder; give one with images in it")
    found: list[tuple[str, ...]] = []
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        above = Path(parent).relative_to(folder).parts
        found += [(*above, name) for name in files if _is_image(name)]
    if not found:
        raise BadInputError(f"IMAGES {folder}: no image in it that pillow reads, by their suffixes")
    found.sort()
    names = ["/".join(parts) for parts in found]
    for name in names:
        # No surrogates, which are what is no UTF-8.
        if name.splitlines() != [name] or name != name.encode(errors="replace").decode():
            raise BadInputError(
                f"IMAGES {folder}: the name {name!r} cannot stand on a line of text; rename it"
            )
    beside = [parts[0] for parts in found if len(parts) == 1]
    if beside and len(beside) < len(found):
        raise BadInputError(
            f"IMAGES {folder}: {beside[0]} lies beside folders of images, which are classes; move "
            "it into one of them, or all images into one folder"
        )
    classes = None if beside else sorted({parts[0] for parts in found})
    return ImageFolder(Path(os.path.abspath(folder)), names, classes)


def load_image(path: Path) -> Image.Image:
    """Read an image, upright as its EXIF says, as RGB of 8 bits; its first frame if it is animated.

    Greys of 16 bits are scaled, not cut; transparency is dropped, as everywhere with such models.

    Raises:
        RunFailedError: It cannot be decoded.
    """
    try:
        with Image.open(path, formats=_formats()) as image:
            return _in_rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # Decoders raise whatever they come across.
        raise RunFailedError(
            f"{path}: cannot be read as an image: {one_line(error)}; put a readable one in its "
            "place or take it out, and give the same command again"
        ) from error


def _in_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # pillow itself would show everything above 255 as white.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are of mode {image.mode}, which has no white")
    if image.mode == "P":
        # By way of RGBA, or pillow warns of transparent palettes.
        image = image.convert("RGBA")
    return image.convert("RGB")


@cache
def _formats() -> list[str]:
    """What pillow decodes, in the order in which it tries."""
    Image.init()
    return [name for name in Image.OPEN if name not in _NOT_DECODED]


@cache
def _suffixes() -> frozenset[str]:
    return frozenset(end for end, of in Image.registered_extensions().items() if of in _formats())


def _is_image(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in _suffixes()
