"""`core`: reconstruction, sparsity and the language model's loss; with the corrected figures."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import torch
from sae_lens.evals import ExplainedVarianceCalculator
from sae_lens.training.activations_store import ActivationsStore

from wsae_plugin.errors import RunFailedError
from wsae_plugin.messages import one_line
from wsae_plugin.saebench import library
from wsae_plugin.saebench.evals.base import Direction, Eval, Job, Metric, Situation

_SHUFFLED_ROWS = 1000


def _config(situation: Situation) -> dict[str, Any]:
    reconstruction, sparsity = (8, 24) if situation.is_quick else (200, 2000)
    return {
        "n_eval_reconstruction_batches": reconstruction,
        "n_eval_sparsity_variance_batches": sparsity,
        "eval_batch_size_prompts": 16,
        "exclude_special_tokens_from_reconstruction": True,
        "dataset": situation.text.name,
        "context_size": situation.context_size if situation.is_quick else 128,
        # SAEBench shuffles shards alone, so that all seeds read a local file in one order.
        "shuffled_rows": _SHUFFLED_ROWS if situation.text.is_local else 1,
    }


def _run(job: Job) -> Mapping[str, float]:
    config = dict(job.config)
    rows = config.pop("shuffled_rows")
    with _shuffled(job.seed, rows), _logged_errors("sae_bench.evals.core.main") as errors:
        library.module("evals.core.main").multiple_evals(
            job.selected,
            **config,
            # With either of them off, SAEBench writes nothing, and does not say so.
            compute_featurewise_density_statistics=True,
            compute_featurewise_weight_based_metrics=True,
            output_folder=str(job.results),
            dtype="float32",
            device=job.device,
            force_rerun=True,
        )
        if errors and not job.result_file.exists():
            raise RunFailedError(one_line(errors[-1]))
        return _corrected(job, config)


@torch.no_grad()
def _corrected(job: Job, config: dict[str, Any]) -> dict[str, float]:
    """Explained variance as SAELens defines it, and the error per token, on core's own tokens.

    SAEBench 0.6.0 squares once too often in the former and divides the latter by the number of
    tokens in a batch. The activations' variance is taken over all tokens, about their mean.
    """
    store = ActivationsStore.from_sae(
        job.model, job.sae, dataset=config["dataset"], context_size=config["context_size"]
    )
    store.shuffle_input_dataset(seed=job.seed)
    size = config["eval_batch_size_prompts"]
    for _ in range(config["n_eval_reconstruction_batches"]):
        store.get_batch_tokens(size)
    tokenizer, hook = job.model.tokenizer, job.sae.cfg.metadata.hook_name
    special = torch.tensor(
        [tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id],
        device=job.device,
    )
    explained_variance = ExplainedVarianceCalculator()
    for _ in range(config["n_eval_sparsity_variance_batches"]):
        tokens = store.get_batch_tokens(size).to(job.device)
        _, cache = job.model.run_with_cache(tokens, prepend_bos=False, names_filter=[hook])
        x = cache[hook].flatten(start_dim=2)
        kept = ~torch.isin(tokens, special)
        x_hat = job.sae.decode(job.sae.encode(x))
        explained_variance.add_batch(x_hat[kept], x[kept])
    return {
        "explained_variance": explained_variance.compute(),
        "mse_per_token": (explained_variance.sum_squared_residual / explained_variance.num_samples),
    }


@contextlib.contextmanager
def _shuffled(seed: int, rows: int) -> Generator[None]:
    """SAEBench always shuffles with seed 42; one seed says nothing of the noise."""
    original = ActivationsStore.shuffle_input_dataset

    def shuffle(self: ActivationsStore, *args: Any, **kwargs: Any) -> None:
        del args, kwargs
        original(self, seed=seed, buffer_size=rows)

    ActivationsStore.shuffle_input_dataset = shuffle
    try:
        yield
    finally:
        ActivationsStore.shuffle_input_dataset = original


@contextlib.contextmanager
def _logged_errors(logger_name: str) -> Generator[list[str]]:
    """core logs its exceptions and goes on; here they are collected."""
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger, handler = logging.getLogger(logger_name), Collector(logging.ERROR)
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates


def _metrics(config: dict[str, Any]) -> Sequence[Metric]:
    tokens = config["eval_batch_size_prompts"] * config["context_size"]
    quality = "reconstruction_quality"
    return [
        _metric(
            "model_performance_preservation", "ce_loss_score", "loss recovered", "up", headline=True
        ),
        _metric("model_behavior_preservation", "kl_div_score", "KL recovered", "up"),
        _metric(
            quality,
            "explained_variance",
            "explained variance (SAEBench)",
            "up",
            "SAEBench 0.6.0 squares once too often; corrected/core has the right one",
        ),
        _metric(
            quality,
            "explained_variance_legacy",
            "explained variance (legacy)",
            "up",
            "mean over tokens of 1 − error / deviation, as in SAEBench's paper",
        ),
        _metric(
            quality,
            "mse",
            "MSE (SAEBench)",
            "down",
            f"divided by the tokens of a batch (up to {tokens}); not comparable across sizes",
        ),
        _metric(quality, "cossim", "cosine similarity", "up"),
        _metric("shrinkage", "l2_ratio", "‖x̂‖ / ‖x‖", "none"),
        _metric("sparsity", "l0", "L0", "none"),
        _metric("misc_metrics", "frac_alive", "live latents", "up"),
    ]


def _metric(
    category: str,
    name: str,
    label: str,
    direction: Direction,
    note: str = "",
    headline: bool = False,
) -> Metric:
    # core writes -1 where a value is not a number.
    return Metric(name, (category, name), label, direction, headline, note=note, missing=-1)


CORRECTED = (
    Metric("explained_variance", (), "explained variance", "up", headline=True),
    Metric("mse_per_token", (), "squared error per token", "down"),
)
"""What `run` measures beside SAEBench's core."""

CORE = Eval(
    name="core",
    config=_config,
    run=_run,
    output=("evals.core.eval_output", "CoreEvalOutput"),
    metrics=_metrics,
    data=lambda situation: situation.text.fingerprint,
)
