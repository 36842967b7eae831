"""What the processes of a run tell each other in a training step, counted from its config.

Everything that grows with the batch; numbers that are one for an SAE, and the gradient of b_dec,
come on top and are a few kilobytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sae_lens import TrainingSAEConfig
from sae_lens.util import str_to_dtype

from wsae_plugin.distributed.shards import n_candidates

_KEY_BYTES = 8
_BATCHWISE = ("weighted_batchtopk", "weighted_matryoshka_batchtopk")
_SPARSE = ("weighted_topk", *_BATCHWISE)


@dataclass(frozen=True)
class Volume:
    """Bytes that a process gives in a step, by what they are.

    Args:
        candidates: Scores that may be among the k highest, gathered.
        reconstructions: Partial sums over latents, added up.
        dead_candidates: Scores of dead latents, gathered while there are more than the loss takes.
        dead_reconstructions: Their partial sums, while any latent is dead.
    """

    candidates: int = 0
    reconstructions: int = 0
    dead_candidates: int = 0
    dead_reconstructions: int = 0

    def sent(self, n: int) -> dict[str, int]:
        """What of it goes over the wire from one of n processes that pass it on in a ring.

        A gather passes on the parts of all others, n − 1 of them; a sum 2(n − 1)/n of its size.
        """
        return {
            "candidates": (n - 1) * self.candidates,
            "reconstructions": 2 * (n - 1) * self.reconstructions // n,
            "dead_candidates": (n - 1) * self.dead_candidates,
            "dead_reconstructions": 2 * (n - 1) * self.dead_reconstructions // n,
        }


def volume_of(cfg: TrainingSAEConfig, batch: int, n: int) -> Volume:
    """What an SAE that n processes share takes for a step on so many activations."""
    a = cfg.architecture()
    sum_bytes = batch * cfg.d_in * str_to_dtype(cfg.dtype).itemsize
    fields: Any = cfg
    if a == "gba":
        return Volume(reconstructions=sum_bytes * (1 + (fields.direction_scale is not None)))
    if a not in _SPARSE:
        # The gates of a gated SAE reconstruct, too.
        return Volume(reconstructions=sum_bytes * (2 if a == "weighted_gated" else 1))
    levels = len(getattr(fields, "matryoshka_widths", [0]))
    candidates = batch * n_candidates(fields.k, n)
    if a in _BATCHWISE:
        candidates = n_candidates(int(batch * fields.k), n)
    return Volume(
        candidates=candidates * _KEY_BYTES,
        reconstructions=levels * sum_bytes,
        dead_candidates=batch * n_candidates(cfg.d_in // 2, n) * _KEY_BYTES,
        dead_reconstructions=sum_bytes,
    )
