"""Whole comparisons, in process: that runs are matched, and that they can be interrupted."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE
from safetensors.torch import load_file, save_file

from tests.compare.comparisons import HOOKS, run, small
from tests.training.tiny import BATCH, TinyWorld, sae, write_config
from wsae_plugin.compare.manifest import ComparedRun, Comparison
from wsae_plugin.compare.plan import load_comparison_config
from wsae_plugin.compare.run import estimate_comparison, run_comparison
from wsae_plugin.compare.runs import runs_of
from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.gamma import PROXIES, register_proxy
from wsae_plugin.training import TrainingInterruptedError, load_run_config
from wsae_plugin.training.loop import TrainingLoop
from wsae_plugin.training.train import train

pytestmark = pytest.mark.filterwarnings("ignore:All samples in the training dataset")


def weights(run: ComparedRun) -> dict[str, torch.Tensor]:
    return load_file(run.sae / "sae_weights.safetensors")


def same(one: ComparedRun, other: ComparedRun) -> bool:
    ours, theirs = weights(one), weights(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


def by_name(comparison: Comparison) -> dict[str, ComparedRun]:
    return {run.run: run for run in comparison.runs}


def steps(run: ComparedRun) -> list[int]:
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Raise one real SIGTERM while the given step of the given run (0, 1, …) is being finished."""

    def stop_after(step: int, of_run: int = 0) -> None:
        original: Any = TrainingLoop.__dict__["_move"]
        seen: list[Any] = []

        def move(self: Any, *args: Any) -> None:
            if all(self is not loop for loop in seen):
                seen.append(self)
            if len(seen) == of_run + 1 and self.n_steps == step:
                signal.raise_signal(signal.SIGTERM)
            original(self, *args)

        monkeypatch.setattr(TrainingLoop, "_move", move)

    return stop_after


def test_a_comparison_folder_is_complete(world: TinyWorld, tmp_path: Path) -> None:
    comparison = run(tmp_path, small(world), command="wsae compare x")
    folder = comparison.folder
    assert {path.name for path in folder.iterdir()} == {
        "comparison.yaml",
        "manifest.json",
        "groups",
        "runs",
    }
    assert (comparison.status, comparison.seeds, comparison.baseline) == ("finished", (0, 1), "sae")
    assert [run.run for run in comparison.runs] == [
        "layer-1-k-4-sae-seed-0",
        "layer-1-k-4-alpha-1-seed-0",
        "layer-1-k-4-sae-seed-1",
        "layer-1-k-4-alpha-1-seed-1",
    ]
    assert comparison.manifest["command"] == "wsae compare x"
    assert set(comparison.manifest["wall_clock_seconds"]) == {"seed-0", "seed-1"}
    assert {path.name for path in (folder / "runs").iterdir()} == set(by_name(comparison))
    for compared in runs_of([folder]):
        assert {path.name for path in compared.path.iterdir()} == {
            "config.yaml",
            "run.json",
            "metrics.jsonl",
            "sae",
        }
        assert (compared.sae / "gamma.safetensors").is_file()
        assert json.loads((compared.path / "run.json").read_text())["status"] == "finished"
        loaded = SAE.load_from_disk(compared.sae)
        assert loaded.cfg.metadata.hook_name == compared.hook_name
        assert steps(compared) == [10]
    # Working copies are gone, the record of the training is not.
    assert {path.name for path in (folder / "groups" / "seed-0").iterdir()} == {
        "config.yaml",
        "run.json",
        "metrics.jsonl",
    }


def test_runs_of_a_pair_differ_in_the_arm_alone(world: TinyWorld, tmp_path: Path) -> None:
    arms = {"sae": {"alpha": 0}, "plain": {"architecture": "topk"}, "alpha-1": {"alpha": 1}}
    comparison = run(tmp_path, small(world, arms=arms))
    for seed in (0, 1):
        plain, zero, one = (
            by_name(comparison)[f"layer-1-k-4-{arm}-seed-{seed}"]
            for arm in ("plain", "sae", "alpha-1")
        )
        # Bit for bit only from the same start, on the same batches in the same order.
        assert same(plain, zero)
        assert not same(zero, one)
    first, second = (by_name(comparison)[f"layer-1-k-4-sae-seed-{seed}"] for seed in (0, 1))
    assert not same(first, second)


def test_company_changes_no_sae(world: TinyWorld, tmp_path: Path) -> None:
    """In a larger grid, in passes of one hook, or alone: the same SAE."""
    few = run(tmp_path, small(world, seeds=[1]), output="few")
    values = small(world, hooks=HOOKS, sparsity={"k": [2, 4]}, seeds=[1])
    many = run(tmp_path, values, output="many")
    passes = run(tmp_path, values, ("hooks_per_pass=1",), output="passes")
    for name, compared in by_name(few).items():
        assert same(compared, by_name(many)[name])
    for name, compared in by_name(many).items():
        assert same(compared, by_name(passes)[name])
    compared = by_name(few)["layer-1-k-4-alpha-1-seed-1"]
    alone = train(load_run_config(compared.path / "config.yaml"), tmp_path / "alone")
    theirs = load_file(alone.exports["sae"] / "sae_weights.safetensors")
    assert all(torch.equal(theirs[name], tensor) for name, tensor in weights(compared).items())


def test_controls(world: TinyWorld, tmp_path: Path) -> None:
    literal = {"alpha": 0.5, "gamma_normalization": "none"}
    arms = {
        "sae": {"alpha": 0},
        "alpha-1": {"alpha": 1},
        "literal": literal,
        "shuffled": {"control": "shuffled", "of": "alpha-1"},
        "opposite": {"control": "opposite", "of": "alpha-1"},
        "constant": {"control": "constant", "of": "literal"},
        "whitened": {"control": "whitening"},
    }
    values = small(world, arms=arms, n_batches_for_norm_estimate=4, seeds=[0])
    comparison = run(tmp_path, values)
    gammas = {
        compared.arm: load_file(compared.sae / "gamma.safetensors")["gamma"]
        for compared in comparison.runs
    }
    ratio = gammas["shuffled"].sort().values / gammas["alpha-1"].sort().values
    torch.testing.assert_close(ratio, ratio[0].expand_as(ratio))
    assert not torch.allclose(gammas["shuffled"], gammas["alpha-1"])
    product = gammas["opposite"] * gammas["alpha-1"]
    torch.testing.assert_close(product, product[0].expand_as(product))
    assert torch.equal(gammas["whitened"], torch.ones(32))
    constant = gammas["constant"]
    torch.testing.assert_close(constant, constant[0].expand_as(constant))
    assert constant[0] != 1
    # Also where a whitening took batches before training: both are of the batches trained on.
    expected = gammas["literal"].square().mean().sqrt()
    torch.testing.assert_close(constant[0], expected, rtol=1e-5, atol=0)
    for compared in comparison.runs:
        SAE.load_from_disk(compared.sae)


@pytest.mark.parametrize("kind", ["kurtosis", "file", "registered"])
def test_every_proxy_has_its_controls(
    world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    fields = {"gamma_proxy": kind}
    if kind == "file":
        fields["gamma_file"] = str(tmp_path / "s.safetensors")
        save_file({"s": torch.rand(32) + 0.1}, fields["gamma_file"])
    if kind == "registered":
        monkeypatch.setattr("wsae_plugin.gamma.proxies.PROXIES", dict(PROXIES))
        register_proxy(kind, lambda seen: seen.activations.mean.abs())
    weighted = {"alpha": 0.5, **fields}
    arms = {
        "sae": {"alpha": 0},
        "own": weighted,
        "literal": weighted | {"gamma_normalization": "none"},
        "shuffled": {"control": "shuffled", "of": "own"},
        "opposite": {"control": "opposite", "of": "own"},
        "constant": {"control": "constant", "of": "literal"},
    }
    comparison = run(tmp_path, small(world, arms=arms, seeds=[3]))
    found = {each.arm: load_file(each.sae / "gamma.safetensors") for each in comparison.runs}
    variance = found["own"]["variance"]
    gammas = {arm: tensors["gamma"] for arm, tensors in found.items()}
    order = torch.randperm(32, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(found["shuffled"]["proxy"], found["own"]["proxy"][order])
    product = gammas["opposite"] * gammas["own"]
    torch.testing.assert_close(product, product[0].expand_as(product))
    for arm in ("own", "shuffled", "opposite"):
        assert not torch.allclose(gammas[arm], torch.ones(32))
        cost = (gammas[arm].double().square() * variance).sum()
        torch.testing.assert_close(cost, variance.sum(), rtol=1e-6, atol=0)
    expected = gammas["literal"].square().mean().sqrt().expand(32)
    torch.testing.assert_close(gammas["constant"], expected)


def test_the_constant_has_the_literal_gammas_mean_square(world: TinyWorld, tmp_path: Path) -> None:
    arms = {
        "sae": {"alpha": 0},
        "literal": {"alpha": 0.5, "gamma_normalization": "none"},
        "constant": {"control": "constant", "of": "literal"},
    }
    comparison = run(tmp_path, small(world, arms=arms, seeds=[0], hooks=HOOKS))
    for layer in (0, 1):
        literal, constant = (
            load_file(
                by_name(comparison)[f"layer-{layer}-k-4-{arm}-seed-0"].sae / "gamma.safetensors"
            )["gamma"]
            for arm in ("literal", "constant")
        )
        expected = literal.square().mean().sqrt().expand_as(constant)
        torch.testing.assert_close(constant, expected, rtol=1e-5, atol=0)


def test_an_interrupted_comparison_goes_on(
    world: TinyWorld, tmp_path: Path, stop_after: Any
) -> None:
    values = small(world, logger={"wandb_log_frequency": 2})
    whole = run(tmp_path, values, output="whole")
    stop_after(4, of_run=1)
    with pytest.raises(TrainingInterruptedError, match="go on with: wsae compare .* --resume$"):
        run(tmp_path, values)
    folder = tmp_path / "comparison"
    comparison = Comparison.load(folder)
    assert comparison.status == "running"
    assert [run.seed for run in comparison.runs] == [0, 0]
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    seconds = manifest["wall_clock_seconds"]["seed-0"] = 12345.6
    file.write_text(json.dumps(manifest))
    kept = (folder / "runs" / "layer-1-k-4-sae-seed-0" / "sae" / "cfg.json").stat().st_mtime_ns

    with pytest.raises(BadInputError, match="already holds a comparison \\(running\\)"):
        run(tmp_path, values)
    with pytest.raises(BadInputError, match="started with another config: lr was 0.001 and is"):
        run(tmp_path, values, ("lr=0.01",), resume=True)
    own = folder / "comparison.yaml"
    written = own.read_text()
    own.write_text(written.replace("\nlr: 0.001\n", "\nlr: 0.01\n"))
    with pytest.raises(BadInputError, match="started with another config: lr was 0.001 and is"):
        run_comparison(load_comparison_config(own), folder, resume=True)
    own.write_text(written)
    resumed = run(tmp_path, values, resume=True)
    assert resumed.status == "finished"
    # What was written at the start stays.
    assert resumed.manifest["wall_clock_seconds"]["seed-0"] == seconds
    assert set(by_name(resumed)) == set(by_name(whole))
    assert kept == (
        (folder / "runs" / "layer-1-k-4-sae-seed-0" / "sae" / "cfg.json").stat().st_mtime_ns
    )
    for name, compared in by_name(resumed).items():
        assert steps(compared) == [2, 4, 6, 8, 10]
        # How near an interrupted run comes to an unbroken one is `train`'s to say.
        assert compared.seed == 1 or same(compared, by_name(whole)[name])
    record = json.loads((by_name(resumed)["layer-1-k-4-sae-seed-1"].path / "run.json").read_text())
    assert record["resumed_from"] == [str(4 * BATCH)]
    with pytest.raises(BadInputError, match="is finished; nothing is left"):
        run(tmp_path, values, resume=True)
    with pytest.raises(BadInputError, match="already holds a comparison \\(finished\\); choose"):
        run(tmp_path, values)


def test_what_a_crash_left_half_done_is_done_again(world: TinyWorld, tmp_path: Path) -> None:
    """Killed while splitting the second seed, and before the first checkpoint of it."""
    values = small(world)
    whole = run(tmp_path, values, output="whole")
    folder = tmp_path / "whole"
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["status"], manifest["runs"] = "running", manifest["runs"][:2]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    before = {name: weights(compared) for name, compared in by_name(whole).items()}
    lost = by_name(whole)["layer-1-k-4-alpha-1-seed-1"].path
    shutil.rmtree(lost)
    half = lost.with_name(f".{lost.name}.partial")
    half.mkdir()
    shutil.rmtree(folder / "groups" / "seed-1")
    (folder / "groups" / "seed-1").mkdir()
    resumed = run(tmp_path, values, output="whole", resume=True)
    assert resumed.status == "finished"
    assert not half.exists()
    for name, compared in by_name(resumed).items():
        assert all(torch.equal(before[name][key], t) for key, t in weights(compared).items())


def test_a_training_that_fails_says_so_and_can_be_gone_on_with(
    world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(*_: Any) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(TrainingLoop, "_log", run_out)
        with pytest.raises(RunFailedError, match="out of memory"):
            run(tmp_path, small(world, seeds=[0]))
    assert Comparison.load(tmp_path / "comparison").runs == []
    assert run(tmp_path, small(world, seeds=[0]), resume=True).status == "finished"


WRONG_SOURCES: dict[str, tuple[dict[str, Any], str]] = {
    "a hook of a later pass": (
        {"hooks": [*HOOKS, "blocks.1.hook_resid_pots"], "hooks_per_pass": 1},
        "hooks = 'blocks.1.hook_resid_pots': .* did you mean 'blocks.1.hook_resid_post'",
    ),
    "a width": (
        {"sae": sae(d_in=31, k=None, alpha=None)},
        "sae.d_in = 31: .* is 32 wide",
    ),
    "data that is not there": ({"dataset_path": "./none"}, "dataset_path = './none'"),
    "a model that is not there": ({"model_name": "pythia-160"}, "model_name = 'pythia-160'"),
}


@pytest.mark.parametrize(("changes", "message"), WRONG_SOURCES.values(), ids=WRONG_SOURCES.keys())
def test_a_wrong_source_is_refused_and_nothing_written(
    world: TinyWorld, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        run(tmp_path, small(world, **changes))
    assert not (tmp_path / "comparison").exists()


def test_a_wrong_folder_is_refused(world: TinyWorld, tmp_path: Path) -> None:
    write_config(tmp_path / "file", {})
    for output, message in (("file", "is a file"), (".", "is not empty")):
        with pytest.raises(BadInputError, match=message):
            run(tmp_path, small(world), output=output)
    with pytest.raises(BadInputError, match="holds no comparison"):
        run(tmp_path, small(world), output="none", resume=True)
    assert not (tmp_path / "none").exists()


def test_the_estimate_is_of_the_largest_group(world: TinyWorld, tmp_path: Path) -> None:
    hooks = ["hook_embed", "blocks.0.hook_resid_post", "blocks.1.hook_resid_post"]
    path = tmp_path / "comparison.yaml"
    weights: dict[int, int] = {}
    for size in (1, 2, 3):
        config = load_comparison_config(
            write_config(path, small(world, hooks=hooks, hooks_per_pass=size))
        )
        weights[size] = estimate_comparison(config).memory.sae_weights
    # Of three hooks, two at a time are two and one.
    assert (weights[2], weights[3]) == (2 * weights[1], 3 * weights[1])
