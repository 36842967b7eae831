"""`wsae gamma`: Γ before training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from tests.training.tiny import BATCH, D_MODEL, TinyWorld, make_world, sae, write_config
from wsae_plugin.cli.main import app
from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma import gamma_from_proxy
from wsae_plugin.gamma.sensitivity import information_for
from wsae_plugin.training import load_run_config
from wsae_plugin.training.train import train


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    torch.set_num_threads(1)
    return make_world(tmp_path_factory.mktemp("tiny"))


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["-q", "gamma", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.fixture(scope="module")
def config(world: TinyWorld) -> Path:
    section = sae(alpha=2, gamma_freeze_step=3)
    return write_config(world.path / "one.yaml", world.language_model(sae=section))


def test_json_holds_every_gamma(config: Path) -> None:
    result: dict[str, Any] = json.loads(run(config, "--json"))
    assert [(gamma["proxy"], gamma["alpha"]) for gamma in result["gammas"]] == [
        ("uniform", 0.0),
        *(("variance", alpha) for alpha in (0.5, 1.0, 2.0)),
        *(("kurtosis", alpha) for alpha in (0.5, 1.0, 2.0)),
    ]
    # as many steps as the config estimates Γ over, of 128 tokens
    assert result["tokens"] == 3 * 128
    variance = torch.tensor(result["variance"], dtype=torch.float64)
    assert variance.shape == (D_MODEL,)
    weighted = result["gammas"][3]
    torch.testing.assert_close(
        torch.tensor(weighted["gamma"], dtype=torch.float64),
        gamma_from_proxy(variance, 2.0, variance=variance),
    )
    assert sum(weighted["weighted_variance_share"]) == pytest.approx(1)


def test_the_same_seed_reads_the_same_activations(config: Path) -> None:
    arguments = (config, "--json", "--tokens", 200, "--proxy", "variance", "--alpha", 1)
    first, second = json.loads(run(*arguments)), json.loads(run(*arguments))
    assert first == second
    assert first["tokens"] == 256  # whole batches
    assert [gamma["alpha"] for gamma in first["gammas"]] == [0, 1]


def test_the_table_teaches_and_the_files_are_written(config: Path, tmp_path: Path) -> None:
    stdout = run(config, "--output", tmp_path / "gamma", "--alpha", 8)
    assert "Γ = I" in stdout
    assert "variance, α = 8" in stdout.replace("\n", " ")
    assert "WARNING variance, α = 8: five dimensions hold" in stdout
    assert "gamma_clip" in stdout
    assert {path.name for path in (tmp_path / "gamma").iterdir()} == {
        "gamma.json",
        "gamma_spectrum.png",
    }


def test_a_proxy_that_needs_an_sae_is_explained(world: TinyWorld, config: Path) -> None:
    with pytest.raises(BadInputError, match="does not exist before; train one"):
        run(config, "--proxy", "interference")
    with pytest.raises(BadInputError, match="'varience': the proxies are"):
        run(config, "--proxy", "varience")
    path = write_config(
        world.path / "own.yaml", world.language_model(sae=sae(gamma_proxy="latent_variance"))
    )
    stdout = run(path, "--tokens", 256)
    assert "The config's own proxy, latent_variance, is made from the SAE's decoder" in stdout


def test_one_sae_of_several(world: TinyWorld, tmp_path: Path) -> None:
    hooks = {
        "baseline": "blocks.0.hook_resid_post",
        "alpha-0": "blocks.0.hook_resid_post",
        "alpha-1": "blocks.1.hook_resid_post",
    }
    path = write_config(tmp_path / "multi.yaml", world.multi(hook_names=hooks))
    first = json.loads(run(path, "--tokens", 256, "--json"))
    assert first["hook_name"] == "blocks.0.hook_resid_post"
    assert first["config"]["alpha"] is None
    other = json.loads(run(path, "--sae", "alpha-1", "--tokens", 256, "--json"))
    assert other["hook_name"] == "blocks.1.hook_resid_post"
    assert other["config"]["alpha"] == 1
    assert other["variance"] != first["variance"]
    with pytest.raises(BadInputError, match="--sae alpha-2: no such SAE; did you mean 'alpha-"):
        run(path, "--sae", "alpha-2")
    one = write_config(tmp_path / "one.yaml", world.language_model())
    with pytest.raises(BadInputError, match="the config has one SAE only"):
        run(one, "--sae", "alpha-1")


def test_the_samples_of_a_synthetic_model_have_a_gamma_too(
    world: TinyWorld, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "synthetic.yaml", world.synthetic())
    found = json.loads(run(config, "--alpha", 1, "--json"))["gammas"][1]
    assert len(found["gamma"]) == world.synthetic()["sae"]["d_in"]
    assert found["proxy"] == "variance" and len(set(found["gamma"])) > 1


def test_bad_requests_are_refused(world: TinyWorld, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no such hook"):
        run(write_config(tmp_path / "h.yaml", world.language_model(hook_name="blocks.7.nowhere")))
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match="is a file"):
        run(tmp_path / "h.yaml", "--output", tmp_path / "file")
    config = write_config(tmp_path / "one.yaml", world.language_model())
    # Two batches at least, for the difference between them.
    assert json.loads(run(config, "--tokens", 1, "--json"))["tokens"] == 2 * BATCH
    with pytest.raises(BadInputError, match="--alpha nan: must be a finite number"):
        run(config, "--alpha", "nan", "--json")


def test_a_metric_is_described_and_kept(config: Path, tmp_path: Path) -> None:
    options = ("--metric", "fisher", "--tokens", 100, "--output", tmp_path / "fisher")
    stdout = run(config, *options)
    assert "number 1 of 32" in stdout and "Gate 0" not in stdout
    result = json.loads((tmp_path / "fisher" / "metric.json").read_text())
    assert (result["tokens"], result["gradients"]) == (n := result["tokens"], 4 * n)
    assert 100 <= n < 132
    eigenvalues = result["eigenvalues"]
    assert eigenvalues == sorted(eigenvalues, reverse=True)
    assert sum(eigenvalues) == pytest.approx(D_MODEL)
    held = sum(eigenvalues[: result["directions_that_hold_half"]])
    assert held >= D_MODEL / 2 > held - eigenvalues[result["directions_that_hold_half"] - 1]
    # What it kept is what a config can name.
    kept = information_for("fisher", str(tmp_path / "fisher" / "metric.safetensors"), D_MODEL, 0)
    assert kept is not None
    spectrum = torch.linalg.eigvalsh(kept).flip(0)
    assert eigenvalues == pytest.approx((spectrum / spectrum.mean()).tolist(), abs=1e-9)
    rotated = json.loads(run(config, *options, "--metric", "rotated_fisher", "--json"))
    assert rotated["eigenvalues"] == pytest.approx(eigenvalues, abs=1e-9)
    assert rotated["mean_in_top"] != pytest.approx(result["mean_in_top"])


@pytest.mark.parametrize("hook", ["blocks.1.hook_resid_post", "blocks.1.attn.hook_z"])
def test_gate_0_of_a_trained_sae(world: TinyWorld, tmp_path: Path, hook: str) -> None:
    section = sae(alpha=0, metric="fisher")
    values = world.language_model(dataset_path="bundled", hook_name=hook, sae=section)
    path = write_config(tmp_path / "run.yaml", values)
    train(load_run_config(path), tmp_path / "run")
    result = json.loads(run(tmp_path / "run", "--metric", "fisher", "--tokens", 100, "--json"))
    assert len(result["gate"]) == 5
    assert all(-1 <= value <= 1 for value in result["gate"].values())
    assert result["gate"]["(gδᵀ)²"] > 0.3


def test_a_text_without_a_held_out_part_has_no_gate_0(world: TinyWorld, tmp_path: Path) -> None:
    path = write_config(tmp_path / "run.yaml", world.language_model(sae=sae(alpha=0)))
    train(load_run_config(path), tmp_path / "run")
    result = json.loads(run(tmp_path / "run", "--metric", "fisher", "--tokens", 100, "--json"))
    assert "gate" not in result and len(result["eigenvalues"]) == D_MODEL


def test_metrics_that_are_not_estimated(world: TinyWorld, config: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="--metric uniform: must be fisher, rotated_fisher"):
        run(config, "--metric", "uniform")
    with pytest.raises(BadInputError, match="--metric uniform: must be fisher"):
        run(config, "--metric", "uniform", "--output", tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    for option, value in (("--alpha", 1), ("--proxy", "kurtosis")):
        with pytest.raises(BadInputError, match=f"{option}: is of Γ"):
            run(config, "--metric", "fisher", option, value)
    synthetic = write_config(tmp_path / "synthetic.yaml", world.synthetic())
    with pytest.raises(BadInputError, match="at a hook of a language model"):
        run(synthetic, "--metric", "fisher")
    with pytest.raises(BadInputError, match="n_tokens = 100000 "):
        run(config, "--metric", "fisher", "--tokens", 100_000)


def test_a_metric_reads_as_many_tokens_as_training_would(world: TinyWorld, tmp_path: Path) -> None:
    section = sae(alpha=0, metric="fisher", metric_tokens=50)
    path = write_config(tmp_path / "c.yaml", world.language_model(sae=section))
    # Two contexts of 32, in which the special tokens do not count.
    assert 50 <= json.loads(run(path, "--metric", "fisher", "--json"))["tokens"] <= 2 * 31
    path = write_config(
        tmp_path / "sliced.yaml",
        world.language_model(sae=section, seqpos_slice=[4, 8], n_batches_in_buffer=64),
    )
    assert 50 <= json.loads(run(path, "--metric", "fisher", "--json"))["tokens"] < 50 + 4
