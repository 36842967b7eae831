from __future__ import annotations

import pytest
from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.registry import SAE_TRAINING_CLASS_REGISTRY, get_sae_training_class

import wsae_plugin
from tests.architectures import ARCHITECTURES


def test_importing_the_package_registers_every_architecture() -> None:
    for arch in ARCHITECTURES:
        registered = get_sae_training_class(f"weighted_{arch.name}")
        assert registered == (arch.weighted_class, arch.weighted_config)


def test_registering_again_is_a_no_op() -> None:
    before = dict(SAE_TRAINING_CLASS_REGISTRY)
    wsae_plugin.register_all()
    assert before == SAE_TRAINING_CLASS_REGISTRY


def test_another_class_under_our_name_is_an_error_that_names_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = (TopKTrainingSAE, TopKTrainingSAEConfig)
    monkeypatch.setitem(SAE_TRAINING_CLASS_REGISTRY, "weighted_topk", other)
    with pytest.raises(ValueError, match="TopKTrainingSAE.* with .*; .*WeightedTopKTrainingSAE"):
        wsae_plugin.register_all()


def test_the_public_list_is_importable() -> None:
    assert all(hasattr(wsae_plugin, name) for name in wsae_plugin.__all__)
