"""The activations of the toy SAEs: none, ReLU, JumpReLU with a fixed threshold, Top-k."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Activation:
    """σ, applied to pre-activations (..., d_sae).

    Attributes:
        kind: which one.
        threshold: of JumpReLU; it is fixed and gets no gradient.
        k: of Top-k.
    """

    kind: Literal["none", "relu", "jumprelu", "topk"]
    threshold: float = 0.0
    k: int = 0

    @property
    def label(self) -> str:
        """For readers: `none`, `ReLU`, `JumpReLU 0.1`, `Top-2`."""
        jump, top = f"JumpReLU {self.threshold:g}", f"Top-{self.k}"
        return {"none": "none", "relu": "ReLU", "jumprelu": jump, "topk": top}[self.kind]

    def __call__(self, hidden_pre: Tensor, scores: Tensor | None = None) -> Tensor:
        """σ(hidden_pre); `scores` are what Top-k compares, by default hidden_pre itself."""
        if self.kind == "none":
            return hidden_pre
        if self.kind == "relu":
            return hidden_pre.relu()
        if self.kind == "jumprelu":
            return hidden_pre * (hidden_pre > self.threshold)
        places = self.active(hidden_pre if scores is None else scores)
        values = hidden_pre.gather(-1, places).relu()
        return torch.zeros_like(hidden_pre).scatter(-1, places, values)

    def active(self, scores: Tensor) -> Tensor:
        """For Top-k: which k latents may be active, indices (..., k)."""
        return scores.topk(min(self.k, scores.shape[-1]), dim=-1, sorted=False).indices


NO_ACTIVATION = Activation("none")
RELU = Activation("relu")


def jump_relu(threshold: float) -> Activation:
    """z · 1[z > threshold]."""
    return Activation("jumprelu", threshold=threshold)


def top_k(k: int) -> Activation:
    """The k largest pre-activations, through a ReLU, as in SAELens."""
    return Activation("topk", k=k)
