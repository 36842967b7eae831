from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from sae_lens import TopKSAE, TopKSAEConfig
from sae_lens.synthetic import FeatureDictionary, eval_sae_on_synthetic_data
from torch import Tensor

from tests.toy.metrics.draws import sparse
from wsae_plugin.toy.metrics import (
    classify_latents,
    dead_latents,
    explained_variance,
    feature_uniqueness,
    l0,
    mcc_decoder,
    shrinkage,
)


def test_worked_by_hand() -> None:
    x = torch.tensor([[0.0], [2.0]])
    assert explained_variance(torch.tensor([[0.0], [1.0]]), x) == 0.5
    assert explained_variance(torch.tensor([[1.0], [1.0]]), x) == 0
    assert explained_variance(torch.tensor([[2.0], [0.0]]), x) == -3
    x = torch.tensor([[0.0, 2], [4, 0], [0, 0]])
    assert shrinkage(torch.tensor([[1.0, 0], [0, 4], [5, 5]]), x) == pytest.approx(0.75)


@dataclass
class FixedSample:
    """Stands in for SAELens's generator, so that both sides see the same samples."""

    features: Tensor

    def sample(self, batch_size: int) -> Tensor:
        return self.features[:batch_size]


@torch.no_grad()
def test_every_number_is_that_of_saelens_evaluation() -> None:
    torch.manual_seed(0)
    truth = FeatureDictionary(num_features=12, hidden_dim=8, initializer=None, seed=0)
    sae = TopKSAE(TopKSAEConfig(d_in=8, d_sae=16, k=3))
    sae.W_dec.data = torch.randn(16, 8)
    sae.W_enc.data = sae.W_dec.data.T.clone()
    x = sparse(200, 12, 0).float()
    generator: Any = FixedSample(x)
    expected = eval_sae_on_synthetic_data(sae, truth, generator, num_samples=200)
    sae_in = truth(x)
    feature_acts = sae.encode(sae_in)
    sae_out = sae.decode(feature_acts)
    assert mcc_decoder(sae.W_dec, truth.feature_vectors) == pytest.approx(expected.mcc)
    assert feature_uniqueness(sae.W_dec, truth.feature_vectors) == expected.uniqueness
    assert (l0(x), l0(feature_acts)) == (expected.true_l0, expected.sae_l0)
    assert dead_latents(feature_acts) == expected.dead_latents
    assert shrinkage(sae_out, sae_in) == expected.shrinkage
    assert explained_variance(sae_out, sae_in) == expected.explained_variance
    found = classify_latents(feature_acts, x, sae.W_dec, truth.feature_vectors)
    assert float(found.f1.mean()) == pytest.approx(expected.classification.f1_score)
