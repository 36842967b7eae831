"""A random few of the samples that stream past, with what an SAE makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from wsae_plugin.sources import Classes

N_KEPT = 4096
"""How many are kept: as many as can all be compared with each other in a second."""


@dataclass(frozen=True)
class Samples:
    """Samples that have a label, in random order, but those of one image together.

    Attributes:
        x: activations, shape (n, d_in), float32.
        codes: feature activations, shape (n, d_sae), a sparse CSR array of float32.
        labels: the class of each, shape (n,), int64.
        half: where to cut them in two about equal parts that share no image.
    """

    x: Tensor
    codes: sparse.csr_array
    labels: Tensor
    half: int


class KeptSamples:
    """Keeps `N_KEPT` of the samples that have a label, each with the same probability.

    Each sample draws a number, and those of the smallest numbers are kept.

    Args:
        d_in: dimensions of an activation.
        d_sae: number of latents.
        seed: of the draw.
    """

    def __init__(self, d_in: int, d_sae: int, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._drawn = torch.zeros(0, dtype=torch.float64)
        self._x = torch.zeros(0, d_in)
        self._codes: Any = sparse.csr_array((0, d_sae), dtype="float32")
        self._labels = torch.zeros(0, dtype=torch.long)
        self._images = torch.zeros(0, dtype=torch.long)

    def add(self, x: Tensor, codes: Tensor, classes: Classes) -> None:
        """Keep some of the next samples.

        Args:
            x: shape (n, d_in).
            codes: sparse COO, coalesced, shape (n, d_sae).
            classes: of which they are.
        """
        drawn = torch.rand(len(x), dtype=torch.float64, generator=self._generator)
        drawn = drawn.where(classes.labels.cpu() >= 0, torch.inf)
        everybody = torch.cat([self._drawn, drawn])
        n_kept = min(N_KEPT, int(everybody.isfinite().sum()))
        chosen = everybody.argsort()[:n_kept]
        before, new = chosen[chosen < len(self._drawn)], chosen[chosen >= len(self._drawn)]
        new = new - len(self._drawn)
        rows, latents = codes.indices().cpu().numpy()
        values = codes.values().float().cpu().numpy()
        theirs: Any = sparse.csr_array((values, (rows, latents)), shape=tuple(codes.shape))
        self._drawn = torch.cat([self._drawn[before], drawn[new]])
        self._x = torch.cat([self._x[before], x[new.to(x.device)].float().cpu()])
        self._codes = sparse.vstack(
            [self._codes[before.numpy()], theirs[new.numpy()]], format="csr"
        )
        self._labels = torch.cat([self._labels[before], classes.labels.cpu()[new]])
        self._images = torch.cat([self._images[before], classes.images.cpu()[new]])

    def samples(self) -> Samples:
        """Those kept so far."""
        _, image = self._images.unique(return_inverse=True)
        first = torch.full((len(self._images),), torch.inf, dtype=torch.float64)
        first = first.scatter_reduce(0, image, self._drawn, "amin")[image]
        order = np.lexsort([self._drawn.numpy(), first.numpy()])
        half = halfway(image[order])
        return Samples(self._x[order], self._codes[order], self._labels[order], half)


def halfway(images: Tensor) -> int:
    """Where samples, of which those of an image lie together, are cut in two about equal parts that
    share no image: how many are before; all of them where there is but one image.

    Args:
        images: Of which image each is, shape (n,).
    """
    cuts = (images[1:] != images[:-1]).nonzero().flatten() + 1
    return int(cuts[(2 * cuts - len(images)).abs().argmin()]) if len(cuts) else len(images)
