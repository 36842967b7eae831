"""The config files that are shipped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from sae_lens import SAE

from tests.training.tiny import save_tokenizer, write_texts
from wsae_plugin.training import RunConfig, load_run_config

CONFIGS = Path(__file__).parents[2] / "configs"
PYTHIA = CONFIGS / "pythia-160m" / "one_layer.yaml"


def load(path: Path, *overrides: str) -> RunConfig:
    # The machine that runs the tests need not have the GPU that the paper's setting asks for.
    return load_run_config(path, ("device=cpu", *overrides))


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(CONFIGS.rglob("*.yaml")) if "arms:" not in path.read_text()],
    ids=lambda path: path.stem,
)
def test_every_config_is_one(path: Path) -> None:
    assert load(path).n_steps > 100


def test_the_weighted_config_differs_from_its_baseline_in_the_sae_alone() -> None:
    baseline = dict(load(CONFIGS / "bundled" / "topk.yaml").values)
    weighted = dict(load(CONFIGS / "bundled" / "weighted_topk.yaml").values)
    plain, with_gamma = baseline.pop("sae"), weighted.pop("sae")
    assert baseline == weighted
    assert {name: with_gamma[name] for name in plain} == plain | {"architecture": "weighted_topk"}


@pytest.mark.parametrize("layer", range(12))
def test_the_papers_setting_at_every_layer(layer: int) -> None:
    hook = f"blocks.{layer}.hook_resid_post"
    config = load(PYTHIA, f"hook_names={hook}")
    saes = config.values["saes"]
    assert config.runner_config().hook_names_per_sae == dict.fromkeys(saes, hook)
    for sae in saes.values():
        assert (sae["d_in"], sae["d_sae"], sae["k"]) == (768, 32 * 768, 32)
    assert {name: (sae["architecture"], sae.get("alpha")) for name, sae in saes.items()} == {
        "baseline": ("topk", None),
        "alpha-half": ("weighted_topk", 0.5),
        "alpha-1": ("weighted_topk", 1.0),
    }


def put_stand_in_for_pythia_into(hf_home: Path) -> None:
    """A random GPT-NeoX of exactly Pythia-160M's shape, laid out as the Hub's cache is."""
    repository = hf_home / "hub" / "models--EleutherAI--pythia-160m-deduped"
    revision = "0" * 40
    snapshot = repository / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    save_tokenizer(snapshot)
    torch.manual_seed(0)
    config = transformers.GPTNeoXConfig(
        vocab_size=50304,
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
        max_position_embeddings=2048,
        rotary_pct=0.25,
    )
    transformers.GPTNeoXForCausalLM(config).save_pretrained(snapshot)


@pytest.mark.slow
def test_the_papers_setting_trains_offline_on_a_model_of_pythias_shape(tmp_path: Path) -> None:
    put_stand_in_for_pythia_into(tmp_path / "hf")
    (tmp_path / "texts").mkdir()
    write_texts(tmp_path / "texts" / "train.jsonl", n_rows=400)
    fields: dict[str, Any] = {
        "device": "cpu",
        "dataset_path": tmp_path / "texts",
        "training_tokens": 3 * 256,
        "train_batch_size_tokens": 256,
        "store_batch_size_prompts": 2,
        "n_batches_in_buffer": 2,
        "context_size": 128,
        "lr_warm_up_steps": 0,
        "lr_decay_steps": 0,
        "n_checkpoints": 0,
        "logger.wandb_log_frequency": 1,
    }
    command = [sys.executable, "-c", "from wsae_plugin.cli import main; main()"]
    command += ["-q", "train", str(PYTHIA), "--output", str(tmp_path / "run"), "--json"]
    for name, value in fields.items():
        command += ["--set", f"{name}={value}"]
    environment = {
        **os.environ,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    for name in ("HF_HUB_CACHE", "HF_DATASETS_CACHE", "HUGGINGFACE_HUB_CACHE"):
        environment.pop(name, None)
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for name, run in json.loads(result.stdout)["saes"].items():
        assert run["metrics"]["metrics/l0"] == 32
        sae = SAE.load_from_disk(run["path"])
        assert (sae.cfg.d_in, sae.cfg.d_sae, sae.cfg.architecture()) == (768, 24_576, "topk")
        assert sae.cfg.metadata.model_name == "pythia-160m-deduped"
        assert sae.cfg.metadata.hook_name == "blocks.3.hook_resid_post"
        assert all(torch.isfinite(tensor).all() for tensor in sae.state_dict().values())
        assert (Path(run["path"]) / "gamma.safetensors").is_file() == (name != "baseline")
    metrics = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(metrics) == 3 * 3


def test_the_dry_run_of_several_processes_is_the_one_that_is_shown() -> None:
    folder = CONFIGS / "distributed"
    command = ["train", "configs/distributed/pythia_6.9b.yaml", "--set", "device=cpu", "--dry-run"]
    done = subprocess.run(
        [sys.executable, "-m", "wsae_plugin", *command],
        capture_output=True, text=True, check=True, cwd=CONFIGS.parent,
    )  # fmt: skip

    def shown(text: str) -> list[str]:
        # Whether the language model is on this machine decides what is known of it.
        lines = text.splitlines()
        kept = [li for li in lines if not li.startswith((" language model", " memory of"))]
        return " ".join(kept).split()

    assert shown(done.stdout) == shown((folder / "dry_run.txt").read_text())


@pytest.mark.parametrize("name", ["slurm.sh", "two_machines.sh"])
def test_scripts_are_shell(name: str) -> None:
    subprocess.run(["sh", "-n", CONFIGS / "distributed" / name], check=True)
