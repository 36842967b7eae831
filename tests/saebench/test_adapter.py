"""Our runs as SAEBench wants SAEs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from sae_lens import SAE
from transformer_lens import HookedTransformerConfig

from tests.saebench.conftest import make_run
from wsae_plugin.compare.manifest import ComparedRun
from wsae_plugin.compare.runs import runs_of
from wsae_plugin.errors import BadInputError
from wsae_plugin.saebench.adapter import (
    BenchSAE,
    describe,
    load,
    refuse_another_place,
    transformer_lens_hook,
)

NAME = "bundled/python-neox"


def test_norms_are_folded_in_a_copy_and_nothing_is_reconstructed_otherwise(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    original = SAE.load_from_disk(folder / "sae")
    (run,) = runs_of([folder])
    sae, notes = load(describe(run), NAME, "cpu")
    assert notes == []
    torch.testing.assert_close(sae.W_dec.norm(dim=-1), torch.ones(sae.cfg.d_sae))
    x = torch.randn(20, 128)
    torch.testing.assert_close(sae.encode(x), original.encode(x))
    torch.testing.assert_close(sae(x), original(x))
    assert not torch.allclose(original.W_dec.norm(dim=-1), torch.ones(sae.cfg.d_sae))


def test_norms_that_cannot_be_folded_are_said(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    file = folder / "sae" / "cfg.json"
    file.write_text(
        json.dumps(json.loads(file.read_text()) | {"rescale_acts_by_decoder_norm": False})
    )
    sae, notes = load(describe(runs_of([folder])[0]), NAME, "cpu")
    assert "could not be folded" in notes[0]
    assert sae.cfg.metadata.wsae["decoder_norms_are_1"] is False


def test_metadata_is_complete(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", seed=3, prepend_bos=None)
    sae, _ = load(describe(runs_of([folder])[0]), NAME, "cpu")
    metadata = sae.cfg.metadata
    assert metadata.prepend_bos is True  # None makes core write nothing, in silence
    assert metadata.context_size == 64
    assert metadata.model_name == NAME
    assert metadata.wsae["run"] == metadata.wsae["arm"] == metadata.wsae["pair"] == "run"
    assert metadata.wsae["seed"] == 3
    json.dumps(sae.cfg.to_dict())


def test_blocks_of_hugging_face_have_transformer_lens_names() -> None:
    for name in ("gpt_neox.layers.3", "model.layers.3", "transformer.h.3"):
        assert transformer_lens_hook(name) == "blocks.3.hook_resid_post"
    assert transformer_lens_hook("blocks.3.hook_mlp_out") == "blocks.3.hook_mlp_out"
    assert transformer_lens_hook("gpt_neox.layers.3.mlp") == "blocks.3.hook_mlp_out"
    for name in (
        "gpt_neox.layers.12.attention.dense",
        "model.layers.12.self_attn.o_proj",
        "transformer.h.12.attn.c_proj",
    ):
        assert transformer_lens_hook(name) == "blocks.12.hook_attn_out"
    with pytest.raises(BadInputError, match="hook_name = 'gpt_neox.embed_in': has no name in Tran"):
        transformer_lens_hook("gpt_neox.embed_in")


@pytest.mark.parametrize("name", ["model.layers.2.mlp", "model.layers.2.self_attn.o_proj"])
def test_what_a_model_normalises_afterwards_has_no_name(name: str) -> None:
    def sae(hook_name: str) -> BenchSAE:
        run = ComparedRun.alone("a", Path("a"), hook_name)
        return BenchSAE(run, "gemma-2", transformer_lens_hook(hook_name), 8, 16, "")

    def model(has_post_norms: bool) -> HookedTransformerConfig:
        sizes = {"n_layers": 3, "d_model": 8, "n_ctx": 16, "d_head": 4, "act_fn": "gelu"}
        post_norms = {"use_normalization_before_and_after": has_post_norms}
        return HookedTransformerConfig.from_dict(sizes | post_norms)

    with pytest.raises(BadInputError, match=f"hook_name = '{name}': gemma-2 normalises it before"):
        refuse_another_place(sae(name), model(True))
    refuse_another_place(sae(name), model(False))
    refuse_another_place(sae("model.layers.2"), model(True))
    refuse_another_place(sae("blocks.2.hook_mlp_out"), model(True))


@pytest.mark.parametrize("field", ["model_name", "hook_name"])
def test_an_sae_of_unknown_origin_is_refused(tmp_path: Path, field: str) -> None:
    folder = make_run(tmp_path / "run")
    file = folder / "sae" / "cfg.json"
    cfg = json.loads(file.read_text())
    del cfg["metadata"][field]
    file.write_text(json.dumps(cfg))
    (folder / "config.yaml").write_text("seed: 0\n")
    with pytest.raises(BadInputError, match=f"run: {field}: missing, no file of the SAE says it"):
        describe(runs_of([folder])[0])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "cfg.json: must be an object"),
        ('{"metadata": null, "d_sae": 4}', "model_name: missing"),
        ('{"metadata": {"model_name": 3}, "d_sae": 4}', "metadata.model_name = 3: must be text"),
        ('{"metadata": {"model_name": "m", "hook_name": "h"}}', "d_sae: missing"),
        ('{"metadata": {"model_name": "m", "hook_name": "h"}, "d_sae": null}', "d_sae: missing"),
        ('{"metadata": {"model_name": ""}, "d_sae": 4}', "model_name: missing"),
        ("{", "cannot be read as JSON"),
    ],
)
def test_a_broken_config_is_named(tmp_path: Path, content: str, said: str) -> None:
    folder = make_run(tmp_path / "run")
    (folder / "sae" / "cfg.json").write_text(content)
    with pytest.raises(BadInputError, match=said):
        describe(runs_of([folder])[0])
