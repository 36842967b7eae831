"""What the theory assumes of a world, and how far each world is from it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from wsae_plugin.statistics import rounded
from wsae_plugin.toy.worlds import World


def facts_of(worlds: Sequence[World]) -> dict[str, float]:
    """What the theory's assumptions come to in these worlds, meaned over them.

    Returns:
        `variance_spread`: coefficient of variation of Var(x_p[q]) over q; near 0, Γ ≈ cI whatever
        α is. `positive_interference`: share of pairs of features with a positive product, which
        the theorems exclude. `represented`: share of features whose vector is longer than 0.5.
    """
    spreads: list[Tensor] = []
    positive: list[Tensor] = []
    represented: list[Tensor] = []
    for world in worlds:
        V, p = world.feature_vectors, world.firing_probabilities
        # x_i is 0, or uniform on [0, 1]: E x² = p/3, E x = p/2.
        variance = (p / 3 - p.square() / 4) @ V.square()
        spreads.append(variance.std(correction=0) / variance.mean())
        products = normalize(V, dim=1) @ normalize(V, dim=1).T
        pairs = products.triu(diagonal=1) > 1e-3
        positive.append(pairs.sum() / (len(V) * (len(V) - 1) / 2))
        represented.append((V.norm(dim=1) > 0.5).float().mean())
    return {
        "n_features": len(worlds[0].feature_vectors),
        "variance_spread": rounded(float(torch.stack(spreads).mean())),
        "positive_interference": rounded(float(torch.stack(positive).mean())),
        "represented": rounded(float(torch.stack(represented).mean())),
    }
