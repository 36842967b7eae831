"""`wsae demo`: what it writes, that it repeats, and what it leaves alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

import wsae_plugin.cli.demo as demo_module
from wsae_plugin.cli.demo import CONFIG, run_demo
from wsae_plugin.cli.main import app
from wsae_plugin.compare import run
from wsae_plugin.errors import BadInputError, RunFailedError

ARMS = ("sae", "wsae-half", "wsae-one", "shuffled", "opposite", "fisher")
TINY = {
    "context_size": 64,
    "training_tokens": 3072,
    "train_batch_size_tokens": 256,
    "lr_warm_up_steps": 0,
    "lr_decay_steps": 0,
    "logger": {"wandb_log_frequency": 4},
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration's own config, made small."""
    values = yaml.safe_load(CONFIG.read_text()) | TINY
    values["sae"] |= {"d_sae": 160, "k": 4, "gamma_freeze_step": 4}
    path = tmp_path_factory.mktemp("config") / "demo.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def demo(tiny: Path, *arguments: object) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_module.run_demo, "__defaults__", (tiny,))
        patch.setattr(demo_module, "BATCHES", 3)
        patch.setattr(demo_module, "BATCH_SIZE_PROMPTS", 2)
        runner = CliRunner(env={"COLUMNS": "200"})
        result = runner.invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.fixture(scope="module")
def folder(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny demonstration made through the command, and its standard output."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("demo") / "wsae-demo"
    stdout = demo(tiny, "demo", "--output", folder)
    (folder.parent / "stdout").write_text(stdout)
    return folder


@pytest.fixture
def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())


def test_the_folder_is_complete(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {
        "comparison.yaml",
        "manifest.json",
        "report.html",
        "report.json",
        "report.md",
        "runs",
    }
    runs = {path.name for path in (folder / "runs").iterdir()}
    assert runs == {f"layer-2-{arm}-seed-{seed}" for arm in ARMS for seed in (0, 1)}
    assert {path.name for path in folder.parent.iterdir()} == {"wsae-demo", "stdout"}


def test_the_terminal_shows_the_table_the_verdict_and_the_path(folder: Path) -> None:
    stdout = (folder.parent / "stdout").read_text()
    for expected in (
        *("weighted explained variance", "cross-entropy recovered", "shuffled", "2 seeds are few"),
        "±",
    ):
        assert expected in stdout
    assert str(folder / "report.html") in stdout


def test_the_figures_and_the_interval_over_batches_are_in_the_page(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert page.count("<svg") == 5
    for shown in (
        "Γ sorted",
        "Were they trained long enough?",
        "over batches",
        "What the weighting",
    ):
        assert shown.lower() in page.lower()


def test_the_numbers_are_whole(result: dict[str, Any]) -> None:
    assert [arm["name"] for arm in result["arms"]] == list(ARMS)
    assert result["compared"]["seeds"] == [0, 1]
    # 3 batches of 2 contexts of 64 tokens, each led by a BOS that no score sees
    assert 0 < result["compared"]["held_out"]["tokens"] <= 3 * 2 * 63
    metrics = {metric["metric"]: metric for metric in result["metrics"]}
    assert metrics["l0"]["baseline"]["mean"] <= 4
    for name in ("explained_variance", "weighted_explained_variance", "ce_loss_recovered"):
        for arm in ARMS[1:]:
            entry = metrics[name]["arms"][arm]
            assert len(entry["per_seed"]) == 2
            assert entry["over_batches"] > 0
    assert set(result["learning"]) == set(ARMS)
    assert set(result["gammas"]) == set(ARMS) - {"sae", "fisher"}


def test_the_arms_differ_in_gamma_alone(folder: Path) -> None:
    gammas = {
        arm: load_file(folder / "runs" / f"layer-2-{arm}-seed-0" / "sae" / "gamma.safetensors")
        for arm in ARMS
    }
    sae, half, one, shuffled, opposite, fisher = (gammas[arm]["gamma"].double() for arm in ARMS)
    assert (sae == 1).all() and (fisher == 1).all()
    assert not torch.equal(shuffled, one)
    # Each keeps the total variance, so they are equal but for a factor.
    variance = gammas[ARMS[2]]["variance"].double()
    for gamma in (half, one, shuffled, opposite):
        torch.testing.assert_close(
            (gamma.square() * variance).sum(), variance.sum(), rtol=1e-5, atol=0
        )
    ratios = shuffled.sort()[0] / one.sort()[0]
    torch.testing.assert_close(ratios, ratios.mean().expand_as(ratios), rtol=1e-5, atol=0)
    for gamma, power in ((half, 0.5), (opposite, -0.5)):
        ratios = gamma / one**power
        torch.testing.assert_close(ratios, ratios.mean().expand_as(ratios), rtol=1e-5, atol=0)


def test_the_saes_load_without_this_package(folder: Path) -> None:
    script = (
        "import sys; from sae_lens import SAE; "
        "sae = SAE.load_from_disk(sys.argv[1]); print(sae.cfg.architecture()); "
        "assert not any(name.startswith('wsae') for name in sys.modules)"
    )
    path = str(folder / "runs" / "layer-2-wsae-one-seed-0" / "sae")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "topk"


def test_the_same_seed_gives_the_same_numbers(
    folder: Path, tiny: Path, result: dict[str, Any]
) -> None:
    mine = folder / "notes.txt"
    mine.write_text("a user's own file")
    printed = json.loads(demo(tiny, "-q", "demo", "--output", folder, "--json"))
    assert printed == json.loads((folder / "report.json").read_text())
    assert printed.pop("wall_clock_seconds").keys() == result.pop("wall_clock_seconds").keys()
    assert printed == result
    assert mine.read_text() == "a user's own file"
    mine.unlink()


def test_a_folder_of_others_is_refused(tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(BadInputError, match="holds no former demonstration"):
        run_demo(tmp_path, 0, tiny)
    with pytest.raises(BadInputError, match="is a file"):
        run_demo(tmp_path / "precious.txt", 0, tiny)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]
    # Somebody's own comparison is none of ours to replace.
    (tmp_path / "manifest.json").write_text('{"command": "wsae compare mine.yaml"}')
    with pytest.raises(BadInputError, match="holds no former demonstration"):
        run_demo(tmp_path, 0, tiny)


def test_a_failure_leaves_the_folder_as_it_was(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RunFailedError("training failed: it is a test; see /staging") from OSError("disk")

    monkeypatch.setattr(run, "run_comparison", fail)
    with pytest.raises(RunFailedError, match="the demo's training failed: disk"):
        run_demo(tmp_path / "new", 0, tiny)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_whole_demonstration(tmp_path: Path) -> None:
    metrics = {metric["metric"]: metric for metric in run_demo(tmp_path / "demo", 0)["metrics"]}
    assert metrics["explained_variance"]["baseline"]["mean"] > 0.7
    assert metrics["ce_loss_recovered"]["baseline"]["mean"] > 0.8
    assert max(metrics["dead_share"]["values"].values()) < 1 / 5
    for arm in metrics["explained_variance"]["arms"].values():
        assert arm["mean"] > 0.6
