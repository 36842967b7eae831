"""SAELens's own runners and command line take the weighted architectures as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from sae_lens import (
    SAE,
    LanguageModelSAERunnerConfig,
    LanguageModelSAETrainingRunner,
    LoggingConfig,
    MultiSAETrainingRunner,
    MultiSAETrainingRunnerConfig,
)
from sae_lens.synthetic import (
    SyntheticModelConfig,
    SyntheticSAERunner,
    SyntheticSAERunnerConfig,
)
from sae_lens.util import temporary_seed
from transformer_lens import HookedTransformer, HookedTransformerConfig

from tests.architectures import ARCHITECTURES, D_IN, D_SAE, Architecture
from wsae_plugin.assets import bundled_dataset, bundled_model_path
from wsae_plugin.cli import main
from wsae_plugin.gamma import moments_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:To copy construct from a tensor:UserWarning"),
    pytest.mark.filterwarnings("ignore:The training dataset contains fewer samples:UserWarning"),
    pytest.mark.filterwarnings("ignore:Dataset is not tokenized:UserWarning"),
]
every_architecture = pytest.mark.parametrize("arch", ARCHITECTURES, ids=lambda a: a.name)
HOOK = "blocks.0.hook_resid_post"


@pytest.fixture(scope="module")
def model() -> HookedTransformer:
    torch.manual_seed(0)
    cfg = HookedTransformerConfig(
        n_layers=1, d_model=D_IN, n_ctx=16, d_head=4, d_vocab=50, act_fn="gelu"
    )
    return HookedTransformer(cfg)


@pytest.fixture(scope="module")
def tokens() -> Dataset:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 50, (4000, 16), generator=generator)
    return Dataset.from_dict({"tokens": rows.tolist()})


def store_settings(tmp_path: Path) -> dict[str, Any]:
    return {
        "context_size": 16,
        "training_tokens": 64 * 12,
        "train_batch_size_tokens": 64,
        "store_batch_size_prompts": 8,
        "n_batches_in_buffer": 8,
        "prepend_bos": False,
        "checkpoint_path": None,
        "output_path": str(tmp_path / "output"),
        "logger": LoggingConfig(log_to_wandb=False),
        "seed": 0,
    }


@every_architecture
def test_language_model_runner(
    arch: Architecture, model: HookedTransformer, tokens: Dataset, tmp_path: Path
) -> None:
    sae_cfg = arch.weighted(alpha=1.0, gamma_freeze_step=4).cfg
    cfg = LanguageModelSAERunnerConfig(
        sae=sae_cfg, hook_name=HOOK, verbose=False, **store_settings(tmp_path)
    )
    assert LanguageModelSAERunnerConfig.from_dict(cfg.to_dict()).sae.to_dict() == sae_cfg.to_dict()
    sae = LanguageModelSAETrainingRunner(cfg, override_dataset=tokens, override_model=model).run()
    assert sae.gamma_scheduler.read().activations.count == 4 * 64
    published = SAE.load_from_disk(tmp_path / "output")
    assert published.cfg.metadata.training_architecture == f"weighted_{arch.name}"
    assert published.cfg.metadata.hook_name == HOOK
    if "batchtopk" in arch.name:  # a tenth of the way to it after twelve steps
        threshold = published.cfg.metadata["threshold"]
        assert threshold["published"] > 5 * threshold["topk_threshold"] > 0


def test_multi_sae_runner_matches_baselines_on_one_forward_pass(
    model: HookedTransformer, tokens: Dataset, tmp_path: Path
) -> None:
    saes: dict[str, Any] = {}
    for arch in ARCHITECTURES:
        with temporary_seed(0):
            saes[arch.name] = arch.parent()
        for alpha in (0.0, 1.0):
            saes[f"{arch.name}_alpha_{alpha:g}"] = arch.weighted(alpha=alpha)
    cfg = MultiSAETrainingRunnerConfig(
        saes={name: sae.cfg for name, sae in saes.items()},
        hook_names=HOOK,
        **store_settings(tmp_path),
    )
    trained = MultiSAETrainingRunner(
        cfg, override_dataset=tokens, override_model=model, override_saes=saes
    ).run()
    for arch in ARCHITECTURES:
        baseline = trained[arch.name]
        assert torch.equal(baseline.W_dec, trained[f"{arch.name}_alpha_0"].W_dec)
        assert not torch.equal(baseline.W_dec, trained[f"{arch.name}_alpha_1"].W_dec)
        for name in (arch.name, f"{arch.name}_alpha_1"):
            SAE.load_from_disk(tmp_path / "output" / name)


@every_architecture
def test_synthetic_runner(arch: Architecture, tmp_path: Path) -> None:
    cfg = SyntheticSAERunnerConfig(
        synthetic_model=SyntheticModelConfig(num_features=D_SAE, hidden_dim=D_IN, seed=0),
        sae=arch.weighted(alpha=1.0).cfg,
        training_samples=64 * 12,
        batch_size=64,
        eval_samples=256,
        checkpoint_path=None,
        output_path=str(tmp_path),
        logger=LoggingConfig(log_to_wandb=False),
    )
    result = SyntheticSAERunner(cfg).run()
    assert result.final_eval is not None
    assert torch.isfinite(result.sae.gamma).all()
    SAE.load_from_disk(tmp_path)


@pytest.mark.parametrize("arch", ["weighted_topk", "weighted_jumprelu"])
def test_saelens_command_line(arch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    data.mkdir()
    bundled_dataset("train").select(range(200)).to_parquet(data / "train.parquet")
    flags: dict[str, Any] = {
        "architecture": arch,
        "model_name": bundled_model_path(),
        "dataset_path": data,
        "model_class_name": "AutoModelForCausalLM",
        "hook_name": "gpt_neox.layers.0",
        "d_in": 128,
        "d_sae": 256,
        "alpha": 0.5,
        "gamma_proxy": "kurtosis",
        "gamma_freeze_step": 3,
        "context_size": 32,
        "training_tokens": 256 * 6,
        "train_batch_size_tokens": 256,
        "n_batches_in_buffer": 16,
        "store_batch_size_prompts": 8,
        "output_path": tmp_path / "output",
        "checkpoint_path": tmp_path / "checkpoints",
        "dataset_trust_remote_code": "false",
        "log_to_wandb": "false",
        "verbose": "false",
    }
    arguments = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    monkeypatch.setattr("sys.argv", ["wsae", "saelens", *arguments])
    with pytest.raises(SystemExit) as done:
        main()
    assert not done.value.code
    details = SAE.load_from_disk(tmp_path / "output").cfg.metadata
    assert details.training_architecture == arch
    assert details.training_architecture_details["alpha"] == 0.5
    assert details.training_architecture_details["gamma_proxy"] == "kurtosis"


def test_saelens_command_line_refuses_what_saelens_refuses(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["wsae", "saelens", "--architecture", "weighted_tpok"])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 2
    assert "weighted_tpok" in capsys.readouterr().err


def test_exact_moments_through_the_store(
    model: HookedTransformer, tokens: Dataset, tmp_path: Path
) -> None:
    seen: list[torch.Tensor] = []
    arch = next(a for a in ARCHITECTURES if a.name == "topk")
    sae = arch.weighted(alpha=1.0, gamma_freeze_step=None)
    forward = sae.training_forward_pass

    def recording(step_input: Any) -> Any:
        seen.append(step_input.sae_in.clone())
        return forward(step_input)

    sae.training_forward_pass = recording  # type: ignore[method-assign]
    cfg = LanguageModelSAERunnerConfig(
        sae=sae.cfg, hook_name=HOOK, verbose=False, **store_settings(tmp_path)
    )
    LanguageModelSAETrainingRunner(
        cfg, override_dataset=tokens, override_model=model, override_sae=sae
    ).run()
    assert len(seen) == 12
    torch.testing.assert_close(
        sae.gamma_scheduler.read().activations.variance,
        moments_of(torch.cat(seen)).variance,
        rtol=1e-10,
        atol=0,
    )
