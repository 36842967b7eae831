"""Random dictionaries: X = HV with Gaussian rows V."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wsae_plugin.errors import BadInputError
from wsae_plugin.toy.streams import stream
from wsae_plugin.toy.worlds.world import World, make_world


def random_dictionary(
    n_features: int,
    d_in: int,
    n_active: Sequence[int],
    *,
    seed: int = 0,
    coherence: float = 0.0,
    n_clusters: int = 1,
) -> World:
    """Make data of arXiv 2506.14002: a row of H has s nonzeros, uniform on [0, 1], s of a list.

    Args:
        n_features: rows of V.
        d_in: columns of V.
        n_active: the values of s, each used for the same share of the samples: (3, 20) is that
            paper's mixture.
        seed: of V, whose entries are Gaussian with variance 1 / d_in, so that rows have length
            about 1.
        coherence: the expected cosine of two rows of one cluster, in [0, 1): each is that share of
            a Gaussian centre, in the sense of squared lengths. 0 is the paper's.
        n_clusters: rows are dealt out to this many clusters in turn; 1 is a component that all
            share.

    Raises:
        BadInputError: an s is below 1 or above n_features.
    """
    if not n_active or any(not 1 <= s <= n_features for s in n_active):
        raise BadInputError(
            f"n_active is {list(n_active)}; each is a number of features from 1 to {n_features}."
        )
    choices = torch.tensor(n_active)

    def keep_exactly_s(activations: Tensor) -> Tensor:
        s = choices[torch.randint(len(choices), (len(activations), 1))]
        rank = torch.rand_like(activations).argsort(dim=1).argsort(dim=1)
        return activations * (rank < s)

    feature_vectors = _gaussian_rows(n_features, d_in, seed, coherence, n_clusters)
    return make_world(feature_vectors, 1.0, [keep_exactly_s])


def dictionary_of_frequencies(
    frequencies: Tensor,
    d_in: int,
    *,
    seed: int = 0,
    coherence: float = 0.0,
    n_clusters: int = 1,
) -> World:
    """Make the same V with features that fire independently, each as often as it is told.

    Args:
        frequencies: shape (n_features,), in (0, 1].
        d_in: columns of V.
        seed: of V.
        coherence: as in `random_dictionary`.
        n_clusters: as in `random_dictionary`.

    Raises:
        BadInputError: a frequency is not in (0, 1].
    """
    feature_vectors = _gaussian_rows(len(frequencies), d_in, seed, coherence, n_clusters)
    return make_world(feature_vectors, frequencies)


def _gaussian_rows(
    n_features: int, d_in: int, seed: int, coherence: float, n_clusters: int
) -> Tensor:
    generator = stream("directions", seed)
    rows = torch.randn(n_features, d_in, generator=generator) / d_in**0.5
    centres = torch.randn(n_clusters, d_in, generator=generator) / d_in**0.5
    own = centres[torch.arange(n_features) % n_clusters]
    return (1 - coherence) ** 0.5 * rows + coherence**0.5 * own
