"""What is wrong with a config, noticed before anything is loaded."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from tests.training.tiny import TinyWorld, sae, write_config
from wsae_plugin.errors import BadInputError
from wsae_plugin.training.checks import warn
from wsae_plugin.training.config import load_run_config

COSINE = "cosineannealing"

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no tokens": ({"training_tokens": 0}, "training_tokens = 0: must be above 0"),
    "no batch": ({"train_batch_size_tokens": -1}, "train_batch_size_tokens = -1: must be above 0"),
    "less than a batch": ({"training_tokens": 100}, "training_tokens = 100: is less than one"),
    "no learning": ({"lr": 0}, "lr = 0: must be above 0"),
    "no input": ({"sae": sae(d_in=0)}, "sae.d_in = 0: must be above 0"),
    "no latents": ({"sae": sae(d_sae=-3)}, "sae.d_sae = -3: must be above 0"),
    "no active latent": ({"sae": sae(k=0)}, "sae.k = 0: must be above 0"),
    "more active than there are": ({"sae": sae(k=65)}, "sae.k = 65: must not exceed sae.d_sae"),
    "small buffer": ({"n_batches_in_buffer": 2}, "train_batch_size_tokens = 128; use 4 or more"),
    "small sliced buffer": ({"seqpos_slice": [0, 8]}, "use 16 or more"),
    "no positions": ({"seqpos_slice": [5, 5]}, "seqpos_slice = [5, 5]: must be [start, end]"),
    "too many slices": ({"seqpos_slice": [1, 2, 3, 4]}, "seqpos_slice = [1, 2, 3, 4]"),
    "mixing": (
        {"activations_mixing_fraction": 1.5},
        "activations_mixing_fraction = 1.5: must be at least 0 and at most 1",
    ),
    "more context than memory": (
        {"context_size": 4 * 10**10},
        "must be above 0 and below 16777216",
    ),
    "no context": ({"context_size": 0}, "context_size = 0: must be above 0"),
    "no window": ({"feature_sampling_window": 0}, "feature_sampling_window = 0"),
    "seed": ({"seed": 2**63}, "must be at least 0 and below 9223372036854775808"),
    "no cuda": ({"device": "cuda:63"}, "device = 'cuda:63': this machine has none; use "),
    "no device": ({"device": "gpu"}, "device = 'gpu': no device"),
    "no device for the SAE": ({"sae": sae(device="cuda:63")}, "sae.device = 'cuda:63'"),
    "dtype": ({"dtype": "fp32"}, "dtype = 'fp32': Invalid dtype"),
    "dtype of the SAE": ({"sae": sae(dtype="int8")}, "sae.dtype = 'int8'"),
    "sparse and rescaled": (
        {"sae": sae(use_sparse_activations=True)},
        "sae.use_sparse_activations = True: SAELens's backward pass fails on cpu",
    ),
    "scheduler": ({"lr_scheduler_name": "linear"}, "lr_scheduler_name = 'linear': must be one of"),
    "long ramps": (
        {"lr_warm_up_steps": 8, "lr_decay_steps": 3},
        "lr_warm_up_steps + lr_decay_steps = 11: the run has 10 steps",
    ),
    "nothing between the ramps": (
        {"lr_scheduler_name": COSINE, "lr_warm_up_steps": 10},
        "the run has 10 steps",
    ),
    "restarts": (
        {"lr_scheduler_name": "cosineannealingwarmrestarts", "n_restart_cycles": 11},
        "n_restart_cycles = 11: more than the 10 steps",
    ),
    "nothing to decay": ({"lr_end": 0, "lr_decay_steps": 2}, "lr_end = 0"),
    "beta": ({"adam_beta2": 1.0}, "adam_beta2 = 1.0: must be at least 0 and below 1"),
    "log frequency": ({"logger": {"wandb_log_frequency": 0}}, "logger.wandb_log_frequency = 0"),
    "no data": ({"dataset_path": ""}, "dataset_path: missing"),
    "no cache": (
        {"use_cached_activations": True, "cached_activations_path": "nowhere"},
        "cached_activations_path = 'nowhere': no such folder",
    ),
    "nothing to fine-tune": ({"from_pretrained_path": "nowhere"}, "from_pretrained_path"),
    "nothing to resume": ({"resume_from_checkpoint": "nowhere"}, "no complete checkpoint there"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(world: TinyWorld, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write_config(tmp_path / "config.yaml", world.language_model(**changes))
    with pytest.raises(BadInputError) as error:
        load_run_config(path)
    assert message in str(error.value)


def test_as_many_restarts_as_steps_are_allowed(world: TinyWorld, tmp_path: Path) -> None:
    restarts = {"lr_scheduler_name": "cosineannealingwarmrestarts", "n_restart_cycles": 10}
    load_run_config(write_config(tmp_path / "config.yaml", world.language_model(**restarts)))


def test_refused_in_the_other_kinds(world: TinyWorld, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    cases = [
        (world.synthetic(training_samples=3), "training_samples = 3: is less than one batch_size"),
        (world.synthetic(eval_samples=-1), "eval_samples = -1: must be at least 0"),
        (
            world.synthetic(sae=sae(alpha=0, metric="fisher")),
            "sae.metric = 'fisher': there are no gradients of a language model to make it from: "
            "give metric_file, a safetensors file with one tensor gradients (n, d_in) of your own",
        ),
        (
            world.language_model(
                sae=sae(alpha=0, metric="covariance"),
                use_cached_activations=True,
                cached_activations_path=str(tmp_path),
            ),
            "sae.metric = 'covariance': there are no gradients",
        ),
        (world.multi(saes={"a/b": sae()}), "saes.a/b: the name becomes a folder"),
        (world.multi(saes={"a": sae(k=999)}), "saes.a.k = 999: must not exceed saes.a.d_sae"),
        (
            world.synthetic(sae=sae(finetune_kl=0.1)),
            "sae.finetune_kl = 0.1: compares outputs of a language model, and there is none",
        ),
        (
            world.multi(saes={"a": sae(), "b": sae(finetune_kl=1)}, prefetch_llm_batches=1),
            "saes.b.finetune_kl = 1 with prefetch_llm_batches = 1: takes text out of turn",
        ),
        (
            world.language_model(sae=sae(finetune_kl=1), compile_sae=True),
            "sae.finetune_kl = 1 with compile_sae = True: puts another loss",
        ),
        (
            world.language_model(
                sae=sae(finetune_kl=1),
                use_cached_activations=True,
                cached_activations_path=str(world.path),
            ),
            "sae.finetune_kl = 1 with use_cached_activations = True: takes the text",
        ),
        (world.multi(saes={}), "saes must contain at least one entry"),
    ]
    load_run_config(write_config(path, world.synthetic(sae=sae(alpha=0, metric="uniform"))))
    for values, message in cases:
        with pytest.raises(BadInputError) as error:
            load_run_config(write_config(path, values))
        assert message in str(error.value)


def test_a_late_freeze_step_is_only_a_warning(
    world: TinyWorld, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_config(tmp_path / "config.yaml", world.language_model())
    with caplog.at_level(logging.WARNING):
        warn(load_run_config(path, ["sae.gamma_freeze_step=9"]))
        warn(load_run_config(path, ["sae.alpha=0"]))
        assert caplog.messages == []
        warn(load_run_config(path, ["sae.gamma_freeze_step=10", "checkpoint_path=elsewhere"]))
    assert caplog.messages == [
        "sae.gamma_freeze_step = 10: the run has 10 steps, so Γ is never frozen",
        "checkpoint_path = 'elsewhere': has no effect; checkpoints are kept in the run folder",
    ]
