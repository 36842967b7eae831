"""SAEs as people's own scripts leave them: SAELens's tutorials on the bundled model, short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sae_lens import (
    JumpReLUTrainingSAEConfig,
    LanguageModelSAERunnerConfig,
    LanguageModelSAETrainingRunner,
    LoggingConfig,
    MultiSAETrainingRunner,
    MultiSAETrainingRunnerConfig,
    TopKTrainingSAEConfig,
)
from sae_lens.synthetic import SyntheticModelConfig, SyntheticSAERunner, SyntheticSAERunnerConfig

from wsae_plugin import WeightedJumpReLUTrainingSAEConfig, WeightedTopKTrainingSAEConfig
from wsae_plugin.assets import BUNDLED_MODEL_NAME, bundled_dataset, bundled_model_path

WIDTH: dict[str, Any] = {"d_in": 128, "d_sae": 128}
HOOK = "gpt_neox.layers.1"


def topk(weighted: bool = True, **fields: Any) -> Any:
    cls = WeightedTopKTrainingSAEConfig if weighted else TopKTrainingSAEConfig
    return cls(**WIDTH, k=8, **fields)


def jumprelu(weighted: bool = True) -> Any:
    cls = WeightedJumpReLUTrainingSAEConfig if weighted else JumpReLUTrainingSAEConfig
    return cls(**WIDTH)


def settings(folder: Path, **changed: Any) -> dict[str, Any]:
    return {
        "model_name": BUNDLED_MODEL_NAME,
        "model_class_name": "AutoModelForCausalLM",
        "dataset_path": "bundled",
        "context_size": 64,
        "training_tokens": 120 * 256,
        "lr": 1e-3,
        "train_batch_size_tokens": 256,
        "store_batch_size_prompts": 8,
        "n_batches_in_buffer": 8,
        "n_batches_for_norm_estimate": 4,
        "prepend_bos": False,
        "checkpoint_path": str(folder / "checkpoints"),
        "output_path": str(folder / "out"),
        "logger": LoggingConfig(log_to_wandb=False),
        "device": "cpu",
        "seed": 0,
    } | changed


def train_one(folder: Path, sae: Any, model: Any, hook_name: str = HOOK, **changed: Any) -> Path:
    """LanguageModelSAETrainingRunner; returns where it saved the SAE."""
    cfg = LanguageModelSAERunnerConfig(
        sae=sae, hook_name=hook_name, verbose=False, **settings(folder, **changed)
    )
    text = bundled_dataset("train").to_iterable_dataset()
    LanguageModelSAETrainingRunner(cfg, override_dataset=text, override_model=model).run()
    return folder / "out"


def train_several(folder: Path, saes: dict[str, Any], model: Any, **changed: Any) -> Path:
    """MultiSAETrainingRunner; returns the folder of the folders of the SAEs."""
    cfg = MultiSAETrainingRunnerConfig(saes=saes, hook_names=HOOK, **settings(folder, **changed))
    text = bundled_dataset("train").to_iterable_dataset()
    MultiSAETrainingRunner(cfg, override_dataset=text, override_model=model).run()
    return folder / "out"


def train_synthetic(folder: Path) -> Path:
    """SyntheticSAERunner; returns where it saved the SAE."""
    cfg = SyntheticSAERunnerConfig(
        synthetic_model=SyntheticModelConfig(num_features=32, hidden_dim=16, seed=0),
        sae=WeightedTopKTrainingSAEConfig(d_in=16, d_sae=32, k=4),
        training_samples=120 * 256,
        batch_size=256,
        lr=1e-2,
        eval_samples=512,
        output_path=str(folder / "out"),
        device="cpu",
        logger=LoggingConfig(log_to_wandb=False),
    )
    SyntheticSAERunner(cfg).run()
    return folder / "out"


def bundled_hugging_face_model() -> Any:
    """The bundled model, as SAELens loads a model of Hugging Face."""
    from sae_lens.load_model import load_model

    return load_model("AutoModelForCausalLM", str(bundled_model_path()), device="cpu")
