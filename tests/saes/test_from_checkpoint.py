from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sae_lens import SAE, TrainingSAE

from tests.architectures import ARCHITECTURES, Architecture, activations, trainer
from tests.saes.test_contract import every_architecture_and_gba


@every_architecture_and_gba
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_checkpoint_loads_as_what_would_be_published(
    arch: Architecture, dtype: str, tmp_path: Path
) -> None:
    training = trainer(arch.weighted(alpha=0.5), steps=4)
    training.fit()
    sae = training.sae.to(getattr(torch, dtype))
    sae.cfg.dtype = dtype
    sae.cfg.metadata.model_name = "a-model"
    sae.save_model(tmp_path / "checkpoint")
    sae.save_inference_model(tmp_path / "published")

    found = SAE.load_from_disk(tmp_path / "checkpoint")
    expected = SAE.load_from_disk(tmp_path / "published")
    assert type(found) is type(expected)
    assert found.cfg.to_dict() == expected.cfg.to_dict()
    assert type(found.cfg) is type(expected.cfg)
    assert found.state_dict().keys() == expected.state_dict().keys()
    for name, tensor in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name
    x = activations().to(found.dtype)
    assert torch.equal(found(x), expected(x))
    assert "process_state_dict_for_loading" not in vars(found)

    # Saved again it is what plain SAELens loads, and training goes on from the checkpoint as ever.
    found.save_model(tmp_path / "again")
    assert type(SAE.load_from_disk(tmp_path / "again")) is type(expected)
    resumed = TrainingSAE.load_from_disk(tmp_path / "checkpoint")
    assert type(resumed) is arch.weighted_class


def test_another_dtype_can_be_asked_for(tmp_path: Path) -> None:
    (topk,) = [arch for arch in ARCHITECTURES if arch.name == "topk"]
    topk.weighted().save_model(tmp_path)
    found = SAE.load_from_disk(tmp_path, dtype="float64")
    assert found.W_dec.dtype == torch.float64
    assert found.cfg.dtype == "float64"
