"""Tiny SAEs on the bundled model, trained and measured once, and a Hub on loopback."""

from __future__ import annotations

import importlib
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import save_file

from tests.hub.server import TOKEN, FakeHub
from wsae_plugin.cli import main as run_main
from wsae_plugin.cli.card import card
from wsae_plugin.cli.push import push
from wsae_plugin.cli.verify import verify
from wsae_plugin.compare.plan import load_comparison_config
from wsae_plugin.compare.run import run_comparison
from wsae_plugin.measures.evaluate import EvalSettings, evaluate_runs
from wsae_plugin.training import load_run_config, train

Wsae = Callable[..., tuple[int, str]]

CONFIG = """
model_name: bundled
dataset_path: bundled
hook_name: blocks.2.hook_resid_post
sae: {architecture: ARCHITECTURE, d_in: 128, d_sae: 256, k: 8}
context_size: 64
store_batch_size_prompts: 4
n_batches_in_buffer: 16
training_tokens: 5120
train_batch_size_tokens: 256
lr: 0.001
"""


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run folders `ordinary`, `weighted` and `gba`."""
    folder = tmp_path_factory.mktemp("trained")
    runs = {
        "ordinary": "topk",
        "weighted": "weighted_batchtopk, alpha: 0.5, gamma_freeze_step: 10",
        "gba": "gba",
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for name, architecture in runs.items():
        file = folder / f"{name}.yaml"
        config = CONFIG.replace("ARCHITECTURE", architecture)
        file.write_text(config.replace(", k: 8", "") if name == "gba" else config)
        train(load_run_config(file), folder / name)
    evaluate_runs([folder / name for name in runs], EvalSettings(None, 2, 2, 0))
    torch.set_num_threads(threads)
    return folder


LITERAL = '"WSAE, α = 1, literal Γ"'
COMPARISON = """
hooks: [blocks.1.hook_resid_post, blocks.2.hook_resid_post]
seeds: [0, 1]
sparsity: {k: [8]}
baseline: sae
arms:
  sae: {alpha: 0}
  literal:
    {alpha: 1, gamma_normalization: none, gamma_proxy: file, gamma_file: PROXY, label: LITERAL}
  constant: {control: constant, of: literal}
  whitened: {control: whitening}
n_batches_for_norm_estimate: 4
"""


@pytest.fixture(scope="session")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison folder: 4 arms at 2 hooks, from 2 seeds, measured; Γ of two is from a file."""
    folder = tmp_path_factory.mktemp("compared")
    common = CONFIG.replace("ARCHITECTURE", "weighted_topk, gamma_freeze_step: 10")
    # What the comparison varies is not also said once for all.
    common = common.replace(", k: 8", "").replace("hook_name: blocks.2.hook_resid_post\n", "")
    proxy = folder / "s.safetensors"
    save_file({"s": torch.linspace(0.5, 2, 128)}, proxy)
    file = folder / "comparison.yaml"
    file.write_text(common + COMPARISON.replace("PROXY", str(proxy)).replace("LITERAL", LITERAL))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run_comparison(load_comparison_config(file), folder / "comparison")
    evaluate_runs([folder / "comparison"], EvalSettings(None, 2, 2, 0))
    torch.set_num_threads(threads)
    return folder / "comparison"


@pytest.fixture
def comparison(compared: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(compared, tmp_path / "comparison"))


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> list[Path]:
    """Copies that a test may change: the ordinary run and the weighted one."""
    names = ("ordinary", "weighted")
    return [Path(shutil.copytree(trained / name, tmp_path / name)) for name in names]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """The Hub that the real client talks to, with the right token, in a cache of its own."""
    server = FakeHub()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    # Older clients have a copy of it.
    monkeypatch.setattr(
        "huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False
    )
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def wsae(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Wsae]:
    """Run a command line; returns the exit code and all that was printed."""
    app: Any = importlib.import_module("wsae_plugin.cli.main").app
    known = {command.callback for command in app.registered_commands}
    for command in (card, push, verify):
        if command not in known:
            app.command()(command)
    root, threads = logging.getLogger(), torch.get_num_threads()
    handlers, level = root.handlers[:], root.level
    torch.set_num_threads(1)

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["wsae", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            run_main()
        output = capfd.readouterr()
        code = ended.value.code
        return code if isinstance(code, int) else 0, output.out + output.err

    yield run
    torch.set_num_threads(threads)
    root.handlers[:], root.level = handlers, level
