"""SAELens's own way to train a TopK SAE, with one line changed, on the bundled model.

python examples/weighted_topk.py
"""

from sae_lens import (
    LanguageModelSAERunnerConfig,
    LanguageModelSAETrainingRunner,
    LoggingConfig,
    TopKTrainingSAEConfig,  # noqa: F401
)

from wsae_plugin import WeightedTopKTrainingSAEConfig
from wsae_plugin.assets import bundled_dataset, bundled_model_path

total_training_steps = 100
batch_size = 1024

cfg = LanguageModelSAERunnerConfig(
    # Data Generating Function (Model + Training Distribution)
    model_name=str(bundled_model_path()),
    model_class_name="AutoModelForCausalLM",
    hook_name="gpt_neox.layers.2",
    is_dataset_tokenized=False,
    # SAE parameters. SAELens's line was:
    # sae=TopKTrainingSAEConfig(d_in=128, d_sae=1024, k=16),
    sae=WeightedTopKTrainingSAEConfig(d_in=128, d_sae=1024, k=16, alpha=0.5),
    # Training Parameters
    lr=1e-3,
    lr_decay_steps=total_training_steps // 5,
    train_batch_size_tokens=batch_size,
    # Activation Store Parameters
    context_size=128,
    n_batches_in_buffer=32,
    training_tokens=total_training_steps * batch_size,
    store_batch_size_prompts=16,
    # Misc
    logger=LoggingConfig(log_to_wandb=False),
    device="cpu",
    seed=42,
    checkpoint_path=None,
    output_path="weighted_topk",
    dtype="float32",
)

if __name__ == "__main__":
    runner = LanguageModelSAETrainingRunner(cfg, override_dataset=bundled_dataset("train"))
    sparse_autoencoder = runner.run()
