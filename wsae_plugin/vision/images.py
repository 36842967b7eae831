"""A folder of images: which there are, in which order, of which class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from wsae_plugin.errors import BadInputError
from wsae_plugin.images import is_image


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
        found += [(*above, name) for name in files if is_image(name)]
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
