"""Which arguments of a model's loader are harmless, and what is told to the libraries meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
)
from transformers.integrations import hub_kernels
from transformers.models.auto import tokenization_auto

from tests.hostile import change_json, plain_model
from wsae_plugin.errors import BadInputError
from wsae_plugin.remote_code import check_own, guarded, harmless, tensors_only, trusting

RUN_CODE: list[dict[str, Any]] = [
    {"trust_remote_code": True},
    {"trust_remote_code": "yes"},
    {"weights_only": False},
    {"allow_all_kernels": True},
    {"use_kernels": True},
    {"kernel_config": {"RMSNorm": "stranger/kernels"}},
    {"attn_implementation": "stranger/attention"},
    {"attn_implementation": {"text": "stranger/attention@main"}},
]
NOT_A_FOLDERS: list[dict[str, Any]] = [
    {"cache_dir": "/anywhere"},
    {"config": "/anywhere"},
    {"proxies": {"https": "http://stranger"}},
    {"device_map": {"": 0}},
    {"quantization_config": {"quant_method": "bitsandbytes"}},
    {"gguf_file": "model.gguf"},
    {"subfolder": "../.."},
]
HARMLESS: dict[str, Any] = {
    "center_writing_weights": False,
    "dtype": "bfloat16",
    "revision": "step1000",
    "checkpoint_value": 1000,
    "device_map": "auto",
    "attn_implementation": "flash_attention_2",
    "trust_remote_code": False,
    "weights_only": True,
}


@pytest.mark.parametrize("kwargs", RUN_CODE, ids=str)
def test_a_user_needs_the_flag_for_code_of_a_model(kwargs: dict[str, Any]) -> None:
    for refuse in (check_own, lambda kwargs: harmless(kwargs, "AutoModelForCausalLM")):
        with pytest.raises(BadInputError, match=rf"{next(iter(kwargs))} = .* --trust-remote-code"):
            refuse(kwargs)
    with trusting(True):
        check_own(kwargs)
        assert harmless(kwargs, "AutoModelForCausalLM") == kwargs


@pytest.mark.parametrize("kwargs", NOT_A_FOLDERS, ids=str)
def test_what_a_user_may_say_and_a_folder_may_not(kwargs: dict[str, Any]) -> None:
    check_own(kwargs)
    with pytest.raises(BadInputError, match="is not taken from a folder"):
        harmless(kwargs, "HookedTransformer")


def test_harmless_arguments() -> None:
    check_own(None)
    check_own({**HARMLESS, "use_safetensors": False})
    for name in ("HookedTransformer", "AutoModelForCausalLM"):
        assert harmless(None, name) == {"use_safetensors": True}
        assert harmless({"use_safetensors": False}, name) == {"use_safetensors": True}
        assert harmless(HARMLESS, name) == HARMLESS | {"use_safetensors": True}
    assert harmless(HARMLESS, "HookedMamba") == HARMLESS


def told(monkeypatch: pytest.MonkeyPatch, asked: bool, **kwargs: Any) -> object:
    """What transformers is told where a library passes `kwargs`."""
    heard: list[object] = []

    def load(*_: Any, trust_remote_code: object = "nothing", **__: Any) -> None:
        heard.append(trust_remote_code)

    with monkeypatch.context() as patch:
        patch.setattr(AutoTokenizer, "from_pretrained", staticmethod(load))
        with guarded(), guarded(asked):
            AutoTokenizer.from_pretrained("model", **kwargs)
        AutoTokenizer.from_pretrained("model")
    assert heard[1] == "nothing"
    return heard[0]


def test_whoever_loads_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code is run where it is asked for and trusted; transformers never asks on the terminal."""
    for asked in (False, True):
        for kwargs in ({}, {"trust_remote_code": True}, {"trust_remote_code": False}):
            assert told(monkeypatch, asked, **kwargs) is False
    with trusting(True):
        assert told(monkeypatch, False) is False
        assert told(monkeypatch, True) is True
        assert told(monkeypatch, False, trust_remote_code=True) is True
        assert told(monkeypatch, True, trust_remote_code=False) is False


@pytest.mark.parametrize(
    "said",
    [
        {"attn_implementation": "stranger/attention"},
        {"_attn_implementation": "stranger/attention@main"},
        {"experts_implementation": "stranger/experts"},
    ],
    ids=str,
)
def test_a_model_s_own_config_names_no_kernel(
    said: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def load(name: str, *_: Any, **__: Any) -> None:
        asked.append(name)
        raise ZeroDivisionError

    monkeypatch.setattr(hub_kernels, "load_and_register_attn_kernel", load)
    model = plain_model(tmp_path)
    change_json(model / "config.json", **said)
    for auto in (AutoConfig, AutoModel, AutoModelForCausalLM):
        with guarded(), pytest.raises(BadInputError, match="config.json .*implementation = 'stra"):
            auto.from_pretrained(str(model))
    assert not asked
    with trusting(True), guarded():
        assert AutoConfig.from_pretrained(str(model))
    change_json(model / "config.json", **dict.fromkeys(said, "eager"))
    with guarded():
        assert AutoModelForCausalLM.from_pretrained(str(model))


def test_everything_is_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    classes = (AutoConfig, AutoImageProcessor, AutoModel, AutoModelForCausalLM, AutoTokenizer)
    before = [dict(vars(cls)) for cls in classes]
    forced, forbidden = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    monkeypatch.setenv(forbidden, "1")
    with pytest.raises(ZeroDivisionError), guarded():
        assert os.environ[forced] == "1" and forbidden not in os.environ
        with trusting(True):
            assert forced not in os.environ
            with tensors_only():
                assert os.environ[forced] == "1"
        assert os.environ[forced] == "1"
        raise ZeroDivisionError
    assert forced not in os.environ and os.environ[forbidden] == "1"
    assert [dict(vars(cls)) for cls in classes] == before


def test_libraries_that_are_imported_later_are_guarded_too() -> None:
    """`wsae --help` imports none of them; a guard that is over guards nothing."""
    code = (
        "import sys\n"
        "from wsae_plugin.remote_code import guarded\n"
        "with guarded(): pass\n"
        "with guarded():\n"
        "    assert 'transformers' not in sys.modules and 'datasets' not in sys.modules\n"
        "    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer\n"
        "    loaders = [vars(c) for c in (AutoConfig, AutoModelForCausalLM, AutoTokenizer)]\n"
        "    inside = [entries['from_pretrained'] for entries in loaders]\n"
        "    assert all(f.__func__.__module__ == 'wsae_plugin.remote_code' for f in inside)\n"
        "after = [entries['from_pretrained'] for entries in loaders]\n"
        "assert all(f.__func__.__module__.startswith('transformers') for f in after)\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_what_transformers_decides_itself_is_left_to_it() -> None:
    before = tokenization_auto.resolve_trust_remote_code
    with guarded():
        assert tokenization_auto.resolve_trust_remote_code is before
