"""Which latents are shown, by which of their samples."""

from __future__ import annotations

import base64
import io
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from tests.measures.labelled import N_CLASSES
from wsae_plugin.gamma.consistency import semantic_consistency
from wsae_plugin.measures.gallery import N_IMAGES, gallery
from wsae_plugin.measures.labelled import LabelledEvidence, LabelledSamples
from wsae_plugin.measures.top_tokens import RandomProjection
from wsae_plugin.sources import Classes, Samples

N = 60
NAMES = tuple(f"class {n}" for n in range(N_CLASSES))
SAE: Any = SimpleNamespace(device="cpu", encode=torch.relu, decode=torch.clone)


def pictures(rows: Tensor) -> list[Image.Image]:
    """A picture that shows the number of its row."""
    return [Image.new("RGB", (2, 2), (row // 256, row % 256, 0)) for row in rows.tolist()]


def rows_of(entry: dict[str, Any]) -> list[int]:
    found: list[int] = []
    for address in entry["images"]:
        start, _, content = address.partition(",")
        assert start == "data:image/png;base64"
        red, green, _ = Image.open(io.BytesIO(base64.b64decode(content))).getpixel((0, 0))  # pyright: ignore[reportGeneralTypeIssues, reportUnknownVariableType]
        found.append(256 * red + green)
    return found


def shown(x: Tensor, labels: Tensor) -> tuple[list[dict[str, Any]], LabelledEvidence, Tensor]:
    """The gallery of three batches, what they say, and the number of each row."""
    rows = 700 - 3 * torch.arange(len(x))
    collected = LabelledSamples(x.shape[1], x.shape[1], N_CLASSES, seed=0)
    batches: list[Samples] = []
    for of in torch.arange(len(x)).chunk(3):
        batches.append(Samples(x[of], rows[of], Classes(labels[of], labels[of], rows[of], NAMES)))
        collected.add(x[of], SAE.encode(x[of]), batches[-1].classes)  # pyright: ignore[reportArgumentType]
    labelled = collected.evidence()
    return gallery(SAE, batches, labelled, pictures), labelled, rows


def planted() -> tuple[Tensor, Tensor]:
    """Latents 1 to 5 have a consistency of 0.55 to 1, of classes of their own; latent 0
    is active on too few samples."""
    generator = torch.Generator().manual_seed(0)
    # In random order, so that the samples of a class are in every batch.
    labels = (torch.arange(N) % 3)[torch.randperm(N, generator=generator)]
    x = -torch.rand(N, 6, generator=generator)
    x[:19, 0] = 9
    of = [(labels == c).nonzero().flatten() for c in range(3)]
    for latent, (mode, n) in enumerate(((2, 11), (0, 20), (1, 16), (2, 13), (0, 18)), start=1):
        other = of[(mode + 1) % 3]
        active = torch.cat([of[mode][:n], other[: 20 - n]])
        x[active, latent] = 1 + torch.rand(20, generator=generator)
    return x, labels


def test_the_best_the_median_and_the_worst_by_what_excites_them_most() -> None:
    x, labels = planted()
    entries, labelled, rows = shown(x, labels)
    found = [(e["which"], e["number"], e["consistency"], e["of"]) for e in entries[:3]]
    assert found == [
        ("best", 2, 1.0, "class 0"),
        ("median", 3, 0.8, "class 1"),
        ("worst", 1, 0.55, "class 2"),
    ]
    for entry in entries[:3]:
        top = x[:, entry["number"]].argsort(descending=True)[:N_IMAGES]
        assert rows_of(entry) == rows[top].tolist()
    assert [entry["kind"] for entry in entries] == ["latent"] * 3 + ["random direction"] * 3
    # Beside them the directions that were measured, which are centred by the first batch.
    project, directions = RandomProjection(0), semantic_consistency(labelled.directions.top)
    projected = torch.cat([project(batch) for batch in x.chunk(3)])
    measured = directions[~directions.isnan()].sort().values
    middle = measured[(len(measured) - 1) // 2]
    for entry, consistency in zip(entries[3:], (measured[-1], middle, measured[0]), strict=True):
        assert entry["consistency"] == directions[entry["number"]] == consistency
        top = projected[:, entry["number"]].argsort(descending=True)[:N_IMAGES]
        assert rows_of(entry) == rows[top].tolist()


def test_latents_without_a_consistency_are_not_shown() -> None:
    x, labels = planted()
    entries, *_ = shown(x.clamp(max=0), labels)
    assert {entry["kind"] for entry in entries} == {"random direction"}


def test_pictures_are_small() -> None:
    def large(rows: Tensor) -> list[Image.Image]:
        return [Image.new("L", (300, 100), 7) for _ in rows]

    x, labels = planted()
    _, labelled, rows = shown(x, labels)
    batch = Samples(x, rows, Classes(labels, labels, rows, NAMES))
    address = gallery(SAE, [batch], labelled, large)[0]["images"][0]
    image = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    assert (image.mode, image.size) == ("RGB", (64, 21))
