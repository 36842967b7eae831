"""Several processes train what one trains, whatever the architecture and the source."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from sae_lens import SAE
from safetensors.torch import load_file

from tests.distributed.cases import ARCHITECTURES, cases, section, sources
from tests.distributed.processes import start, wsae
from tests.training.tiny import BATCH, TinyWorld, signed_and_pursued, write_config
from wsae_plugin.training import load_run_config
from wsae_plugin.training.train import train

SLOW = pytest.mark.slow
WORKER = Path(__file__).with_name("worker.py")
TOLERANCE = 1e-5


def launched(n: int | None, folder: Path, runs: Sequence[tuple[Path, Path, bool]]) -> None:
    """Make runs with torchrun, or without it for None."""
    file = folder / "runs.json"
    file.write_text(json.dumps([(str(c), str(out), resume) for c, out, resume in runs]))
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(n)] if n else []
    done = subprocess.run(
        [sys.executable, *torchrun, str(WORKER), str(file)],
        capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]


def together(n: int, folder: Path, config: Path, *options: str) -> Path:
    """Make one run with the command line, of processes that are forked."""
    run = folder / f"by-{n}"
    processes = start(n, folder / "logs", wsae, "train", config, "--output", run, *options)
    assert processes.end() == [0] * n, processes.said()
    return run


def alone(folder: Path, config: Path) -> Path:
    train(load_run_config(config), folder / "alone")
    return folder / "alone"


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def exports(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {
        str(file.relative_to(run)): load_file(file)
        for file in sorted(run.glob("sae*/**/*.safetensors"))
    }


def assert_same_run(
    found: Path, expected: Path, tolerance: float = TOLERANCE, of_weights: float = 1e-4
) -> None:
    assert len(metrics(found)) == len(metrics(expected)) > 0
    for line, wanted in zip(metrics(found), metrics(expected), strict=True):
        assert line.keys() == wanted.keys()
        for name, value in wanted.items():
            near = tolerance if name.startswith("losses/overall") else 100 * tolerance
            if isinstance(value, float):
                assert line[name] == pytest.approx(value, near, 1e-6), (line["step"], name)
            else:
                assert line[name] == value, (line["step"], name)
    assert exports(found).keys() == exports(expected).keys()
    for file, tensors in exports(expected).items():
        for name, tensor in tensors.items():
            other = exports(found)[file][name]
            # A step of Adam may have the size of the learning rate, however small the gradient is.
            torch.testing.assert_close(other, tensor, rtol=1e-3, atol=of_weights)


def assert_identical(found: Path, expected: Path) -> None:
    assert (found / "metrics.jsonl").read_bytes() == (expected / "metrics.jsonl").read_bytes()
    assert exports(found).keys() == exports(expected).keys() != set()
    for file, tensors in exports(expected).items():
        assert all(torch.equal(exports(found)[file][name], tensors[name]) for name in tensors)


@pytest.fixture(scope="module")
def matrix(world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every architecture on every source, 200 steps by one process without torchrun."""
    folder = tmp_path_factory.mktemp("matrix")
    for name, config in cases(world, n_steps=200):
        write_config(folder / f"{name}.yaml", config)
    launched(None, folder, runs_of(folder, "alone"))
    return folder


def runs_of(folder: Path, into: str) -> list[tuple[Path, Path, bool]]:
    configs = sorted(folder.glob("*.yaml"))
    return [(config, folder / into / config.stem, False) for config in configs]


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 4])
def test_200_steps_of_every_architecture_on_every_source(matrix: Path, n: int) -> None:
    runs = runs_of(matrix, f"by-{n}")
    launched(n, matrix, runs)
    assert len(runs) == 3 * (len(ARCHITECTURES) + 1)
    for config, run, _ in runs:
        one = matrix / "alone" / config.stem
        # Of JumpReLU, a pre-activation at its threshold has a gradient that depends on the side.
        assert_same_run(run, one, of_weights=1e-3 if "jumprelu" in config.stem else 1e-4)
        assert share_of_other_indices(run, one) < 1e-3


def share_of_other_indices(*runs: Path) -> float:
    """Of the latents that are active in either of two runs' SAEs, those that are in one alone."""
    x = torch.randn(1000, 32, generator=torch.Generator().manual_seed(0))
    one, other = (SAE.load_from_disk(run / "sae").encode(x) > 0 for run in runs)
    assert one.any()
    return ((one != other).sum() / (one | other).sum()).item()


@pytest.mark.slow
def test_one_process_under_torchrun_is_bit_for_bit_the_run_without_it(matrix: Path) -> None:
    runs = runs_of(matrix, "by-1")
    launched(1, matrix, runs)
    for config, run, _ in runs:
        assert_identical(run, matrix / "alone" / config.stem)


N_STEPS = 20


@pytest.mark.parametrize("n", [2, pytest.param(3, marks=SLOW)])
@pytest.mark.parametrize(
    ("source", "architecture"),
    [
        ("table", "matryoshka_batchtopk"),
        ("table", "gated"),
        ("synthetic", "gba"),
        ("synthetic", "jumprelu"),
        ("language_model", "topk"),
    ],
)
def test_some_steps_of_some(
    world: TinyWorld, tmp_path: Path, source: str, architecture: str, n: int
) -> None:
    # So far that latents stop to fire, and rise by the mean of their group.
    steps = {"bias_step_size": 0.9} if architecture == "gba" else {}
    values = sources(world, N_STEPS)[source] | {"sae": section(architecture, **steps)}
    config = write_config(tmp_path / "c.yaml", values)
    assert_same_run(together(n, tmp_path, config), alone(tmp_path, config))


@pytest.mark.parametrize(
    "source", ["table", *(pytest.param(s, marks=SLOW) for s in ("language_model", "synthetic"))]
)
def test_a_run_goes_on_with_another_number_of_processes(
    world: TinyWorld, tmp_path: Path, source: str
) -> None:
    values = sources(world, n_steps=60, n_checkpoints=3)[source]
    kind = "batchtopk" if source == "table" else "gba" if source == "synthetic" else "topk"
    config = write_config(tmp_path / "c.yaml", values | {"sae": section(kind)})
    whole, run = alone(tmp_path, config), tmp_path / "resumed"
    for n, resumed in ((4, []), (2, ["--resume"]), (1, ["--resume"])):
        stops = (stop_at_checkpoint,) if n > 1 else ()
        arguments = ("train", config, "--output", run, *resumed)
        processes = start(n, tmp_path / "logs", *stops, wsae, *arguments)
        assert processes.end() == [1 if stops else 0] * n, processes.said()
    assert_same_run(run, whole)
    assert len(json.loads((run / "run.json").read_text())["resumed_from"]) == 2


def stop_at_checkpoint(target: Any, *arguments: Any) -> None:
    """Call `target`, and in every process note a signal when a checkpoint has been written."""
    from wsae_plugin.training.loop import TrainingLoop

    save, seen = TrainingLoop._save, set[int]()

    def save_and_stop(self: TrainingLoop) -> Path:
        checkpoint = save(self)
        if self.n_samples not in seen:
            seen.add(self.n_samples)
            os.kill(os.getpid(), 15)
        return checkpoint

    TrainingLoop._save = save_and_stop  # type: ignore[method-assign]
    target(*arguments)


def test_a_checkpoint_of_several_is_one_of_one(world: TinyWorld, tmp_path: Path) -> None:
    values = sources(world, N_STEPS, n_checkpoints=1)["table"] | {"sae": section("batchtopk")}
    config = write_config(tmp_path / "c.yaml", values)
    by_two, by_one = together(2, tmp_path, config), alone(tmp_path, config)
    (found,), (expected,) = ([*(run / "checkpoints").iterdir()] for run in (by_two, by_one))
    assert {p.name for p in found.iterdir()} == {p.name for p in expected.iterdir()}
    states = [torch.load(p / "trainer_state.pt", weights_only=True) for p in (found, expected)]
    torch.testing.assert_close(*states, rtol=1e-3, atol=1e-4)
    weights = [load_file(p / "sae_weights.safetensors") for p in (found, expected)]
    assert {n: (t.shape, t.dtype, t.is_contiguous()) for n, t in weights[0].items()} == {
        n: (t.shape, t.dtype, t.is_contiguous()) for n, t in weights[1].items()
    }


def several(world: TinyWorld, **changes: Any) -> dict[str, Any]:
    saes = {
        "topk": section("topk"),
        "gated": section("gated", normalize_activations="expected_average_only_in"),
        "gba": section("gba"),
        **signed_and_pursued(),
    }
    shared = {"n_batches_for_norm_estimate": 4, "logger": {"wandb_log_frequency": 1}}
    return world.multi(saes=saes) | shared | changes


@pytest.mark.parametrize(
    ("n", "layout"),
    [
        (2, {"latents": 1, "saes": 2}),
        pytest.param(3, {"saes": 3}, marks=SLOW),
        pytest.param(3, {"latents": 1}, marks=SLOW),
    ],
)
def test_whole_saes_to_processes(
    world: TinyWorld, tmp_path: Path, n: int, layout: dict[str, int]
) -> None:
    config = write_config(tmp_path / "c.yaml", several(world))
    laid_out = write_config(tmp_path / "d.yaml", several(world, distributed=layout))
    assert_same_run(together(n, tmp_path, laid_out), alone(tmp_path, config))


def test_groups_of_processes_that_share_saes(world: TinyWorld, tmp_path: Path) -> None:
    saes = {name: section(name) for name in ("topk", "standard", "batchtopk")}
    config = write_config(tmp_path / "c.yaml", several(world, saes=saes))
    layout = {"latents": 2, "saes": 2}
    laid_out = write_config(tmp_path / "d.yaml", several(world, saes=saes, distributed=layout))
    assert_same_run(together(4, tmp_path, laid_out), alone(tmp_path, config))


OPTIONS: Mapping[str, dict[str, Any]] = {
    "metric": {"alpha": 0, "metric": "fisher", "metric_tokens": 500},
    "metric in the loss": {
        "alpha": 0,
        "metric": "fisher",
        "metric_tokens": 500,
        "metric_in_loss_only": True,
    },
    "end to end": {"finetune_kl": 0.3},
    "whitened": {"alpha": 0, "normalize_activations": "covariance_whitening"},
    "of latents": {"gamma_proxy": "latent_variance"},
    "of decoders": {"gamma_proxy": "interference"},
}


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
def test_what_an_sae_may_be_asked_beside(world: TinyWorld, tmp_path: Path, option: str) -> None:
    values = sources(world, N_STEPS, n_batches_for_norm_estimate=4)["language_model"]
    values["sae"] = section("topk", **OPTIONS[option])
    config = write_config(tmp_path / "c.yaml", values)
    assert_same_run(together(2, tmp_path, config), alone(tmp_path, config))


@pytest.mark.slow
def test_a_comparison(world: TinyWorld, tmp_path: Path) -> None:
    values = {
        **{name: v for name, v in world.multi().items() if name not in ("saes", "hook_names")},
        "hooks": ["blocks.0.hook_resid_post", "blocks.1.hook_resid_post"],
        "seeds": [0, 1],
        "sae": section("topk", alpha=0) | {"k": 4},
        "baseline": "plain",
        "arms": {"plain": {"alpha": 0}, "weighted": {"alpha": 1}},
        "hooks_per_pass": 1,
    }
    config = write_config(tmp_path / "c.yaml", values)
    folders = tmp_path / "one", tmp_path / "two"
    for n, folder in enumerate(folders, start=1):
        processes = start(n, tmp_path / "logs", wsae, "compare", config, "--output", folder)
        assert processes.end() == [0] * n, processes.said()
    one, two = (sorted((folder / "runs").iterdir()) for folder in folders)
    assert [run.name for run in one] == [run.name for run in two]
    assert len(one) == 8
    for expected, found in zip(one, two, strict=True):
        assert_same_run(found, expected)


def test_a_batch_that_keeps_no_latent(world: TinyWorld, tmp_path: Path) -> None:
    values = sources(world, N_STEPS)["table"]
    config = write_config(
        tmp_path / "c.yaml", values | {"sae": section("batchtopk", k=0.9 / BATCH)}
    )
    assert_same_run(together(2, tmp_path, config), alone(tmp_path, config))


def test_more_dead_latents_than_the_loss_for_them_takes(world: TinyWorld, tmp_path: Path) -> None:
    values = sources(world, N_STEPS, dead_feature_window=2)["table"]
    values["sae"] = section("topk", k=1, d_sae=400, kernel="cpu")
    config = write_config(tmp_path / "c.yaml", values)
    assert_same_run(together(2, tmp_path, config), alone(tmp_path, config))


@pytest.mark.filterwarnings("ignore:All samples in the training dataset:UserWarning")
def test_uneven_data(world: TinyWorld, tmp_path: Path) -> None:
    """A text and a table that end in the middle of a pass, or of a share."""
    text = tmp_path / "texts"
    text.mkdir()
    lines = (world.texts / "train.jsonl").read_text().splitlines()[:23]
    (text / "train.jsonl").write_text("\n".join(lines))
    values = sources(world, n_steps=30)["language_model"]
    values |= {"dataset_path": str(text), "sae": section("topk"), "store_batch_size_prompts": 3}
    config = write_config(tmp_path / "c.yaml", values)
    assert_same_run(together(3, tmp_path, config), alone(tmp_path, config))


def test_the_folder_says_how_it_was_made(world: TinyWorld, tmp_path: Path) -> None:
    values = sources(world, N_STEPS)["table"] | {"sae": section("topk")}
    config = write_config(tmp_path / "c.yaml", values | {"distributed": {"latents": 2}})
    run = together(2, tmp_path, config)
    assert yaml.safe_load((run / "config.yaml").read_text())["distributed"]["latents"] == 2
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    assert metrics(run)[-1]["step"] == N_STEPS == values["training_samples"] // BATCH
