"""What bias adaptation counts between two updates, in memory that does not grow with samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from wsae_plugin.compilation import not_compiled


class FiringCounters(nn.Module):
    """Firings and largest pre-activation of each latent since the last `reset`, as a stream.

    One persistent buffer, 12 bytes a latent. It is of bytes because SAELens casts every tensor of a
    checkpoint to the SAE's dtype, and bfloat16 holds 0..255 but no counts: a run that is resumed
    between two updates goes on bit for bit.

    Args:
        d_sae: latents of the SAE.
        device: the SAE's.
    """

    packed: Tensor
    packed_latents: ClassVar[Mapping[str, tuple[int, ...]]] = {"packed": (8, 4)}
    """Bytes a latent of the blocks that the buffer ends with."""

    def __init__(self, d_sae: int, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.d_sae = d_sae
        self.register_buffer(
            "packed", torch.empty(12 * d_sae + 8, dtype=torch.uint8, device=device)
        )
        self.reset()

    @property
    def n_samples(self) -> Tensor:
        """Samples seen, shape (), int64, a view of the buffer."""
        return self.packed[:8].view(torch.int64).squeeze(0)

    @property
    def firings(self) -> Tensor:
        """Samples that each latent fired on, shape (d_sae,), int64, a view of the buffer."""
        return self.packed[8 : 8 + 8 * self.d_sae].view(torch.int64)

    @property
    def largest(self) -> Tensor:
        """The largest pre-activation of each latent, shape (d_sae,), float32, a view."""
        return self.packed[8 + 8 * self.d_sae :].view(torch.float32)

    @not_compiled
    @torch.no_grad()
    def observe(self, hidden_pre: Tensor, feature_acts: Tensor) -> None:
        """Take in a batch.

        Args:
            hidden_pre: pre-activations, shape (..., d_sae).
            feature_acts: feature activations, at least 0, shape (..., d_sae); above 0 is a firing.
        """
        hidden_pre, feature_acts = hidden_pre.flatten(0, -2), feature_acts.flatten(0, -2)
        self.n_samples.add_(len(hidden_pre))
        # A sum of signs in float32, exact up to 2²⁴ rows: count_nonzero takes ten times as long.
        self.firings.add_(feature_acts.sign().sum(dim=0, dtype=torch.float32).long())
        largest = self.largest
        torch.maximum(largest, hidden_pre.amax(dim=0).to(largest.dtype), out=largest)

    @torch.no_grad()
    def reset(self) -> None:
        """Forget all samples."""
        self.packed.zero_()
        self.largest.fill_(-torch.inf)

    @torch.no_grad()
    def fold(self, factor: float) -> None:
        """Follow a change of units: activations are now this many times what they were."""
        self.largest.mul_(factor)

    @override
    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        packed = state_dict.get(f"{prefix}packed")
        if packed is not None:
            # A copy, since a mapped file need not be aligned to the eight bytes of an int64.
            state_dict[f"{prefix}packed"] = packed.to(torch.uint8, copy=True)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
