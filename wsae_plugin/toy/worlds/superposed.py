"""The toy model of superposition as a world: x_p = W_p x with a learned W_p."""

from __future__ import annotations

from torch import Tensor

from wsae_plugin.toy.worlds.world import World, make_world


def superposed(feature_vectors: Tensor, sparsity: float) -> World:
    """Make the world of arXiv 2506.15963, eqs. 1–3: x_i = 0 with probability S, else uniform.

    Args:
        feature_vectors: W_pᵀ, shape (n_features, d_in), from `learn_superposition`.
        sparsity: S, in [0, 1).
    """
    return make_world(feature_vectors, 1 - sparsity)
