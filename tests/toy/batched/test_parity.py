"""The batched trainer is SAELens's: the same weights after 100 steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import (
    LoggingConfig,
    StandardTrainingSAE,
    StandardTrainingSAEConfig,
    TopKTrainingSAE,
    TopKTrainingSAEConfig,
)
from sae_lens.config import SAETrainerConfig
from sae_lens.training.sae_trainer import SAETrainer
from safetensors.torch import save_file
from torch import Tensor

from wsae_plugin.saes import (
    WeightedStandardTrainingSAE,
    WeightedStandardTrainingSAEConfig,
    WeightedTopKTrainingSAE,
    WeightedTopKTrainingSAEConfig,
)
from wsae_plugin.toy.batched.activation import RELU, Activation, top_k
from wsae_plugin.toy.batched.stack import initial_decoders
from wsae_plugin.toy.batched.trainer import Training, train_stack
from wsae_plugin.toy.superposition import learn_superposition
from wsae_plugin.toy.worlds import make_world

D_IN, D_SAE, K, N_STEPS, BATCH, LR, N_SAES = 5, 16, 2, 100, 64, 1e-2, 3
SHAPE: dict[str, Any] = {"d_in": D_IN, "d_sae": D_SAE, "dtype": "float64", "device": "cpu"}


@pytest.fixture(scope="module")
def batches() -> Tensor:
    """Activations of a learned world, (steps, SAEs, batch, d_in), float64."""
    world = make_world(learn_superposition([0.9], [0], 12, D_IN, n_steps=50)[0], 0.1)
    generator = torch.Generator().manual_seed(0)
    _, activations = world.sample(N_STEPS * N_SAES * BATCH, generator)
    # ten times a toy's scale, so that gradients are clipped
    return 10 * activations.double().view(N_STEPS, N_SAES, BATCH, D_IN)


def trained_by_saelens(sae: Any, batches: Tensor) -> Any:
    config = SAETrainerConfig(
        n_checkpoints=0,
        checkpoint_path=None,
        save_final_checkpoint=False,
        total_training_samples=N_STEPS * BATCH,
        device="cpu",
        autocast=False,
        lr=LR,
        lr_end=LR,
        lr_scheduler_name="constant",
        lr_warm_up_steps=0,
        adam_beta1=0.9,
        adam_beta2=0.999,
        lr_decay_steps=20,
        n_restart_cycles=1,
        train_batch_size_samples=BATCH,
        dead_feature_window=1000,
        feature_sampling_window=2000,
        logger=LoggingConfig(log_to_wandb=False),
        n_batches_for_norm_estimate=1,
    )
    return SAETrainer(config, sae, iter(batches)).fit()


def same_weights(
    classes: tuple[Any, Any], activation: Activation, gamma: Tensor, batches: Tensor, **fields: Any
) -> None:
    steps = iter(batches)
    seeds = list(range(N_SAES))
    stack = train_stack(
        initial_decoders(seeds, D_SAE, D_IN, dtype=torch.float64),
        activation,
        lambda _: next(steps),
        gamma,
        Training(N_STEPS, BATCH, LR, lr_decay_steps=20),
        tied=False,
    )
    sae_class, config_class = classes
    for number, seed in enumerate(seeds):
        torch.manual_seed(seed)
        sae = trained_by_saelens(sae_class(config_class(**SHAPE, **fields)), batches[:, number])
        # The differences are a few 1e-16, float64's rounding; the tolerance leaves room for another
        # BLAS, and any difference in the algorithm shows in the first digits.
        for ours, theirs in (
            (stack.W_dec[number], sae.W_dec),
            (stack.W_enc[number], sae.W_enc.T),
            (stack.b_enc[number], sae.b_enc - sae.b_dec @ sae.W_enc),
            (stack.b_dec[number], sae.b_dec),
        ):
            torch.testing.assert_close(ours, theirs.detach(), rtol=1e-9, atol=1e-12)


def test_top_k(batches: Tensor) -> None:
    same_weights(
        (TopKTrainingSAE, TopKTrainingSAEConfig), top_k(K), torch.ones(N_SAES, D_IN), batches, k=K
    )


def test_relu_without_a_penalty(batches: Tensor) -> None:
    same_weights(
        (StandardTrainingSAE, StandardTrainingSAEConfig),
        RELU,
        torch.ones(N_SAES, D_IN),
        batches,
        l1_coefficient=0.0,
    )


@pytest.fixture
def gamma_file(tmp_path: Path) -> tuple[Tensor, str]:
    """Weights that are there from the first step."""
    s = torch.tensor([0.5, 2.0, 1.0, 0.25, 1.5], dtype=torch.float64)
    save_file({"proxy": s}, tmp_path / "gamma.safetensors")
    return s, str(tmp_path / "gamma.safetensors")


def test_weighted_top_k(batches: Tensor, gamma_file: tuple[Tensor, str]) -> None:
    s, path = gamma_file
    same_weights(
        (WeightedTopKTrainingSAE, WeightedTopKTrainingSAEConfig),
        top_k(K),
        s.expand(N_SAES, -1),
        batches,
        k=K,
        alpha=1.0,
        gamma_proxy="file",
        gamma_file=path,
        gamma_normalization="none",
        kernel="eager",
    )


def test_weighted_relu_without_a_penalty(batches: Tensor, gamma_file: tuple[Tensor, str]) -> None:
    s, path = gamma_file
    same_weights(
        (WeightedStandardTrainingSAE, WeightedStandardTrainingSAEConfig),
        RELU,
        s.expand(N_SAES, -1),
        batches,
        l1_coefficient=0.0,
        alpha=1.0,
        gamma_proxy="file",
        gamma_file=path,
        gamma_normalization="none",
    )
