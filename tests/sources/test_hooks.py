"""Hooks, widths and contexts of a loaded model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.training.tiny import TinyWorld, sae, write_config
from wsae_plugin.errors import BadInputError
from wsae_plugin.sources.hooks import hooks_of, open_checked_model
from wsae_plugin.training.config import load_run_config

HF = {"model_class_name": "AutoModelForCausalLM"}
Z = "blocks.1.attn.hook_z"  # (batch, position, 2 heads, 16)


def check(values: dict[str, Any], folder: Path) -> None:
    config = load_run_config(write_config(folder / "config.yaml", values)).runner_config()
    open_checked_model(config, hooks_of(config))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hook_name": "hook_embed"},
        {"hook_name": Z},
        {"hook_name": Z, "hook_head_index": 1, "sae": sae(d_in=16)},
        {"hook_name": "blocks.0.mlp.hook_post", "sae": sae(d_in=64)},
        {"context_size": 64},
        {**HF, "hook_name": "gpt_neox.layers.0.mlp"},
    ],
    ids=str,
)
def test_hooks_that_fit(world: TinyWorld, tmp_path: Path, changes: dict[str, Any]) -> None:
    check(world.language_model(**changes), tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"hook_name": "blocks.1.hook_residpost"},
            "hook_name = 'blocks.1.hook_residpost': the model has no such hook; "
            "did you mean 'blocks.1.hook_resid_post'?",
        ),
        (
            {**HF, "hook_name": "gpt_neox.layer.1"},
            "the model has no such hook; did you mean 'gpt_neox.layers.1'?",
        ),
        ({"sae": sae(d_in=48)}, "sae.d_in = 48: 'blocks.1.hook_resid_post' is 32 wide; set it to"),
        ({"hook_name": Z, "hook_head_index": 2}, "hook_head_index = 2: "),
        ({"hook_name": Z, "hook_head_index": 0}, "sae.d_in = 32: "),
        ({"hook_head_index": 0}, "'blocks.1.hook_resid_post' has no heads"),
        ({"hook_name": "blocks.1.hook_attn_in"}, "does not reach it"),
        ({"context_size": 65}, "context_size = 65: "),
    ],
    ids=str,
)
def test_hooks_that_do_not(
    world: TinyWorld, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInputError) as error:
        check(world.language_model(**changes), tmp_path)
    assert message in str(error.value)


def test_several_hooks_name_the_sae(world: TinyWorld, tmp_path: Path) -> None:
    hooks = {"baseline": "blocks.0.hook_resid_post", "alpha-0": "hook_embed", "alpha-1": "hook_pos"}
    with pytest.raises(BadInputError, match=r"hook_names\.alpha-1 = 'hook_pos'"):
        check(world.multi(hook_names=hooks), tmp_path)
    saes = {"one": sae(d_in=64), "two": sae()}
    hooks = {"one": "blocks.0.hook_resid_post", "two": "blocks.1.hook_resid_post"}
    with pytest.raises(BadInputError, match=r"saes\.one\.d_in = 64"):
        check(world.multi(saes=saes, hook_names=hooks), tmp_path)
