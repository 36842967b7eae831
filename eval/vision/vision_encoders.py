"""A small contrastive encoder and a small non-negative one, trained on labelled images.

Non-negative contrastive learning (NCL, arXiv 2403.12459) is SimCLR (arXiv 2002.05709) with a ReLU
after the projector. As in the authors' code, the ReLU is given the derivative of a GELU
(`rep_relu`), so that dimensions do not die, and features are of length 1; temperature 0.2.
Labels are used to describe an encoder, never to train it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 as in torch's own documentation
from numpy.typing import NDArray
from torch import Tensor, nn

from wsae_plugin.gamma.consistency import ACTIVE, FEWEST

TEMPERATURE = 0.2
"""Theirs, on CIFAR and on ImageNet-100."""
_BATCH = 2048
"""Images that are embedded at once."""


@dataclass(frozen=True)
class Recipe:
    """How an encoder is trained.

    Attributes:
        is_non_negative: NCL; SimCLR otherwise.
        epochs: Times that each image is shown, in two views.
        flips: Whether a mirrored image is still of its class: not where it is a digit.
        width: Channels of the first of three convolutions; the next have two and four times these.
        d: Dimensions of the features.
        batch: Images in a step; each is told apart from all others of its batch.
        lr: Adam's, at the start of a cosine.
        seed: Of the weights, the order and the views.
    """

    is_non_negative: bool
    epochs: int
    flips: bool = True
    width: int = 32
    d: int = 256
    batch: int = 256
    lr: float = 5e-4
    seed: int = 0


class Encoder(nn.Module):
    """Three convolutions and a projector, from an image to a feature vector of length 1.

    Args:
        size: Height and width of the images, a multiple of 8: the first convolution makes 8 × 8.
        recipe: Its width and d, and whether its features are non-negative.
    """

    def __init__(self, size: int, recipe: Recipe) -> None:
        super().__init__()
        self._is_non_negative = recipe.is_non_negative
        w = recipe.width
        channels = (1, w, 2 * w, 4 * w)
        layers: list[nn.Module] = []
        for n, (before, after) in enumerate(zip(channels, channels[1:], strict=False)):
            stride = size // 8 if n == 0 else 2
            layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)]
            layers.append(nn.ReLU())
        self.backbone = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.projector = nn.Sequential(nn.Linear(16 * w, 512), nn.ReLU(), nn.Linear(512, recipe.d))

    def forward(self, images: Tensor) -> Tensor:
        """The features, shape (n, d), of images in [0, 1], shape (n, height, width)."""
        z = self.projector(self.backbone(images.unsqueeze(1) * 4 - 2))
        return F.normalize(rep_relu(z) if self._is_non_negative else z, dim=1)


def rep_relu(z: Tensor) -> Tensor:
    """ReLU, with the derivative of GELU."""
    soft = F.gelu(z)
    return soft - soft.detach() + F.relu(z).detach()


def contrastive_loss(one: Tensor, other: Tensor) -> Tensor:
    """InfoNCE as SimCLR has it (NT-Xent): find an image's other view among all views of a batch.

    Args:
        one: Features of a view of each image, of length 1, shape (n, d).
        other: Those of another view.
    """
    both = torch.cat([one, other])
    similarity = (both @ both.T / TEMPERATURE).fill_diagonal_(-math.inf)
    return F.cross_entropy(similarity, torch.arange(len(both)).roll(len(one)))


def views(images: Tensor, flips: bool, generator: torch.Generator) -> Tensor:
    """Turned, scaled, shifted, brightened and noisy copies of images.

    Turns are up to 20°, scales from 0.7 to 1.1 of what is seen, shifts up to 0.15 of the half
    width; what was outside the image is mirrored. Contrast is changed by factors from 0.6 to 1.4,
    brightness by up to 0.2, and each pixel by noise of 0.05.

    Args:
        images: Shape (n, height, width), in [0, 1].
        flips: Whether some are mirrored, too.
        generator: Of all that is random.

    Returns:
        Shape (n, height, width), in [0, 1].
    """
    n = len(images)

    def drawn(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    angle, scale = drawn(-math.pi / 9, math.pi / 9), drawn(0.7, 1.1)
    mirror = drawn(-1, 1).sign() if flips else torch.ones(n)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rows = [mirror * cos, -sin, drawn(-0.15, 0.15), mirror * sin, cos, drawn(-0.15, 0.15)]
    theta = torch.stack(rows, dim=1).view(n, 2, 3)
    grid = F.affine_grid(theta, [n, 1, *images.shape[1:]], align_corners=False)
    moved = F.grid_sample(
        images.unsqueeze(1), grid, padding_mode="reflection", align_corners=False
    ).squeeze(1)
    mean = moved.mean(dim=(1, 2), keepdim=True)
    contrast, brightness = drawn(0.6, 1.4), drawn(-0.2, 0.2)
    lit = (moved - mean) * contrast.view(n, 1, 1) + mean + brightness.view(n, 1, 1)
    return (lit + 0.05 * torch.randn(lit.shape, generator=generator)).clamp(0, 1)


def train(images: NDArray[np.uint8], recipe: Recipe) -> Encoder:
    """Train an encoder on images without their labels.

    Args:
        images: Shape (n, height, width), n at least the recipe's batch.
        recipe: How.

    Returns:
        The encoder, in evaluation mode. The same for the same arguments on the same machine; the
        global random state is left alone.
    """
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        encoder = Encoder(images.shape[1], recipe)
    generator = torch.Generator().manual_seed(recipe.seed)
    data = _unit_range(images)
    steps = recipe.epochs * (len(data) // recipe.batch)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=recipe.lr, weight_decay=1e-5)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(recipe.epochs):
        order = torch.randperm(len(data), generator=generator)
        for rows in order[: len(data) // recipe.batch * recipe.batch].view(-1, recipe.batch):
            pair = [views(data[rows], recipe.flips, generator) for _ in range(2)]
            one, other = encoder(torch.cat(pair)).chunk(2)
            loss = contrastive_loss(one, other)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
    return encoder.eval()


@torch.no_grad()
def embed(encoder: Encoder, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The features of images, shape (n, d)."""
    return torch.cat([encoder(part) for part in _unit_range(images).split(_BATCH)]).numpy()


def _unit_range(images: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(images).float() / 255


def live_dimensions(features: NDArray[np.float32]) -> NDArray[np.intp]:
    """Which dimensions are active on enough images to have a semantic consistency.

    The authors' main_eval.py leaves out those that are never active.
    """
    return np.flatnonzero((features > ACTIVE).sum(axis=0) >= FEWEST)
