"""The threshold that BatchTopK is published with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE, BatchTopKTrainingSAE
from sae_lens.saes.sae import SAEMetadata

from tests.architectures import (
    ARCHITECTURES,
    Architecture,
    activations,
    forward,
    step_input,
    trainer,
)

BATCHTOPK = [arch for arch in ARCHITECTURES if "batchtopk" in arch.name]
both = pytest.mark.parametrize("arch", BATCHTOPK, ids=lambda a: a.name)


def l0(sae: SAE[Any]) -> float:
    """On samples that no test trains on."""
    return float((sae.encode(activations(1024, seed=999)) != 0).sum(dim=1).float().mean())


def published(sae: Any, folder: Path) -> SAE[Any]:
    sae.save_inference_model(folder)
    return SAE.load_from_disk(folder)


def threshold(sae: SAE[Any]) -> float:
    return float(sae.state_dict()["threshold"][0])


@both
def test_the_average_is_over_a_twentieth_of_the_steps(arch: Architecture) -> None:
    sae: Any = arch.weighted()
    sae._follow_threshold(0, torch.tensor([[0.0, 3.0], [2.0, 0.0]]))
    assert sae.recent_topk_threshold == 2  # the smallest that is kept, alone
    sae._follow_threshold(1, torch.tensor([[5.0, 0.0]]).to_sparse())
    assert float(sae.recent_topk_threshold) == pytest.approx(2 + 20 / 21 * (5 - 2))
    sae._follow_threshold(180, torch.tensor([[1.0]]))
    expected = (2 + 20 / 21 * 3) * 0.9 + 1 * 0.1
    assert float(sae.recent_topk_threshold) == pytest.approx(expected)
    sae._follow_threshold(181, torch.zeros(2, 2))  # nothing was kept, so nothing is learned
    assert float(sae.recent_topk_threshold) == pytest.approx(expected)


@both
def test_after_many_steps_it_is_saelens_own(arch: Architecture) -> None:
    sae: Any = arch.weighted(topk_threshold_lr=0.1)
    smallest = 1 + torch.rand(500, generator=torch.Generator().manual_seed(0))
    for step, value in enumerate(smallest):
        sae.update_topk_threshold(value[None, None])
        sae._follow_threshold(step, value[None, None])
    difference = float(sae.recent_topk_threshold - sae.topk_threshold)
    assert abs(difference) < 1e-9


@both
@pytest.mark.parametrize("kernel", ["auto", "eager"])
@pytest.mark.parametrize("normalize", ["none", "expected_average_only_in"])
def test_a_short_run_is_published_as_sparse_as_it_was_trained(
    arch: Architecture, kernel: str, normalize: str, tmp_path: Path
) -> None:
    """Also where the scale of the activations is folded into the threshold."""
    fields = {
        "kernel": kernel,
        "normalize_activations": normalize,
        "use_matryoshka_aux_loss": False,
    }
    if arch.name == "batchtopk":
        del fields["use_matryoshka_aux_loss"]
    for alpha in (0.0, 1.0):
        sae: Any = arch.weighted(alpha=alpha, **fields)
        trainer(sae, steps=60).fit()
        assert l0(published(sae, tmp_path / f"{alpha}")) == pytest.approx(4, rel=0.2)
    assert l0(published(_parent_of(sae), tmp_path / "parent")) > 1.5 * 4


def _parent_of(sae: Any) -> BatchTopKTrainingSAE:
    """A plain SAELens one with the same weights and the same moving average."""
    cfg = BATCHTOPK[0].parent_config(k=4, d_in=sae.cfg.d_in, d_sae=sae.cfg.d_sae)
    parent: Any = BatchTopKTrainingSAE(cfg)
    state = sae.state_dict()
    parent.load_state_dict({name: state[name] for name in parent.state_dict()})
    return parent


@both
def test_the_metadata_says_where_the_threshold_is_from(arch: Architecture, tmp_path: Path) -> None:
    sae: Any = arch.weighted()
    trainer(sae, steps=5).fit()
    sae.save_model(tmp_path / "checkpoint")
    for found in (
        published(sae, tmp_path / "export"),
        SAE.load_from_disk(tmp_path / "checkpoint"),
    ):
        said = found.cfg.metadata["threshold"]
        assert threshold(found) == pytest.approx(said["published"])
        assert said["published"] == pytest.approx(float(sae.recent_topk_threshold))
        assert said["topk_threshold"] == pytest.approx(float(sae.topk_threshold))
        assert isinstance(found.cfg.metadata, SAEMetadata)


@both
def test_a_plain_checkpoint_is_published_as_saelens_would_until_it_is_trained(
    arch: Architecture, tmp_path: Path
) -> None:
    parent: Any = arch.parent()
    trainer(parent, steps=5).fit()
    parent.save_model(tmp_path / "checkpoint")
    sae: Any = arch.weighted()
    sae.load_weights_from_checkpoint(tmp_path / "checkpoint")
    found = published(sae, tmp_path / "before")
    assert threshold(found) == pytest.approx(float(parent.topk_threshold))
    assert "threshold" not in found.cfg.metadata
    trainer(sae, steps=1).fit()
    assert threshold(published(sae, tmp_path / "after")) > 2 * float(parent.topk_threshold)


@both
def test_evaluation_does_not_move_it(arch: Architecture) -> None:
    sae: Any = arch.weighted()
    forward(sae)
    before = sae.recent_topk_threshold.clone()
    sae.eval()
    sae.training_forward_pass(step_input(sae, step=1, sae_in=activations(seed=5)))
    assert torch.equal(sae.recent_topk_threshold, before)
