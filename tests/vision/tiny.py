"""Vision models with random weights, saved as they are published, and small pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
N_PATCHES = 16


def save_model(model: Any, folder: Path) -> Path:
    """Save a model with a processor that makes 32 × 32 pixels of every image."""
    model.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def vit(folder: Path, seed: int = 0, **changes: Any) -> Path:
    torch.manual_seed(seed)
    return save_model(transformers.ViTModel(transformers.ViTConfig(**SIZES | changes)), folder)


def resnet(folder: Path) -> Path:
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
    )
    transformers.ResNetModel(config).save_pretrained(folder)
    ConvNextImageProcessorPil(size={"shortest_edge": 32}).save_pretrained(folder)
    return folder


def put_into_cache(hf_home: Path, name: str) -> None:
    """A random ViT, laid out as the Hub's cache is."""
    repository = hf_home / "hub" / f"models--{name.replace('/', '--')}"
    revision = "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision)
    vit(repository / "snapshots" / revision)


def picture(file: Path, seed: int) -> Path:
    """A picture of noise; the seed decides on its size, too."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20 + seed, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)
    return file


def pictures(folder: Path) -> Path:
    """Seven pictures of two classes, one of which has a folder inside."""
    for seed, name in enumerate(
        [
            "cat/3.png",
            "cat/1.png",
            "ant/z.jpg",
            "ant/a/9.png",
            "cat/20.bmp",
            "ant/b.png",
            "cat/x.gif",
        ]
    ):
        picture(folder / name, seed)
    return folder


NAMES = [
    *("ant/a/9.png", "ant/b.png", "ant/z.jpg"),
    *("cat/1.png", "cat/20.bmp", "cat/3.png", "cat/x.gif"),
]
LABELS = [0, 0, 0, 1, 1, 1, 1]
