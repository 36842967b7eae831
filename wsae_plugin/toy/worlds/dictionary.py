"""Random dictionaries, and data with a certain number of features a sample: X = HV."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wsae_plugin.errors import BadInputError
from wsae_plugin.toy.streams import stream
from wsae_plugin.toy.worlds.world import World, make_world


def random_directions(
    n_features: int, d_in: int, *, seed: int = 0, coherence: float = 0.0, n_clusters: int = 1
) -> Tensor:
    """Draw V of arXiv 2506.14002, shape (n_features, d_in): Gaussian, rows of length about 1.

    Args:
        n_features: rows of V.
        d_in: columns of V; entries have the variance 1 / d_in.
        seed: of all that is drawn.
        coherence: the expected cosine of two rows of one cluster, in [0, 1): each is that share of
            a Gaussian centre, in the sense of squared lengths. 0 is the paper's.
        n_clusters: rows are dealt out to this many clusters in turn; 1 is a component that all
            share.
    """
    generator = stream("directions", seed)
    rows = torch.randn(n_features, d_in, generator=generator) / d_in**0.5
    centres = torch.randn(n_clusters, d_in, generator=generator) / d_in**0.5
    own = centres[torch.arange(n_features) % n_clusters]
    return (1 - coherence) ** 0.5 * rows + coherence**0.5 * own


def exactly_sparse(feature_vectors: Tensor, n_active: Sequence[int]) -> World:
    """Make data of arXiv 2506.14002: a row of H has s nonzeros, uniform on [0, 1], s of a list.

    Args:
        feature_vectors: V, shape (n_features, d_in).
        n_active: the values of s, each used for the same share of the samples: (3, 20) is that
            paper's mixture.

    Raises:
        BadInputError: an s is below 1 or above n_features.
    """
    n_features = len(feature_vectors)
    if not n_active or any(not 1 <= s <= n_features for s in n_active):
        raise BadInputError(
            f"n_active is {list(n_active)}; each is a number of features from 1 to {n_features}."
        )
    choices = torch.tensor(n_active)

    def keep_exactly_s(activations: Tensor) -> Tensor:
        s = choices[torch.randint(len(choices), (len(activations), 1))]
        rank = torch.rand_like(activations).argsort(dim=1).argsort(dim=1)
        return activations * (rank < s)

    return make_world(feature_vectors, 1.0, [keep_exactly_s])
