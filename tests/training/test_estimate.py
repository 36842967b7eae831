"""Steps, tokens and bytes, counted by hand."""

from __future__ import annotations

from pathlib import Path

from tests.training.tiny import BATCH, D_MODEL, D_SAE, TinyWorld, sae, write_config
from wsae_plugin.training import estimate, load_run_config

# W_enc and W_dec of shape 32 × 64, b_enc of 64, b_dec of 32; four bytes each.
PARAMETER_BYTES = 4 * (2 * D_MODEL * D_SAE + D_SAE + D_MODEL)


def test_one_sae(world: TinyWorld, tmp_path: Path) -> None:
    plain = sae(architecture="topk", alpha=None)
    values = world.language_model(sae=plain, training_tokens=10 * BATCH + 1)
    result = estimate(load_run_config(write_config(tmp_path / "config.yaml", values)))
    assert (result.n_steps, result.n_samples) == (11, 11 * BATCH)
    assert result.buffer_tokens == 8 * 32
    memory = result.memory
    assert memory.sae_weights == memory.gradients == PARAMETER_BYTES
    assert memory.adam == 2 * PARAMETER_BYTES
    assert memory.sae_activations == 4 * BATCH * (3 * D_SAE + 4 * D_MODEL)
    # The buffer and one batch of four contexts, twice, at 32 floats a token.
    assert memory.activation_buffer == 2 * (8 * 32 + 4 * 32) * D_MODEL * 4
    assert memory.language_model is not None
    assert memory.total > memory.language_model > 0


def test_several_saes_share_the_buffer(world: TinyWorld, tmp_path: Path) -> None:
    one = estimate(load_run_config(write_config(tmp_path / "a.yaml", world.language_model())))
    three = estimate(load_run_config(write_config(tmp_path / "b.yaml", world.multi())))
    assert three.memory.gradients == 3 * one.memory.gradients
    assert three.memory.activation_buffer == one.memory.activation_buffer
    hooks = {"baseline": "hook_embed", "alpha-0": "hook_embed", "alpha-1": "hook_pos_embed"}
    values = world.multi(hook_names=hooks)
    two_hooks = estimate(load_run_config(write_config(tmp_path / "c.yaml", values)))
    assert two_hooks.memory.activation_buffer == 2 * one.memory.activation_buffer


def test_the_outputs_of_all_saes_wait_for_the_last(world: TinyWorld, tmp_path: Path) -> None:
    one = estimate(load_run_config(write_config(tmp_path / "a.yaml", world.language_model())))
    three = estimate(load_run_config(write_config(tmp_path / "b.yaml", world.multi())))
    # Pre-activations, activations and reconstructions of the other two.
    outputs = 4 * BATCH * (2 * D_SAE + D_MODEL)
    assert three.memory.sae_activations == one.memory.sae_activations + 2 * outputs
    sparse = {name: sae(kernel="cpu") for name in ("a", "b")}
    two = estimate(load_run_config(write_config(tmp_path / "c.yaml", world.multi(saes=sparse))))
    alone = world.language_model(sae=sae(kernel="cpu"))
    single = estimate(load_run_config(write_config(tmp_path / "d.yaml", alone)))
    # Each active latent, k = 4 a row, twice: a float, a row and a column.
    outputs = BATCH * (2 * 4 * (4 + 16) + 4 * D_MODEL)
    assert two.memory.sae_activations == single.memory.sae_activations + outputs


def test_batches_kept_for_norms_are_counted(world: TinyWorld, tmp_path: Path) -> None:
    scaled = {"a": sae(normalize_activations="expected_average_only_in"), "b": sae()}
    values = world.multi(saes=scaled, n_batches_for_norm_estimate=7)
    result = estimate(load_run_config(write_config(tmp_path / "a.yaml", values)))
    assert result.memory.norm_batches == 7 * BATCH * D_MODEL * 4
    plain = estimate(load_run_config(write_config(tmp_path / "b.yaml", world.multi())))
    assert plain.memory.norm_batches == 0
    # One alone reads them one by one.
    alone = world.language_model(sae=scaled["a"], n_batches_for_norm_estimate=7)
    single = estimate(load_run_config(write_config(tmp_path / "c.yaml", alone)))
    assert single.memory.norm_batches == 0


def test_synthetic_data_needs_no_buffer_and_no_model(world: TinyWorld, tmp_path: Path) -> None:
    result = estimate(load_run_config(write_config(tmp_path / "a.yaml", world.synthetic())))
    assert (result.n_steps, result.buffer_tokens) == (10, 0)
    assert result.memory.activation_buffer == result.memory.language_model == 0


def test_a_model_that_is_not_here_is_unknown(world: TinyWorld, tmp_path: Path) -> None:
    values = world.language_model(model_name="wsae/none", model_class_name="AutoModelForCausalLM")
    result = estimate(load_run_config(write_config(tmp_path / "a.yaml", values)))
    assert result.memory.language_model is None
    assert result.memory.total > 0


def test_a_sparse_step_keeps_one_block_of_latents(world: TinyWorld, tmp_path: Path) -> None:
    values = world.language_model(sae=sae(architecture="weighted_topk", kernel="cpu"))
    memory = estimate(load_run_config(write_config(tmp_path / "a.yaml", values))).memory
    numbers = BATCH * D_SAE + D_SAE * D_MODEL // 2 + 4 * BATCH * D_MODEL
    assert memory.sae_activations == 4 * numbers


def test_a_process_of_eight_needs_less_than_a_sixth(world: TinyWorld, tmp_path: Path) -> None:
    section = sae(d_in=4096, d_sae=131_072, k=50)
    values = world.language_model(sae=section, train_batch_size_tokens=4096)
    values |= {"n_batches_in_buffer": 256, "training_tokens": 40_960}
    file = write_config(tmp_path / "a.yaml", values)
    one = estimate(load_run_config(file))
    eight = estimate(load_run_config(file, ["distributed.latents=8"]))
    assert one.sharing is None
    assert eight.sharing is not None
    assert eight.sharing.n_processes == 8
    assert 6 * eight.memory.total < one.memory.total
    # x, the best 2k/8 + 16 of each row as int64, and x̂, around a ring; the loss for dead latents.
    per_row = {
        "activations": 4 * 4096 / 8,
        "candidates": 8 * 29,
        "reconstructions": 2 * 4 * 4096 / 8,
    }
    for name, n_bytes in per_row.items():
        assert eight.sharing.sent_a_step[name] == 7 * 4096 * n_bytes
    weights = 4 * (2 * 4096 * 131_072 + 131_072 + 4096)
    assert eight.sharing.checkpoint > 4 * weights


def test_whole_saes_to_processes(world: TinyWorld, tmp_path: Path) -> None:
    file = write_config(tmp_path / "a.yaml", world.multi())
    one = estimate(load_run_config(file))
    three = estimate(load_run_config(file, ["distributed={latents: 1, saes: 3}"]))
    assert three.sharing is not None
    assert three.sharing.ranks == {"baseline": (0,), "alpha-0": (1,), "alpha-1": (2,)}
    assert three.memory.gradients == one.memory.gradients / 3
    assert set(three.sharing.sent_a_step) == {
        "activations", "candidates", "reconstructions", "dead_candidates", "dead_reconstructions",
    }  # fmt: skip
    assert three.sharing.sent_a_step["reconstructions"] == 0
