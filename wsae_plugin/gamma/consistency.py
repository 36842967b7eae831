"""How far the samples that excite a dimension belong to one class, counted while samples stream by.

arXiv 2506.15963 (Section 5.2.2) calls "the proportion of top-activated samples that belong to their
most frequent class" the semantic consistency of a dimension. Its β is that of an SAE's input
dimensions, its score that of the latents. The code of non-negative contrastive learning (NCL,
PKU-ML/non_neg, main_eval.py), which it follows, takes all samples on which the dimension is active.
Both are here, of any dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wsae_plugin.errors import BadInputError

ACTIVE = 1e-5
"""A dimension is active on a sample above this, in activation units: NCL's threshold, there after
ReLU and after dividing each sample by its norm. Samples are not divided here: the threshold only
tells rounding from activity, and few activations lie between it and itself times a norm."""

FEWEST = 20
"""A dimension that is active on fewer samples has no consistency: one sample agrees with itself."""

N_TOP = 20
"""How many samples count as top-activated; the paper prints no number. It is `FEWEST`, so that all
dimensions are judged by equally many samples and gain equally by picking the best of the classes
after the fact, and no more than the smallest class of most data sets has: a class of 10 samples
limits the share of a modal class among 20 to a half."""

_BLOCK = 2**20
"""Elements that are compared at a time: they and their flags stay in the processor's cache."""
_ELEMENTS_AT_A_TIME = 2**24
"""Dense activations are counted in rows of so many elements, after each of which the smallest top
activation is known better."""
_ABOVE_ALL = 0x7FFFFFFF
"""Above the bits of every positive float32, which are ordered as the floats are."""


@dataclass(frozen=True)
class LabelEvidence:
    """Of which classes the samples are that excite each dimension.

    Attributes:
        active: samples of each class on which it is active, shape (d, n_classes), int64.
        top: the same of its `N_TOP` most active samples, or of all where it is active on fewer; of
            equally active ones, those that came first.
        class_sizes: samples of each class, shape (n_classes,), int64.
    """

    active: Tensor
    top: Tensor
    class_sizes: Tensor


class LabelCounter:
    """Counts the classes of the samples that excite each dimension, in one pass over them.

    It takes d · n_classes · 8 bytes, and 80 bytes for each top sample.

    Args:
        d: number of dimensions.
        n_classes: number of classes.
        device: where the counts are kept.
        n_top: how many samples are top-activated; 0 leaves them out.

    Example:
        >>> counter = LabelCounter(d=2, n_classes=3)
        >>> counter.add(torch.tensor([[1.0, 0.0], [2.0, -1.0]]), torch.tensor([0, 2]))
        >>> counter.evidence().active
        tensor([[1, 0, 1],
                [0, 0, 0]])
    """

    def __init__(
        self, d: int, n_classes: int, device: torch.device | str = "cpu", n_top: int = N_TOP
    ) -> None:
        self._shape = (d, n_classes)
        self._device = device
        self._active = torch.zeros(d * n_classes, dtype=torch.long, device=device)
        self._class_sizes = torch.zeros(n_classes, dtype=torch.long, device=device)
        self._n_top = n_top
        self._top: tuple[Tensor, ...] = (
            torch.zeros(0, dtype=torch.long, device=device),
            torch.zeros(0, device=device),
            torch.zeros(0, dtype=torch.long, device=device),
        )
        """Dimension, activation and label of the top samples, the largest of each first."""
        self._entering: list[tuple[Tensor, ...]] = [self._top]
        self._n_entering = 0
        self._smallest_top = torch.zeros(d, device=device)
        """What has to be exceeded to enter the top samples of each dimension."""

    @torch.no_grad()
    def add(self, activations: Tensor, labels: Tensor) -> None:
        """Count the next samples.

        Args:
            activations: shape (n, d), dense or sparse (COO or CSR); no more than `ACTIVE`, such as
                negative ones, are not active. Compared in float32.
            labels: the class of each sample, shape (n,), int64; −1 for a sample that has none and
                does not count.

        Raises:
            BadInputError: a label is no class.
        """
        d, n_classes = self._shape
        labels = labels.to(self._device)
        if len(labels) and not -1 <= int(labels.min()) <= int(labels.max()) < n_classes:
            raise BadInputError(
                f"labels: from {int(labels.min())} to {int(labels.max())}: must be from 0 to "
                f"{n_classes - 1}, the number of classes less one, or -1 for none"
            )
        self._class_sizes += torch.bincount(labels[labels >= 0], minlength=n_classes)
        if activations.layout != torch.strided:
            self._count(activations.to_sparse_coo().coalesce(), labels)
            return
        n_rows = max(1, _ELEMENTS_AT_A_TIME // d)
        for rows, classes in zip(activations.split(n_rows), labels.split(n_rows), strict=True):
            self._count(sparse_of(rows, above=ACTIVE), classes)

    def evidence(self) -> LabelEvidence:
        """What the samples so far say, on the CPU."""
        self._settle()
        d, n_classes = self._shape
        dimensions, _, labels = self._top
        top = torch.bincount(dimensions * n_classes + labels, minlength=d * n_classes)
        return LabelEvidence(
            active=self._active.cpu().reshape(d, n_classes).clone(),
            top=top.cpu().reshape(d, n_classes),
            class_sizes=self._class_sizes.cpu().clone(),
        )

    def _count(self, entries: Tensor, labels: Tensor) -> None:
        rows, dimensions = entries.indices().to(self._device)
        values = entries.values().to(self._device, torch.float32)
        classes = labels.index_select(0, rows)
        # Where all of them count, as most often, nothing is copied.
        if len(values) and not (values.min() > ACTIVE and classes.min() >= 0):
            counts = (values > ACTIVE) & (classes >= 0)
            dimensions, values, classes = _those(counts, dimensions, values, classes)
        cells = torch.add(classes, dimensions, alpha=self._shape[1])
        if 4 * len(cells) > len(self._active):
            self._active += torch.bincount(cells, minlength=len(self._active))
        else:
            # Slower for each of them, but does not pass over a table that is larger than they are.
            self._active.index_add_(0, cells, torch.ones_like(cells))
        if self._n_top:
            enter = values > self._smallest_top.index_select(0, dimensions)
            self._entering.append(_those(enter, dimensions, values, classes))
            self._n_entering += len(self._entering[-1][0])
            if self._n_entering >= self._shape[0] * self._n_top:
                self._settle()

    def _settle(self) -> None:
        """Keep the top ones of those that were kept and those that entered."""
        dimensions, values, classes = map(torch.cat, zip(*self._entering, strict=True))
        # One stable sort by dimension and falling value, so that the first of equals stay first.
        falling = (dimensions << 31) + (_ABOVE_ALL - values.view(torch.int32))
        falling, order = falling.sort(stable=True)
        of = falling >> 31
        # Those with as many as may stay of the same dimension before them go.
        stay = torch.ones_like(of, dtype=torch.bool)
        stay[self._n_top :] = of[self._n_top :] != of[: -self._n_top]
        (kept,) = _those(stay, order)
        self._top = tuple(each.index_select(0, kept) for each in (dimensions, values, classes))
        dimensions, values, _ = self._top
        ahead = self._n_top - 1
        is_full = dimensions[ahead:] == dimensions[: max(0, len(dimensions) - ahead)]
        full, smallest = _those(is_full, dimensions[ahead:], values[ahead:])
        self._smallest_top.index_copy_(0, full, smallest)
        self._entering, self._n_entering = [self._top], 0


def _those(which: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The elements where `which` is true, which indexing finds in three times the time."""
    return tuple(tensor.masked_select(which) for tensor in tensors)


def semantic_consistency(counts: Tensor) -> Tensor:
    """The share of the most frequent class, of each dimension (arXiv 2506.15963, Section 5.2.2).

    Args:
        counts: samples of each class, shape (d, n_classes).

    Returns:
        Shape (d,), float64, from 1 / n_classes to 1; NaN for fewer than `FEWEST` samples.

    Example:
        >>> semantic_consistency(torch.tensor([[15, 5], [1, 0]]))
        tensor([0.7500,    nan], dtype=torch.float64)
    """
    n = counts.sum(dim=1).double()
    return (counts.amax(dim=1) / n).masked_fill(n < FEWEST, torch.nan)


def chance(class_sizes: Tensor) -> float:
    """The share of the largest class: what a dimension that is active on every sample scores.

    Args:
        class_sizes: samples of each class, shape (n_classes,); NaN comes of none at all.
    """
    return float(class_sizes.max() / class_sizes.sum())


def sparse_of(activations: Tensor, above: float | None = None) -> Tensor:
    """The entries that are not 0, or those above a number, as a coalesced COO tensor.

    It takes about two reads of the activations where few are kept; torch's own search takes
    ten.

    Args:
        activations: shape (n, d), dense.
        above: what an entry has to exceed, in float32; None for anything but 0.
    """
    flat = activations.detach().reshape(-1)
    if flat.device.type == "cpu":
        wide = flat if flat.dtype in (torch.float32, torch.float64) else flat.float()
        places, values = map(torch.from_numpy, _entries(wide.numpy(), above))
    else:
        places = (flat != 0 if above is None else flat > above).nonzero().squeeze(1)
        values = flat[places]
    rows = places // activations.shape[1]
    return torch.sparse_coo_tensor(
        torch.stack([rows, places - rows * activations.shape[1]]),
        values.to(flat.dtype),
        activations.shape,
        check_invariants=False,
        is_coalesced=True,
    )


def _entries(flat: np.ndarray, above: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Where `flat` is above a number, or not 0, and what it is there.

    Flags of a block at a time, eight at a look; the values while they are in the cache.
    """
    compare, number = (np.not_equal, 0) if above is None else (np.greater, above)
    places: list[np.ndarray] = [np.zeros(0, dtype=np.int64)]
    values: list[np.ndarray] = [flat[:0]]
    flags = np.zeros(min(_BLOCK, 8 * (len(flat) // 8 + 1)), dtype=bool)
    eights, has_some = flags.view(np.uint64), np.zeros(len(flags) // 8, dtype=bool)
    for start in range(0, len(flat), _BLOCK):
        block = flat[start : start + _BLOCK]
        flags[len(block) :] = False
        compare(block, flat.dtype.type(number), out=flags[: len(block)])
        some = np.flatnonzero(np.not_equal(eights, 0, out=has_some))
        each = np.flatnonzero(eights[some].view(bool))
        found = 8 * some[each >> 3] + (each & 7)
        places.append(start + found)
        values.append(block[found])
    return np.concatenate(places), np.concatenate(values)
