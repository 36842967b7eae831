"""A Top-k training step whose only dense product is the encoder's."""

from __future__ import annotations

from wsae_plugin.kernels.dispatch import KERNELS, Kernel, choose_kernel, kernel_name
from wsae_plugin.kernels.encoder import Encoder
from wsae_plugin.kernels.pattern import Pattern
from wsae_plugin.kernels.products import decode, encode
from wsae_plugin.kernels.selection import batch_top_k, batch_top_k_scores, top_k, top_k_scores

__all__ = [
    "KERNELS",
    "Encoder",
    "Kernel",
    "Pattern",
    "batch_top_k",
    "batch_top_k_scores",
    "choose_kernel",
    "decode",
    "encode",
    "kernel_name",
    "top_k",
    "top_k_scores",
]
