"""What every world offers: its feature vectors, and samples of both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sae_lens.synthetic import (
    ActivationGenerator,
    ActivationsModifier,
    FeatureDictionary,
)
from sae_lens.util import temporary_seed
from torch import Tensor

from wsae_plugin.errors import BadInputError


@dataclass(frozen=True, eq=False)
class World:
    """Activations x_p = x @ feature_vectors of features x ≥ 0 that are known.

    `feature_dict` and `activation_generator` are SAELens's, so all of `sae_lens.synthetic` works
    with them: `train_toy_sae`, `eval_sae_on_synthetic_data`, `init_sae_to_match_feature_dict`.

    Attributes:
        feature_dict: SAELens's dictionary, without a bias.
        activation_generator: SAELens's generator of x.
        is_independent: whether the features fire independently of each other.
    """

    feature_dict: FeatureDictionary
    activation_generator: ActivationGenerator
    is_independent: bool

    @property
    def feature_vectors(self) -> Tensor:
        """Row i is the direction of feature i, shape (n_features, d_in)."""
        return self.feature_dict.feature_vectors.detach()

    @property
    def firing_probabilities(self) -> Tensor:
        """How often each feature fires where nothing but chance decides, shape (n_features,)."""
        return self.activation_generator.firing_probabilities

    @torch.no_grad()
    def sample(
        self, n_samples: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw features and the activations that they make.

        Args:
            n_samples: how many.
            generator: what decides them; None is torch's own global one.

        Returns:
            features (n_samples, n_features) and activations (n_samples, d_in).
        """
        # SAELens draws from the global generator, which is put back where it was.
        seed = int(torch.randint(2**62, (), generator=generator)) if generator else None
        with temporary_seed(seed):
            features = self.activation_generator.sample(n_samples)
        return features, self.feature_dict(features)


def make_world(
    feature_vectors: Tensor,
    firing_probabilities: Tensor | float,
    modifiers: Sequence[ActivationsModifier] = (),
) -> World:
    """Make a world of these directions; what fires is uniform on [0, 1] (Elhage et al. 2022).

    Args:
        feature_vectors: shape (n_features, d_in), of any length.
        firing_probabilities: one number, or shape (n_features,), in (0, 1].
        modifiers: SAELens's, applied to the features after the magnitudes; none means that the
            features are independent.

    Raises:
        BadInputError: a firing probability is not in (0, 1].
    """
    n_features, d_in = feature_vectors.shape
    probabilities = torch.as_tensor(firing_probabilities, dtype=torch.float32)
    if not ((probabilities > 0) & (probabilities <= 1)).all():
        raise BadInputError(
            f"firing_probabilities go from {float(probabilities.min()):g} to "
            f"{float(probabilities.max()):g}; each is above 0 and at most 1."
        )
    feature_dict = FeatureDictionary(n_features, d_in, initializer=None, seed=0)
    feature_dict.feature_vectors = torch.nn.Parameter(
        feature_vectors.detach().float().clone(), requires_grad=False
    )
    return World(
        feature_dict=feature_dict,
        activation_generator=ActivationGenerator(
            n_features,
            probabilities.expand(n_features).clone(),
            modify_activations=[_with_uniform_magnitudes, *modifiers],
        ),
        is_independent=not modifiers,
    )


def _with_uniform_magnitudes(activations: Tensor) -> Tensor:
    return activations * torch.rand_like(activations)
