"""Everything that a measure may look at, of one SAE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from sae_lens.synthetic.evals import SyntheticDataEvalResult
from torch import Tensor

from wsae_plugin.measures.seed_agreement import Seeds
from wsae_plugin.measures.sums import HeldOutSums
from wsae_plugin.measures.top_tokens import TokenEvidence


@dataclass(frozen=True)
class Evidence:
    """What held-out activations say of one SAE, and what it has to be compared with.

    Args:
        sums: Over the held-out batches.
        tokens: What its latents say of the tokens; None without a language model.
        truth: What SAELens measures against the features of a synthetic model; None without one.
        gamma: Its own γ, shape (d_in,); ones for an ordinary SAE.
        weighted: Arm → γ of the weighted arms that saw the same data, the strongest first.
        seeds: The runs that differ from this one in their seed alone, this one among them.
    """

    sums: HeldOutSums
    tokens: TokenEvidence | None = None
    truth: SyntheticDataEvalResult | None = None
    gamma: Tensor = field(default_factory=lambda: torch.ones(1))
    weighted: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    seeds: Seeds = Seeds(())
