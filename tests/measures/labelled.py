"""Samples of known classes, and latents that know them, or do not."""

from __future__ import annotations

import torch
from torch import Tensor

from wsae_plugin.measures.labelled import LabelledEvidence, LabelledSamples
from wsae_plugin.sources import Classes

N_CLASSES = 5


def world(n: int = 2000, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Activations (n, 8) around one direction for each class, labels (n,) and their shuffle."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, N_CLASSES, (n,), generator=generator)
    means = torch.eye(N_CLASSES, 8)[labels]
    x = 2 * means + 0.3 * torch.randn(n, 8, generator=generator)
    return x, labels, labels[torch.randperm(n, generator=generator)]


def class_latents(labels: Tensor, seed: int = 1) -> Tensor:
    """One latent for each class, active on its samples alone, (n, N_CLASSES)."""
    generator = torch.Generator().manual_seed(seed)
    strength = 0.5 + torch.rand(len(labels), 1, generator=generator)
    return torch.nn.functional.one_hot(labels, N_CLASSES) * strength


def blind_latents(labels: Tensor, n: int = 40, seed: int = 2) -> Tensor:
    """Latents that are active on a third of the samples, whatever these are, (n_samples, n)."""
    generator = torch.Generator().manual_seed(seed)
    strength = torch.rand(len(labels), n, generator=generator)
    return strength * (torch.rand(len(labels), n, generator=generator) < 1 / 3)


def collected(
    x: Tensor, acts: Tensor, labels: Tensor, shuffled: Tensor, batch: int = 700, seed: int = 0
) -> LabelledEvidence:
    samples = LabelledSamples(x.shape[1], acts.shape[1], N_CLASSES, seed)
    for start in range(0, len(x), batch):
        of = slice(start, start + batch)
        samples.add(x[of], acts[of], classes(labels[of], shuffled[of], start))
    return samples.evidence()


def classes(labels: Tensor, shuffled: Tensor, start: int = 0) -> Classes:
    """Of samples of an image each."""
    names = tuple(f"class {n}" for n in range(N_CLASSES))
    return Classes(labels, shuffled, torch.arange(start, start + len(labels)), names)
