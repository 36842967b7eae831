from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE, TrainingSAE
from safetensors.torch import load_file

from tests.architectures import ARCHITECTURES, Architecture, activations, trainer
from tests.saes.test_contract import every_architecture_and_gba
from wsae_plugin import register_proxy
from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma import PROXIES


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


@pytest.mark.parametrize("needs", [(), ("latents",)])
def test_the_proxy_need_not_be_known_here(
    needs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (topk,) = [arch for arch in ARCHITECTURES if arch.name == "topk"]
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("wsae_plugin.gamma.proxies.PROXIES", dict(PROXIES))
        register_proxy("mine", lambda seen: seen.activations.variance.sqrt(), needs=needs)
        training = trainer(topk.weighted(alpha=1.0, gamma_proxy="mine"), steps=4)
        training.fit()
    training.sae.save_model(tmp_path / "checkpoint")
    training.sae.save_inference_model(tmp_path / "published")
    assert "mine" not in PROXIES
    for read in (TrainingSAE.load_from_disk, SAE.load_from_disk):
        found: Any = read(tmp_path / "checkpoint")
        if isinstance(found, TrainingSAE):
            assert torch.equal(found.gamma_scheduler.gamma, training.sae.gamma_scheduler.gamma)
            assert found.gamma_scheduler.gamma.unique().numel() > 1
            found.save_inference_model(tmp_path / "again")
            with pytest.raises(BadInputError, match="gamma_proxy = 'mine': the proxies are"):
                trainer(found)
    for name in ("gamma.safetensors", "sae_weights.safetensors"):
        again, published = (load_file(tmp_path / of / name) for of in ("again", "published"))
        assert all(torch.equal(again[key], published[key]) for key in published)


def test_another_dtype_can_be_asked_for(tmp_path: Path) -> None:
    (topk,) = [arch for arch in ARCHITECTURES if arch.name == "topk"]
    topk.weighted().save_model(tmp_path)
    found = SAE.load_from_disk(tmp_path, dtype="float64")
    assert found.W_dec.dtype == torch.float64
    assert found.cfg.dtype == "float64"
