"""`core`: reconstruction, sparsity and the language model's loss; with the corrected figures."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from logging.handlers import BufferingHandler
from typing import Any

import torch
from sae_lens import SAE
from sae_lens.evals import ExplainedVarianceCalculator
from sae_lens.training.activations_store import ActivationsStore

from wsae_plugin.errors import RunFailedError
from wsae_plugin.messages import one_line
from wsae_plugin.replaced import replaced
from wsae_plugin.saebench.evals.base import Eval, Measurement, Metric
from wsae_plugin.scores import Direction

_SHUFFLED_ROWS = 1000


def _config(measurement: Measurement) -> dict[str, Any]:
    is_quick, text = measurement.is_quick, measurement.setting.text
    return {
        "n_eval_reconstruction_batches": 8 if is_quick else 200,
        "n_eval_sparsity_variance_batches": 24 if is_quick else 2000,
        "eval_batch_size_prompts": 16,
        "exclude_special_tokens_from_reconstruction": True,
        "dataset": text.name,
        "context_size": measurement.sae.context_size if is_quick else 128,
        # SAEBench shuffles shards alone, so that all seeds read a local file in one order.
        "shuffled_rows": _SHUFFLED_ROWS if text.is_local else 1,
    }


def _run(measurement: Measurement, sae: SAE[Any]) -> Mapping[str, float]:
    config = dict(measurement.config)
    rows = config.pop("shuffled_rows")
    shuffled = ActivationsStore.shuffle_input_dataset

    def shuffle(store: ActivationsStore, *_: Any, **__: Any) -> None:
        """SAEBench always shuffles with seed 42; one seed says nothing of the noise."""
        shuffled(store, seed=measurement.seed, buffer_size=rows)

    # core logs its exceptions and goes on; here they are collected.
    logger, errors = logging.Logger("core"), BufferingHandler(capacity=1000)
    logger.addHandler(errors)
    errors.setLevel(logging.ERROR)
    main = measurement.eval.module("main")
    with replaced(ActivationsStore, shuffle_input_dataset=shuffle), replaced(main, logger=logger):
        main.multiple_evals(
            [(measurement.sae.name, sae)],
            **config,
            # With either of them off, SAEBench writes nothing, and does not say so.
            compute_featurewise_density_statistics=True,
            compute_featurewise_weight_based_metrics=True,
            output_folder=str(measurement.written.parent),
            dtype="float32",
            device=measurement.setting.request.device,
            force_rerun=True,
        )
        if errors.buffer and not measurement.written.exists():
            raise RunFailedError(one_line(errors.buffer[-1].getMessage()))
        return _corrected(measurement, sae)


@torch.no_grad()
def _corrected(measurement: Measurement, sae: SAE[Any]) -> dict[str, float]:
    """Explained variance as SAELens defines it, and the error per token, on core's own tokens.

    SAEBench 0.6.0 squares once too often in the former and divides the latter by the number of
    tokens in a batch. The activations' variance is taken over all tokens, about their mean.
    """
    config, device = measurement.config, measurement.setting.request.device
    model, hook = measurement.setting.model, measurement.sae.hook_name
    store = ActivationsStore.from_sae(
        model, sae, dataset=config["dataset"], context_size=config["context_size"]
    )
    store.shuffle_input_dataset(seed=measurement.seed)
    size = config["eval_batch_size_prompts"]
    for _ in range(config["n_eval_reconstruction_batches"]):
        store.get_batch_tokens(size)
    tokenizer = model.tokenizer
    special = torch.tensor(
        [tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id], device=device
    )
    explained_variance = ExplainedVarianceCalculator()
    for _ in range(config["n_eval_sparsity_variance_batches"]):
        tokens = store.get_batch_tokens(size).to(device)
        _, cache = model.run_with_cache(tokens, prepend_bos=False, names_filter=[hook])
        x = cache[hook].flatten(start_dim=2)
        kept = ~torch.isin(tokens, special)
        x_hat = sae.decode(sae.encode(x))
        explained_variance.add_batch(x_hat[kept], x[kept])
    return {
        "explained_variance": explained_variance.compute(),
        "mse_per_token": explained_variance.sum_squared_residual / explained_variance.num_samples,
    }


CORRECTED = (
    Metric(
        metric="explained_variance",
        label="explained variance",
        direction="up",
        headline=True,
        definition="1 − E‖x − x̂‖² / E‖x − E x‖², unweighted, on SAEBench's own tokens.",
        eval="corrected/core",
    ),
    Metric(
        metric="mse_per_token",
        label="squared error per token",
        direction="down",
        definition="Squared error ‖x − x̂‖², mean over tokens.",
        eval="corrected/core",
    ),
)
"""What `run` measures beside SAEBench's core."""

_DEFINITIONS = {
    "ce_loss_score": "(CE with the activations set to 0 − CE with the reconstruction) / (CE with 0 "
    "− CE of the model); CE is the model's cross-entropy on the next token.",
    "kl_div_score": "The same for KL(model ‖ model with the SAE) in place of the cross-entropy.",
    "explained_variance_legacy": "Mean over tokens of 1 − error / deviation, as in SAEBench's "
    "paper.",
    "explained_variance": "SAEBench's own figure, which squares once too often; see the corrected "
    "one.",
    "mse": "SAEBench's squared error, divided by the tokens of a batch: it changes with the batch "
    "size.",
    "cossim": "Mean cosine between activation and reconstruction.",
    "l2_ratio": "‖x̂‖ / ‖x‖, mean over tokens; below 1 is shrinkage.",
    "l0": "Latents active on a token, mean. Descriptive: most metrics follow it.",
    "frac_alive": "Share of latents that fired at least once.",
}


def _metrics(config: dict[str, Any]) -> Sequence[Metric]:
    tokens = config["eval_batch_size_prompts"] * config["context_size"]
    quality = "reconstruction_quality"
    squared = "SAEBench 0.6.0 squares once too often; corrected/core has the right one"
    legacy = "mean over tokens of 1 − error / deviation, as in SAEBench's paper"
    divided = f"divided by the tokens of a batch (up to {tokens}); not comparable across sizes"
    of_saebench: tuple[tuple[str, str, str, Direction, str], ...] = (
        ("model_performance_preservation", "ce_loss_score", "loss recovered", "up", ""),
        ("model_behavior_preservation", "kl_div_score", "KL recovered", "up", ""),
        (quality, "explained_variance", "explained variance (SAEBench)", "up", squared),
        (quality, "explained_variance_legacy", "explained variance (legacy)", "up", legacy),
        (quality, "mse", "MSE (SAEBench)", "down", divided),
        (quality, "cossim", "cosine similarity", "up", ""),
        ("shrinkage", "l2_ratio", "‖x̂‖ / ‖x‖", "none", ""),
        ("sparsity", "l0", "L0", "none", ""),
        ("misc_metrics", "frac_alive", "live latents", "up", ""),
    )
    return [
        *(
            # core writes -1 where a value is not a number.
            Metric(
                category=category,
                metric=name,
                label=label,
                direction=direction,
                headline=name == "ce_loss_score",
                note=note,
                missing=-1,
                definition=_DEFINITIONS[name],
            )
            for category, name, label, direction, note in of_saebench
        ),
        *CORRECTED,
    ]


EVALS = (
    Eval(
        name="core",
        package="core",
        config_class="CoreEvalConfig",
        output_class="CoreEvalOutput",
        config=_config,
        metrics=_metrics,
        run=_run,
        data=lambda measurement: measurement.setting.text.fingerprint,
        seconds=9.0,
    ),
)
