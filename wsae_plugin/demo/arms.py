"""What the demonstration compares, and with which settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from wsae_plugin.sources.opening import BUNDLED


@dataclass(frozen=True)
class Arm:
    """One SAE of the comparison.

    Args:
        name: in files and tables.
        label: for readers.
        role: what the comparison needs it for.
        alpha: the exponent in γ = s^alpha.
        proxy: what s is.
    """

    name: str
    label: str
    role: Literal["baseline", "weighted", "control"]
    alpha: float
    proxy: str = "variance"


ARMS = (
    Arm("sae", "SAE, α = 0", "baseline", 0.0),
    Arm("wsae-half", "WSAE, α = 0.5", "weighted", 0.5),
    Arm("wsae-one", "WSAE, α = 1", "weighted", 1.0),
    Arm("shuffled", "shuffled Γ, α = 1", "control", 1.0, "shuffled_variance"),
    Arm("opposite", "opposite, α = −0.5", "control", -0.5),
)
BASELINE = ARMS[0].name
STRONGEST = "wsae-one"


@dataclass(frozen=True)
class DemoSettings:
    """What the demonstration trains and measures; the defaults take a minute and a half.

    Args:
        hook_name: residual stream of the bundled model that the SAEs read.
        d_in: its width.
        d_sae: latents of an SAE.
        k: active latents on a token.
        context_size: tokens in a context, BOS included.
        training_tokens: for each seed.
        batch_size: tokens in a training step.
        lr: Adam's learning rate, falling over the last fifth of the steps.
        gamma_freeze_step: Γ is estimated over so many steps, then frozen.
        n_seeds: independent repetitions, each with its own initial weights and order of the data.
        n_held_out_batches: the blocks that the bootstrap draws from.
        held_out_prompts: contexts in one of them.
    """

    hook_name: str = "gpt_neox.layers.2"
    d_in: int = 128
    d_sae: int = 512
    k: int = 32
    context_size: int = 256
    training_tokens: int = 204_800
    batch_size: int = 512
    lr: float = 5e-3
    gamma_freeze_step: int = 100
    n_seeds: int = 2
    n_held_out_batches: int = 16
    held_out_prompts: int = 6

    def config(self, seed: int) -> dict[str, Any]:
        """The config, for `wsae train`, of all arms from one seed."""
        n_steps = self.training_tokens // self.batch_size
        return {
            "model_name": BUNDLED,
            "model_class_name": "AutoModelForCausalLM",
            "dataset_path": BUNDLED,
            "hook_names": self.hook_name,
            "saes": {arm.name: self._sae(arm, seed) for arm in ARMS},
            "context_size": self.context_size,
            "exclude_special_tokens": True,
            "training_tokens": self.training_tokens,
            "train_batch_size_tokens": self.batch_size,
            "store_batch_size_prompts": 8,
            "n_batches_in_buffer": 64,
            "lr": self.lr,
            "lr_warm_up_steps": n_steps // 20,
            "lr_decay_steps": n_steps // 5,
            "dead_feature_window": max(1, n_steps // 4),
            "seed": seed,
            "logger": {"wandb_log_frequency": max(1, n_steps // 25)},
        }

    def _sae(self, arm: Arm, seed: int) -> dict[str, Any]:
        return {
            "architecture": "weighted_topk",
            "d_in": self.d_in,
            "d_sae": self.d_sae,
            "k": self.k,
            "alpha": arm.alpha,
            "gamma_proxy": arm.proxy,
            "gamma_freeze_step": self.gamma_freeze_step,
            "gamma_seed": seed,
        }
