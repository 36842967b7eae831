"""One image in RGB, as every part of the plugin reads it."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from wsae_plugin.errors import RunFailedError
from wsae_plugin.messages import one_line

_NOT_DECODED = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
"""Formats that pillow knows by name only, or leaves to another program, as EPS to Ghostscript."""


def load_image(path: Path) -> Image.Image:
    """Read an image, upright as its EXIF says, as RGB of 8 bits; its first frame if it is animated.

    Greys of 16 bits are scaled, not cut; transparency is dropped, as everywhere with such models.

    Raises:
        RunFailedError: It cannot be decoded.
    """
    try:
        if not path.is_file():
            raise ValueError("there is no such file")  # noqa: TRY301 - what is no file may block
        with Image.open(path, formats=_formats()) as image:
            return _in_rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # Decoders raise whatever they come across.
        raise RunFailedError(
            f"{path}: cannot be read as an image: {one_line(error)}; put a readable one in its "
            "place or take it out, and give the same command again"
        ) from error


def is_image(name: str) -> bool:
    """Whether a file is one that pillow decodes, by its suffix, and is not hidden."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in _suffixes()


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
