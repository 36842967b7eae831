"""`wsae demo`: what it writes, that it repeats, and what it leaves alone."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import wsae_plugin.demo.run as demo_module
from wsae_plugin.cli.main import app
from wsae_plugin.demo.arms import ARMS, DemoSettings
from wsae_plugin.demo.run import run_demo
from wsae_plugin.errors import BadInputError, RunFailedError

TINY = DemoSettings(
    d_sae=160,
    k=4,
    context_size=64,
    training_tokens=3072,
    batch_size=256,
    gamma_freeze_step=4,
    n_held_out_batches=3,
    held_out_prompts=2,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny demonstration made through the command, and its standard output."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("demo") / "wsae-demo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_module, "run_demo", partial(run_demo, settings=TINY))
        result = CliRunner().invoke(app, ["demo", "--output", str(folder)], catch_exceptions=False)
    assert result.exit_code == 0
    (folder.parent / "stdout").write_text(result.stdout)
    return folder


@pytest.fixture
def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "demo.json").read_text())


def test_the_folder_is_complete(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml",
        "demo.json",
        "gamma_spectrum.png",
        "learning.png",
        "metrics.jsonl",
        "report.html",
        "run.json",
        "saes",
        "scores.png",
        "trade.png",
    }
    assert {path.name for path in (folder / "saes").iterdir()} == {arm.name for arm in ARMS}
    assert {path.name for path in folder.parent.iterdir()} == {"wsae-demo", "stdout"}


def test_the_terminal_shows_the_table_the_verdict_and_the_path(folder: Path) -> None:
    stdout = (folder.parent / "stdout").read_text()
    for expected in ("EV, Γ: α = 1", "CE recovered", "shuffled", "weighted SAEs explain"):
        assert expected in stdout
    assert f"report: {folder / 'report.html'}" in stdout


def test_the_numbers_are_whole(result: dict[str, Any]) -> None:
    assert [arm["name"] for arm in result["arms"]] == [arm.name for arm in ARMS]
    assert result["seeds"] == [0, 1]
    # 3 batches of 2 contexts of 64 tokens, each led by a BOS that no score sees
    assert 0 < result["held_out"]["tokens"] <= 3 * 2 * 63
    sae, *others = result["arms"]
    for measure in ("explained_variance", "ce_loss_recovered", "l0"):
        assert sae["difference"][measure]["value"] == 0
        assert len(sae["scores"][measure]["per_seed"]) == 2
        assert len(sae["scores"][measure]["per_batch"]) == 3
    assert sae["scores"]["l0"]["value"] <= TINY.k
    for arm in others:
        own = arm["scores"]["weighted_explained_variance"]
        assert own["sae"] == arm["scores"]["explained_variance"]
        difference = arm["difference"]["explained_variance"]["value"]
        assert difference == pytest.approx(
            arm["scores"]["explained_variance"]["value"]
            - sae["scores"]["explained_variance"]["value"]
        )


def test_the_arms_differ_in_gamma_alone(result: dict[str, Any], folder: Path) -> None:
    gammas = {arm["name"]: torch.tensor(arm["gamma"]) for arm in result["arms"]}
    assert (gammas["sae"] == 1).all()
    assert not torch.equal(gammas["shuffled"], gammas["wsae-one"])
    torch.testing.assert_close(gammas["shuffled"].sort()[0], gammas["wsae-one"].sort()[0])
    one, half, opposite = (gammas[name] for name in ("wsae-one", "wsae-half", "opposite"))
    for gamma, power in ((half, 0.5), (opposite, -0.5)):
        expected = one**power
        torch.testing.assert_close(gamma, expected / expected.square().mean().sqrt())
    exported = load_file(folder / "saes" / "wsae-one" / "gamma.safetensors")
    torch.testing.assert_close(exported["gamma"], one.to(exported["gamma"]))


def test_the_saes_load_without_this_package(folder: Path) -> None:
    script = (
        "import sys; from sae_lens import SAE; "
        "sae = SAE.load_from_disk(sys.argv[1]); print(sae.cfg.architecture()); "
        "assert not any(name.startswith('wsae') for name in sys.modules)"
    )
    path = str(folder / "saes" / "wsae-one")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "topk"


def test_the_same_seed_gives_the_same_numbers(
    folder: Path, result: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = folder / "notes.txt"
    mine.write_text("a user's own file")
    monkeypatch.setattr(demo_module, "run_demo", partial(run_demo, settings=TINY))
    again = CliRunner().invoke(
        app, ["-q", "demo", "--output", str(folder), "--json"], catch_exceptions=False
    )

    printed = json.loads(again.stdout)
    assert printed == json.loads((folder / "demo.json").read_text())
    assert printed.pop("wall_clock_seconds").keys() == result.pop("wall_clock_seconds").keys()
    assert printed == result
    assert mine.read_text() == "a user's own file"
    mine.unlink()


def test_a_folder_of_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(BadInputError, match=r"holds no demo\.json"):
        run_demo(tmp_path, settings=TINY)
    with pytest.raises(BadInputError, match="is a file"):
        run_demo(tmp_path / "precious.txt", settings=TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_a_failure_leaves_the_folder_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RunFailedError("training failed: it is a test; see /staging") from OSError("disk")

    monkeypatch.setattr(demo_module, "train", fail)
    with pytest.raises(RunFailedError, match="the demo's training failed: disk"):
        run_demo(tmp_path / "new", settings=TINY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_whole_demonstration(tmp_path: Path) -> None:
    result = run_demo(tmp_path / "wsae-demo")
    sae = result["arms"][0]
    assert sae["scores"]["explained_variance"]["value"] > 0.7
    assert sae["scores"]["ce_loss_recovered"]["value"] > 0.8
    assert max(sae["dead_latents"]) < result["settings"]["d_sae"] / 5
    for arm in result["arms"][1:]:
        assert arm["scores"]["explained_variance"]["value"] > 0.6
