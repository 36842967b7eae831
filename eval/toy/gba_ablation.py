"""Group Bias Adaptation where features are known: what the recipe's open points do to recovery.

    python eval/toy/gba_ablation.py --output eval/toy/gba_ablation.json           # all, 5 seeds
    python eval/toy/gba_ablation.py --variant gba --variant top-k-30 --seeds 2

Data: X = HV of arXiv 2506.14002 with 128 features in 42 dimensions; half of the samples have 3
features, half 20. Every run is the real training SAE in `WeightedSAETrainer`, on 512 samples a step
from a pool of 100,000. Every seed has its own V, its own samples and its own initial weights.
Measured is FRR(τ), the share of features that some latent has a cosine of at least τ with.

A variant is the row "gba" with one thing changed. Open in the text are the learning rate, b_pre
(trained or fixed, and from where), the first output scales, how unit length is kept, and whether a
latent that fires gives its pre-activation (JumpReLU) or what is above the threshold (ReLU). The
Top-k rows are SAELens's own class at the same width and at its default rate; beside them, "tied"
rows have GBA's weights, rate and start, and only the selection differs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import sae_lens
import torch
import typer
from rich.console import Console
from rich.table import Table
from sae_lens import LoggingConfig, TopKTrainingSAE, TopKTrainingSAEConfig, TrainingSAE
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.sae import TrainStepInput, TrainStepOutput
from torch import Tensor
from torch.nn.functional import normalize
from tqdm.auto import tqdm
from typing_extensions import override

import wsae_plugin
from wsae_plugin.saes.gba import GBATrainingSAE, GBATrainingSAEConfig
from wsae_plugin.toy.metrics import feature_recovery_rate
from wsae_plugin.toy.worlds import World, random_dictionary
from wsae_plugin.training.trainer import WeightedSAETrainer

N_FEATURES, D_IN, D_SAE, BATCH = 128, 42, 512, 512
POOL = 100_000
THRESHOLDS = (0.8, 0.9)


class ReLUVariant(GBATrainingSAE):
    """A latent gives what its pre-activation exceeds the threshold by."""

    @override
    def encode_with_hidden_pre(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden_pre = self.process_sae_in(x) @ self.W_enc
        return (hidden_pre + self.bias).relu(), hidden_pre


class ProjectedVariant(GBATrainingSAE):
    """Unit length by projection after a step, with gradients that point off the sphere."""

    @property
    @override
    def feature_directions(self) -> Tensor:
        return self.directions

    @override
    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        with torch.no_grad():
            self.directions.copy_(normalize(self.directions, dim=-1))
        return super().training_forward_pass(step_input)


class TopKVariant(GBATrainingSAE):
    """The 30 largest pre-activations of a sample, in place of biases: tied as GBA is."""

    @override
    def encode_with_hidden_pre(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden_pre = self.process_sae_in(x) @ self.W_enc
        top = hidden_pre.relu().topk(30, dim=-1)
        return torch.zeros_like(hidden_pre).scatter(-1, top.indices, top.values), hidden_pre


def gba(cls: type[GBATrainingSAE] = GBATrainingSAE, **fields: Any) -> Callable[[], GBATrainingSAE]:
    """Makes an SAE of the bundled shape."""
    shape: dict[str, Any] = {"d_in": D_IN, "d_sae": D_SAE}
    return lambda: cls(GBATrainingSAEConfig(**shape, **fields))


def top_k(k: int) -> Callable[[], TopKTrainingSAE]:
    """Makes SAELens's Top-k SAE, on inputs scaled in the same way."""
    normalization = "expected_average_only_in"
    return lambda: TopKTrainingSAE(
        TopKTrainingSAEConfig(d_in=D_IN, d_sae=D_SAE, k=k, normalize_activations=normalization)
    )


@dataclass(frozen=True)
class Variant:
    make: Callable[[], TrainingSAE[Any]] = field(default_factory=gba)
    lr: float = 3e-5
    trains_b_pre: bool = True
    b_pre_starts_at_mean: bool = False


VARIANTS: dict[str, Variant] = {
    "gba": Variant(),
    "lr-1e-5": Variant(lr=1e-5),
    "lr-1e-4": Variant(lr=1e-4),
    "lr-3e-4": Variant(lr=3e-4),
    "lr-1e-3": Variant(lr=1e-3),
    "relu": Variant(gba(ReLUVariant)),
    "projected": Variant(gba(ProjectedVariant)),
    "b-pre-0": Variant(trains_b_pre=False),
    "b-pre-mean": Variant(trains_b_pre=False, b_pre_starts_at_mean=True),
    "b-pre-from-mean": Variant(b_pre_starts_at_mean=True),
    "scale-1": Variant(gba(decoder_init_norm=1.0)),
    "bias-step-0.03": Variant(gba(bias_step_size=0.03)),
    "sample-norm": Variant(gba(normalize_activations="constant_norm_rescale")),
    "ltf-1e-4": Variant(gba(lowest_target_frequency=1e-4)),
    "ltf-3e-2": Variant(gba(lowest_target_frequency=3e-2)),
    "ba-0.1": Variant(gba(n_groups=1, highest_target_frequency=0.1)),
    "wrong-frequencies": Variant(gba(highest_target_frequency=5e-3, lowest_target_frequency=1e-4)),
    "alpha-0.5": Variant(gba(alpha=0.5)),
    "alpha-1": Variant(gba(alpha=1.0)),
    "top-k-20": Variant(top_k(20), lr=3e-4),
    "top-k-30": Variant(top_k(30), lr=3e-4),
    "top-k-50": Variant(top_k(50), lr=3e-4),
    "tied-top-k-30": Variant(gba(TopKVariant)),
    "tied-top-k-30-lr-3e-4": Variant(gba(TopKVariant), lr=3e-4),
}


def trainer(sae: TrainingSAE[Any], samples: Iterator[Tensor], lr: float) -> WeightedSAETrainer:
    """The package's trainer, without a schedule and without resampling."""
    cfg = SAETrainerConfig(
        n_checkpoints=0,
        checkpoint_path=None,
        save_final_checkpoint=False,
        total_training_samples=10**9,
        device="cpu",
        autocast=False,
        lr=lr,
        lr_end=lr,
        lr_scheduler_name="constant",
        lr_warm_up_steps=0,
        adam_beta1=0.9,
        adam_beta2=0.999,
        lr_decay_steps=0,
        n_restart_cycles=1,
        train_batch_size_samples=BATCH,
        dead_feature_window=1000,
        feature_sampling_window=2000,
        logger=LoggingConfig(log_to_wandb=False),
        n_batches_for_norm_estimate=20,
    )
    return WeightedSAETrainer(cfg=cfg, sae=sae, data_provider=samples)


def batches(world: World, seed: int) -> Iterator[Tensor]:
    """Batches drawn with replacement from a pool of the world's activations."""
    generator = torch.Generator().manual_seed(1000 + seed)
    pool = torch.cat([world.sample(10_000, generator)[1] for _ in range(POOL // 10_000)])
    while True:
        yield pool[torch.randint(POOL, (BATCH,), generator=generator)]


def train(variant: Variant, seed: int, steps: int, every: int) -> list[dict[str, float]]:
    """FRR and reconstruction of one run, each time `every` steps are done."""
    world = random_dictionary(N_FEATURES, D_IN, (3, 20), seed=seed)
    samples = batches(world, seed)
    torch.manual_seed(seed)
    sae = variant.make()
    run = trainer(sae, samples, variant.lr)
    run.activation_scaler.estimate_scaling_factor(
        D_IN, samples, run.cfg.n_batches_for_norm_estimate
    )
    if variant.b_pre_starts_at_mean:
        sae.b_dec.data = run.activation_scaler(next(samples)).mean(dim=0)
    sae.b_dec.requires_grad_(variant.trains_b_pre)
    history: list[dict[str, float]] = []
    for step in range(1, steps + 1):
        output = run.step(next(samples))
        run.n_training_steps += 1
        if step % every == 0:
            row = {"step": step, "loss": output.loss.item() / D_IN}
            row["l0"] = (output.feature_acts > 0).float().sum(dim=-1).mean().item()
            for threshold in THRESHOLDS:
                row[f"frr_{threshold}"] = feature_recovery_rate(
                    sae.W_dec, world.feature_vectors, threshold
                )
            history.append(row)
    return history


def main(
    variant: Annotated[list[str] | None, typer.Option(help="One of the variants; all.")] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each.")] = 5,
    first_seed: Annotated[int, typer.Option(help="The first one.")] = 0,
    steps: Annotated[int, typer.Option(help="Training steps of a run.")] = 5000,
    every: Annotated[int, typer.Option(help="Steps between two measurements.")] = 500,
    output: Annotated[Path | None, typer.Option(help="Where to write the figures as JSON.")] = None,
) -> None:
    """Train each variant over several seeds and print the mean FRR."""
    names = variant or list(VARIANTS)
    results: dict[str, Any] = {}
    table = Table("variant", "lr", "FRR(0.8)", "FRR(0.9)", "least FRR(0.9)", "loss", "L0")
    for name in names:
        chosen = range(first_seed, first_seed + seeds)
        runs = [train(VARIANTS[name], seed, steps, every) for seed in tqdm(chosen, desc=name)]
        last = {key: [run[-1][key] for run in runs] for key in runs[0][-1]}
        results[name] = {"lr": VARIANTS[name].lr, "seeds": list(chosen), "runs": runs}
        table.add_row(
            name,
            f"{VARIANTS[name].lr:g}",
            *(f"{mean(last[f'frr_{threshold}']):.1%}" for threshold in THRESHOLDS),
            f"{min(last['frr_0.9']):.1%}",
            f"{mean(last['loss']):.4f}",
            f"{mean(last['l0']):.1f}",
        )
        if output is not None:
            sizes = {"n_features": N_FEATURES, "d_in": D_IN, "d_sae": D_SAE, "batch": BATCH}
            versions = {"sae_lens": sae_lens.__version__, "wsae_plugin": wsae_plugin.__version__}
            about = {**sizes, "n_active": [3, 20], "steps": steps, **versions}
            output.write_text(json.dumps({**about, "variants": results}, indent=2) + "\n")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
