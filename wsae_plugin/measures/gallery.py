"""The images that excite a few latents most, for people to look at, beside random directions."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from sae_lens import SAE
from torch import Tensor

from wsae_plugin.gamma.consistency import LabelEvidence, semantic_consistency
from wsae_plugin.measures.labelled import LabelledEvidence
from wsae_plugin.measures.sums import reconstruct
from wsae_plugin.measures.top_tokens import RandomProjection
from wsae_plugin.sources import Samples

N_IMAGES = 9
_PIXELS = 64
_PLACES = {"best": 1.0, "median": 0.5, "worst": 0.0}
"""Which latents are shown: by the quantile of their semantic consistency."""

Pictures = Callable[[Tensor], Sequence[Image.Image]]
"""Rows, int64 (n,) → what they look like."""


def gallery(
    sae: SAE[Any], batches: Sequence[Samples], labelled: LabelledEvidence, pictures: Pictures
) -> list[dict[str, Any]]:
    """Choose the latents of best, median and worst semantic consistency, and directions alike.

    Args:
        sae: The SAE.
        batches: All of what `labelled` was collected from.
        labelled: What the samples say of it.
        pictures: Of the rows.

    Returns:
        An entry for each: `kind` (`latent` or `random direction`), `which` (`best`, …), `number`,
        `consistency`, `of` (the most frequent class of its top samples) and `images`, PNGs as data
        addresses, the most exciting first.
    """
    project = RandomProjection(labelled.seed)
    kinds: Mapping[str, tuple[LabelEvidence, Callable[[Tensor], Tensor]]] = {
        "latent": (labelled.latents, lambda x: reconstruct(sae, x)[1]),
        "random direction": (labelled.directions, project),
    }
    names, rows = _names(batches[0]), torch.cat([_rows(batch) for batch in batches])
    entries: list[dict[str, Any]] = []
    for kind, (evidence, activations) in kinds.items():
        chosen = _chosen(semantic_consistency(evidence.top))
        numbers = [number for number, _ in chosen.values()]
        acts = torch.cat([activations(batch.x)[:, numbers].float().cpu() for batch in batches])
        for column, (which, (number, consistency)) in enumerate(chosen.items()):
            top = acts[:, column].topk(N_IMAGES)
            shown = pictures(rows[top.indices])
            entries.append(
                {
                    **{"kind": kind, "which": which, "number": number, "consistency": consistency},
                    "of": names[int(evidence.top[number].argmax())],
                    "images": [_address(image) for image in shown],
                }
            )
    return entries


def _names(batch: Samples) -> Sequence[str]:
    assert batch.classes is not None  # `labelled` was collected from them
    return batch.classes.names


def _rows(batch: Samples) -> Tensor:
    assert batch.rows is not None  # rows of a table
    return batch.rows


def _chosen(consistency: Tensor) -> dict[str, tuple[int, float]]:
    """Place → a dimension, and its consistency; of as many as have one."""
    measured = (~consistency.isnan()).nonzero().flatten()
    ascending = measured[consistency[measured].argsort(stable=True)]
    if not len(ascending):
        return {}
    places = {which: ascending[int(q * (len(ascending) - 1))] for which, q in _PLACES.items()}
    return {which: (int(n), float(consistency[n])) for which, n in places.items()}


def _address(image: Image.Image) -> str:
    image = image.convert("RGB")
    image.thumbnail((_PIXELS, _PIXELS))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
