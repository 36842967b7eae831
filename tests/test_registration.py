from __future__ import annotations

import pickle
import subprocess
import sys

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


_IS_REGISTERED = """
import sae_lens
config = sae_lens.TrainingSAEConfig.from_dict(
    {"architecture": "weighted_topk", "d_in": 8, "d_sae": 16, "k": 2, "alpha": 0.5}
)
assert type(config).__module__ == "wsae_plugin.saes.topk", config
assert "gba" in sae_lens.registry.SAE_TRAINING_CLASS_REGISTRY
"""


def in_a_new_process(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "first",
    [
        "import wsae_plugin",
        "import sae_lens, wsae_plugin",
        "from wsae_plugin import WeightedTopKTrainingSAEConfig",
        pytest.param("from wsae_plugin.saes.topk import *", marks=pytest.mark.slow),
        pytest.param("import wsae_plugin.registration", marks=pytest.mark.slow),
        pytest.param("from wsae_plugin.training.trainer import *", marks=pytest.mark.slow),
        pytest.param("from wsae_plugin import register_proxy", marks=pytest.mark.slow),
        pytest.param("from wsae_plugin import *", marks=pytest.mark.slow),
        pytest.param(
            "import wsae_plugin; from sae_lens.llm_sae_training_runner import *",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "import wsae_plugin; wsae_plugin.register_all(); wsae_plugin.register_all()",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_whatever_is_imported_first(first: str) -> None:
    in_a_new_process(f"{first}\n{_IS_REGISTERED}")


@pytest.mark.slow
def test_a_pickle_registers_too() -> None:
    config = wsae_plugin.WeightedTopKTrainingSAEConfig(d_in=8, d_sae=16, k=2)
    code = f"import pickle; pickle.loads({pickle.dumps(config)!r})\n{_IS_REGISTERED}"
    in_a_new_process(code)


def test_importing_the_package_imports_nothing_heavy() -> None:
    in_a_new_process(
        "import sys, wsae_plugin\n"
        "assert 'WeightedTopKTrainingSAE' in dir(wsae_plugin)\n"
        "assert not {'torch', 'numpy', 'sae_lens', 'transformers'} & sys.modules.keys()"
    )


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="WeightedTopK'?$|no .*WeightedTopK"):
        wsae_plugin.WeightedTopK  # noqa: B018
    with pytest.raises(ImportError):
        from wsae_plugin import WeightedTopK  # noqa: F401
