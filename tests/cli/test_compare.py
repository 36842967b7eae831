"""`wsae compare`, as a user calls it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import typer
import yaml
from typer.testing import CliRunner

from tests.compare.comparisons import HOOKS, small
from tests.training.tiny import TinyWorld, make_world, write_config, write_texts
from wsae_plugin.cli._shared import help_of
from wsae_plugin.cli.compare import compare
from wsae_plugin.compare.manifest import Comparison
from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma import PROXIES
from wsae_plugin.measures.evaluate import evaluate_runs
from wsae_plugin.measures.held_out import EvalSettings
from wsae_plugin.saved_run import read_cfg

pytestmark = pytest.mark.filterwarnings("ignore:All samples in the training dataset")

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(compare)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return make_world(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def wsae_compare(*arguments: object) -> str:
    """Run the command; returns stdout."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_a_comparison_says_what_to_do_with_it(world: TinyWorld, tmp_path: Path) -> None:
    config = write_config(tmp_path / "mine.yaml", small(world))
    out = wsae_compare(config, "--set", "seeds=[3]", "--set", "arms.alpha-1.alpha=2")
    assert "2 SAEs trained" in out
    assert "wsae eval runs/mine" in out
    comparison = Comparison.load(Path("runs/mine"))
    assert (comparison.seeds, [arm.alpha for arm in comparison.arms]) == ((3,), [0.0, 2.0])


def test_json_is_the_manifest(world: TinyWorld, tmp_path: Path) -> None:
    config = write_config(tmp_path / "mine.yaml", small(world, seeds=[0]))
    out = wsae_compare(config, "--json", "--output", "here")
    assert json.loads(out) == json.loads(Path("here/manifest.json").read_text())


def test_a_dry_run_shows_the_grid_and_writes_nothing(world: TinyWorld, tmp_path: Path) -> None:
    arms = {"sae": {"alpha": 0}, "one": {}, "shuffled": {"control": "shuffled", "of": "one"}}
    config = write_config(tmp_path / "mine.yaml", small(world, arms=arms, hooks=HOOKS))
    out = wsae_compare(config, "--dry-run")
    assert "control: shuffled" in out and "lr: 0.001" in out
    # SAELens's defaults, and ours
    assert "adam_beta1" not in out and "gamma_normalization" not in out
    everything = wsae_compare(config, "--dry-run", "-v")
    assert "adam_beta1: 0.9\n" in everything and "gamma_normalization" in everything
    for shown in (
        "seed-1: 6 SAEs, every arm at layer-0-k-4, layer-1-k-4",
        "12 SAEs in 2 training runs of 10 steps, 1,280 tokens each",
        "memory: at least",
        "time: unknown",
    ):
        assert shown in out
    document = json.loads(wsae_compare(config, "--dry-run", "--json"))
    assert document["groups"]["seed-0"][2] == "layer-0-k-4-shuffled-seed-0"
    assert (document["n_runs"], document["n_steps"], document["seconds"]) == (12, 10, None)
    parts = {name: value for name, value in document["memory"].items() if name != "total"}
    assert document["memory"]["total"] == sum(parts.values())
    assert list(Path().iterdir()) == []


def test_a_whitening_is_part_of_the_memory(world: TinyWorld, tmp_path: Path) -> None:
    arms = {"sae": {"alpha": 0}, "whitened": {"control": "whitening"}}
    values = small(world, arms=arms, hooks=HOOKS, n_batches_for_norm_estimate=7)
    config = write_config(tmp_path / "mine.yaml", values)
    memory = json.loads(wsae_compare(config, "--dry-run", "--json"))["memory"]
    assert memory["norm_batches"] == 7 * 128 * 2 * 32 * 4


def test_a_wrong_request_writes_nothing(world: TinyWorld, tmp_path: Path) -> None:
    config = write_config(tmp_path / "mine.yaml", small(world))
    refused = (
        (["--set", "arms.alpha-1.alfa=1"], "arms.alpha-1.alfa: unknown field"),
        (["--set", "hooks=[blocks.9.hook_resid_post]"], "hooks = 'blocks.9.hook_resid_post'"),
        (["--resume"], "runs/mine holds no comparison"),
        (["--output", ".."], "is not empty"),
    )
    for flags, message in refused:
        with pytest.raises(BadInputError) as error:
            wsae_compare(config, *flags)
        assert message in str(error.value)
    assert list(Path().iterdir()) == []


def test_a_proxy_of_a_module_is_run_where_it_is_trusted_only(
    world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To train with it takes the flag; to read what was trained runs nothing of it."""
    module, left = tmp_path / "our_proxies.py", tmp_path / "left"
    module.write_text(
        f"import pathlib\npathlib.Path({str(left)!r}).touch()\n"
        "def mean(seen):\n    return seen.activations.mean.abs()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("wsae_plugin.gamma.proxies.PROXIES", dict(PROXIES))
    arms = {
        "sae": {"alpha": 0},
        "own": {"alpha": 1, "gamma_proxy": "our_proxies:mean"},
        "shuffled": {"control": "shuffled", "of": "own"},
    }
    config = write_config(tmp_path / "mine.yaml", small(world, arms=arms, seeds=[0]))
    with pytest.raises(BadInputError, match="own: gamma_proxy = .* would run code"):
        wsae_compare(config)
    assert list(Path().iterdir()) == []
    assert "3 SAEs trained" in wsae_compare(config, "--trust-remote-code")
    left.unlink()
    del sys.modules["our_proxies"]
    run = Path("runs/mine/runs/layer-1-k-4-shuffled-seed-0")
    assert read_cfg(run / "sae")["metadata"]["training_architecture_details"]["gamma_proxy"] == (
        "shuffled_our_proxies:mean"
    )
    write_texts(tmp_path / "held_out.jsonl", n_rows=50)
    settings = EvalSettings(str(tmp_path / "held_out.jsonl"), batches=2, batch_size_prompts=1)
    evaluate_runs([Path("runs/mine")], settings)
    assert not left.exists()


def test_help_teaches(tmp_path: Path) -> None:
    out = wsae_compare("--help")
    for taught in ("control: shuffled", "--set seeds=[0]", "--resume", "Exit codes"):
        assert taught in out
    block = help_of(compare).split("\b\n")[1].split("\n\n")[0]
    assert yaml.safe_load(block)["arms"]["alpha-1"] == {"alpha": 1}
    (tmp_path / "help.yaml").write_text(block)
    assert "84 SAEs in 3 training runs" in wsae_compare(tmp_path / "help.yaml", "--dry-run")
