"""Whole runs, in process: what is written, that it repeats, and how it can go wrong."""

from __future__ import annotations

import json
import logging
import signal
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE, TopKSAE
from safetensors.torch import load_file, save_file

from tests.training.tiny import (
    BATCH,
    D_MODEL,
    D_SAE,
    TinyWorld,
    sae,
    signed_and_pursued,
    write_config,
)
from wsae_plugin.assets import BUNDLED_MODEL_NAME
from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.gamma.metric import rotated
from wsae_plugin.gamma.sensitivity import Sensitivity
from wsae_plugin.measures.evaluate import evaluate_runs
from wsae_plugin.measures.held_out import EvalSettings
from wsae_plugin.sources.model_run import ModelRun
from wsae_plugin.sources.synthetic import SyntheticSource
from wsae_plugin.training import TrainingInterruptedError, load_run_config
from wsae_plugin.training.loop import TrainingLoop
from wsae_plugin.training.run_folder import RunFolder
from wsae_plugin.training.train import TrainedRun, train

pytestmark = pytest.mark.filterwarnings("ignore:All samples in the training dataset")


def run(
    folder: Path,
    values: dict[str, Any],
    overrides: tuple[str, ...] = (),
    output: str = "run",
    **kwargs: Any,
) -> TrainedRun:
    path = write_config(folder / "config.yaml", values)
    return train(load_run_config(path, overrides), folder / output, **kwargs)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "sae_weights.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Raise one real SIGTERM while the given step is being finished."""
    pending: list[int] = []

    def stop_after(step: int) -> None:
        pending.append(step)
        original = TrainingLoop._move

        def move(self: TrainingLoop, *args: Any) -> None:
            if self.n_steps in pending:
                pending.clear()
                signal.raise_signal(signal.SIGTERM)
            original(self, *args)

        monkeypatch.setattr(TrainingLoop, "_move", move)

    return stop_after


def test_a_warning_names_the_sae(
    world: TinyWorld,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wsae_plugin.gamma.scheduler._CONCENTRATED", 2)  # whatever Γ is
    with caplog.at_level(logging.WARNING, "wsae_plugin.gamma"):
        run(tmp_path, world.multi())
        run(tmp_path, world.language_model(), output="one")
    records = [record for record in caplog.records if record.name == "wsae_plugin.gamma.scheduler"]
    told = [record.message.partition(" and gamma_proxy")[0] for record in records]
    kind = "WeightedTopKTrainingSAE at blocks.1.hook_resid_post: with alpha"
    assert told == [f"alpha-1 {kind} = 1", f"{kind} = 0.5"]


def test_the_run_folder_is_complete(world: TinyWorld, tmp_path: Path) -> None:
    values = world.language_model(logger={"wandb_log_frequency": 4}, n_checkpoints=1)
    trained = run(tmp_path, values, command="wsae train config.yaml")
    folder = trained.folder
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml",
        "run.json",
        "metrics.jsonl",
        "checkpoints",
        "sae",
    }
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["command"] == "wsae train config.yaml"
    assert record["seed"] == 42
    assert set(record["versions"]) == {
        "wsae-plugin",
        "sae-lens",
        "torch",
        "transformers",
        "python",
    }
    assert record["started"] <= record["ended"]
    assert [line["step"] for line in metrics(folder)] == [4, 8, 10]
    last = metrics(folder)[-1]
    assert last["metrics/l0"] == 4
    assert last["losses/mse_loss"] != last["losses/weighted_mse_loss"] > 0
    assert trained.metrics["sae"]["losses/overall_loss"] == last["losses/overall_loss"]
    # The resolved config is a config.
    assert load_run_config(folder / "config.yaml").values["sae"]["alpha"] == 0.5


def test_the_export_loads_with_saelens_alone(world: TinyWorld, tmp_path: Path) -> None:
    trained = run(tmp_path, world.language_model())
    loaded = SAE.load_from_disk(trained.exports["sae"])
    assert type(loaded) is TopKSAE
    assert loaded.cfg.metadata.hook_name == "blocks.1.hook_resid_post"
    assert loaded.cfg.metadata.training_architecture == "weighted_topk"


def test_the_same_config_gives_the_same_weights(world: TinyWorld, tmp_path: Path) -> None:
    values = world.language_model()
    first = run(tmp_path, values, output="first").exports["sae"]
    torch.rand(17)
    second = run(tmp_path, values, output="second").exports["sae"]
    other = run(tmp_path, values, ("seed=1",), output="other").exports["sae"]
    assert same(weights(first), weights(second))
    assert not same(weights(first), weights(other))


def test_saes_of_one_run_start_alike_and_see_the_same_batches(
    world: TinyWorld, tmp_path: Path
) -> None:
    trained = run(tmp_path, world.multi())
    by_name = {name: weights(path) for name, path in trained.exports.items()}
    # alpha 0 is SAELens's topk bit for bit only from the same start on the same batches.
    assert same(by_name["baseline"], by_name["alpha-0"])
    assert not same(by_name["baseline"], by_name["alpha-1"])
    lines = metrics(trained.folder)
    assert [line["sae"] for line in lines] == ["baseline", "alpha-0", "alpha-1"]
    # And alone it sees what it sees in company.
    alone = run(tmp_path, world.language_model(sae=sae(alpha=1)), output="alone")
    assert same(by_name["alpha-1"], weights(alone.exports["sae"]))


def test_a_synthetic_run(world: TinyWorld, tmp_path: Path) -> None:
    trained = run(tmp_path, world.synthetic(logger={"wandb_log_frequency": 5}))
    again = run(tmp_path, world.synthetic(), output="again")
    export = trained.exports["sae"]
    assert same(weights(export), weights(again.exports["sae"]))
    assert json.loads((export / "eval_stats.json").read_text())
    assert [line["step"] for line in metrics(trained.folder)] == [5, 10]


def test_a_synthetic_model_of_another_width_is_refused(world: TinyWorld, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="sae.d_in = 31: the synthetic model is 32 wide"):
        run(tmp_path, world.synthetic(sae=sae(d_in=31)))
    with pytest.raises(BadInputError, match="synthetic_model: "):
        run(tmp_path, world.synthetic(synthetic_model="./nowhere"))
    assert not (tmp_path / "run").exists()


def test_the_bundled_model_and_text(world: TinyWorld, tmp_path: Path) -> None:
    values = world.language_model(
        model_name="bundled",
        dataset_path="bundled",
        hook_name="blocks.2.hook_resid_post",
        sae=sae(d_in=128),
        training_tokens=2 * BATCH,
    )
    export = run(tmp_path, values).exports["sae"]
    published = "".join(path.read_text() for path in export.glob("*.json"))
    assert json.loads((export / "cfg.json").read_text())["metadata"]["model_name"] == (
        BUNDLED_MODEL_NAME
    )
    assert "wsae_plugin/assets" not in published


def test_hugging_face_modules_as_hooks(world: TinyWorld, tmp_path: Path) -> None:
    values = world.language_model(
        model_class_name="AutoModelForCausalLM", hook_name="gpt_neox.layers.1"
    )
    as_module = run(tmp_path, values, output="module").exports["sae"]
    as_hook = run(tmp_path, world.language_model(), output="hook").exports["sae"]
    ours, theirs = weights(as_module), weights(as_hook)
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["language_model", "multi", "synthetic"])
def test_an_interrupted_run_goes_on(
    world: TinyWorld, tmp_path: Path, stop_after: Any, kind: str
) -> None:
    values = getattr(world, kind)(logger={"wandb_log_frequency": 2})
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    stop_after(5)
    with pytest.raises(TrainingInterruptedError) as error:
        run(tmp_path, values)
    assert "stopped by SIGTERM after 640 samples" in str(error.value)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    folder = tmp_path / "run"
    assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["640"]
    with pytest.raises(BadInputError, match="already holds a run \\(interrupted\\)"):
        run(tmp_path, values)

    # A line cut off by a crash, and one beyond the checkpoint, are not counted twice.
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "sae": "sae"}\n{"step": 7, "sa')
    trained = run(tmp_path, values, resume=True)
    steps = [line["step"] for line in metrics(folder)]
    n_saes = 3 if kind == "multi" else 1
    assert steps == [step for step in (2, 4, 6, 8, 10) for _ in range(n_saes)]
    record = json.loads((folder / "run.json").read_text())
    assert (record["status"], record["resumed_from"]) == ("finished", ["640"])
    assert all((path / "cfg.json").is_file() for path in trained.exports.values())
    with pytest.raises(BadInputError, match="is finished"):
        run(tmp_path, values, resume=True)


@pytest.mark.parametrize(
    "kind",
    ["language_model", "multi", "two_hooks", "synthetic", "signed_and_pursued", "metric", "kl"],
)
@pytest.mark.parametrize("stops", [(1,), (4,), (3, 5), (9,)], ids=str)
def test_a_resumed_run_ends_as_if_it_had_never_stopped(
    world: TinyWorld, tmp_path: Path, stop_after: Any, kind: str, stops: tuple[int, ...]
) -> None:
    """Also where it stops again with batches of the first checkpoint's buffer still waiting."""
    values = _awkward_data(world, kind)
    whole = run(tmp_path, values, output="whole")
    for number, stop in enumerate(stops):
        stop_after(stop)
        with pytest.raises(TrainingInterruptedError):
            run(tmp_path, values, resume=number > 0)
    resumed = run(tmp_path, values, resume=True)
    for name, path in whole.exports.items():
        expected = weights(path)
        found = weights(resumed.exports[name])
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected), name
    assert metrics(resumed.folder) == metrics(whole.folder)


def test_the_last_tokens_are_trained_end_to_end(world: TinyWorld, tmp_path: Path) -> None:
    saes = {
        "whole": sae(alpha=0),
        "tuned": sae(alpha=0, finetune_kl=0.3),
        "under-a-metric": sae(alpha=0, finetune_kl=0.3, metric="fisher", metric_tokens=100),
        "from-the-start": sae(alpha=0, finetune_kl=1),
    }
    trained = run(tmp_path, world.multi(saes=saes, logger={"wandb_log_frequency": 1}))
    known = {
        name: [line["step"] for line in metrics(trained.folder) if line["sae"] == name
               and "metrics/kl_divergence" in line]
        for name in saes
    }  # fmt: skip
    assert known == {
        "whole": [],
        "tuned": [8, 9, 10],
        "under-a-metric": [8, 9, 10],
        "from-the-start": [*range(1, 11)],
    }
    losses = {
        name: [line["losses/mse_loss"] for line in metrics(trained.folder) if line["sae"] == name]
        for name in saes
    }
    assert losses["whole"][:7] == losses["tuned"][:7] and losses["whole"] != losses["tuned"]
    alone = run(tmp_path, world.multi(saes={"whole": sae(alpha=0)}), output="alone")
    assert torch.equal(
        weights(trained.exports["whole"])["W_dec"], weights(alone.exports["whole"])["W_dec"]
    )
    assert {line["details/n_training_samples"] for line in metrics(trained.folder)} == {
        BATCH * step for step in range(1, 11)
    }


@pytest.mark.parametrize(("share", "n"), [(0.01, 1), (0.29, 3), (0.3, 3), (0.96, 10)])
def test_a_share_of_the_steps(world: TinyWorld, tmp_path: Path, share: float, n: int) -> None:
    values = world.language_model(
        sae=sae(alpha=0, finetune_kl=share), logger={"wandb_log_frequency": 1}
    )
    found = [
        line["step"]
        for line in metrics(run(tmp_path, values).folder)
        if "metrics/kl_divergence" in line
    ]
    assert found == [*range(11 - n, 11)]


def test_end_to_end_steps_are_of_what_is_exported(
    world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    divergence, seen = ModelRun.divergence, list[tuple[Any, Any, float]]()

    def recorded(run: ModelRun, place: Any, x_hat: Any) -> Any:
        found = divergence(run, place, x_hat)
        seen.append((run.samples(place), x_hat, float(found[0])))
        return found

    monkeypatch.setattr(ModelRun, "divergence", recorded)
    scaled = {"normalize_activations": "expected_average_only_in"}
    levels = {"architecture": "weighted_matryoshka_batchtopk", "matryoshka_widths": [8, D_SAE]}
    for name, fields in {
        "scaled": scaled,
        "metric": scaled | {"metric": "fisher", "metric_tokens": 100},
        "levels": levels,
    }.items():
        section = sae(alpha=0, finetune_kl=1, **fields)
        values = world.language_model(sae=section, lr=1e-12, logger={"wandb_log_frequency": 1})
        trained = run(tmp_path, values, output=name)
        logged = [line["metrics/kl_divergence"] for line in metrics(trained.folder)]
        n = len(seen) // len(logged)  # the whole, and each level
        assert n == (2 if name == "levels" else 1)
        x, x_hat, value = seen[-n]
        assert logged[-1] == pytest.approx(value, rel=1e-6)
        assert [each[2] for each in seen[::n]] == pytest.approx(logged, rel=1e-6)
        if name != "levels":  # whose threshold is another rule than its training's
            exported = SAE.load_from_disk(trained.exports["sae"])
            torch.testing.assert_close(exported(x), x_hat, rtol=1e-3, atol=1e-4)
        seen.clear()


def test_end_to_end_steps_have_a_rate_of_their_own(world: TinyWorld, tmp_path: Path) -> None:
    def trained(lr: float, factor: float) -> dict[str, Any]:
        section = sae(alpha=0, finetune_kl=1, finetune_kl_lr=factor)
        values = world.language_model(sae=section, lr=lr)
        return weights(run(tmp_path, values, output=f"{lr}-{factor}").exports["sae"])

    half = trained(0.02, 0.5)
    assert same(half, trained(0.01, 1.0))
    assert not same(half, trained(0.02, 1.0))


@pytest.mark.slow
def test_end_to_end_training_lowers_the_divergence(tmp_path: Path) -> None:
    """On the bundled model, for a worse reconstruction."""
    arms = {"uniform": {"metric": "uniform"}, "kl": {"metric": "uniform", "finetune_kl": 0.3}}
    common = {"architecture": "weighted_topk", "d_in": 128, "d_sae": 256, "k": 16, "alpha": 0}
    values = {
        "model_name": "bundled",
        "dataset_path": "bundled",
        "context_size": 64,
        "n_batches_in_buffer": 32,
        "training_tokens": 200 * 512,
        "train_batch_size_tokens": 512,
        "lr": 4e-3,
        "lr_decay_steps": 60,
        "hook_names": "blocks.3.hook_resid_post",
        "saes": {name: common | fields for name, fields in arms.items()},
    }
    trained = run(tmp_path, values)
    scores = {
        found["run"].removeprefix("run-"): {s["metric"]: s["value"] for s in found["scores"]}
        for found in evaluate_runs([trained.folder], EvalSettings(batches=4))
    }
    # 0.63 in place of 0.72 nats.
    assert scores["kl"]["kl_divergence"] < 0.95 * scores["uniform"]["kl_divergence"]
    assert scores["kl"]["explained_variance"] < scores["uniform"]["explained_variance"]


def under_metrics() -> dict[str, Any]:
    """An SAE for each metric that is estimated, and a plain one."""
    names = ("fisher", "rotated_fisher", "covariance")
    metrics = {
        name.replace("_", "-"): sae(alpha=0, metric=name, metric_tokens=100, gamma_seed=7)
        for name in names
    }
    return {"plain": sae(alpha=0)} | metrics


def test_a_metric_is_estimated_once_and_changes_no_other_sae(
    world: TinyWorld, tmp_path: Path
) -> None:
    hook = "blocks.1.hook_resid_post"
    trained = run(tmp_path, world.multi(saes=under_metrics(), hook_names=hook))
    (file,) = (trained.folder / "metric").iterdir()
    assert file.name == f"{hook}-100.safetensors"
    estimated, about = Sensitivity.read(file)
    assert 100 <= int(estimated.n_tokens) < 132 and about["hook_name"] == hook
    exported = {name: weights(path) for name, path in trained.exports.items()}
    alone = run(tmp_path, world.multi(saes={"plain": sae(alpha=0)}, hook_names=hook), output="b")
    assert torch.equal(exported["plain"]["W_dec"], weights(alone.exports["plain"])["W_dec"])
    for name, information in {
        "fisher": estimated.fisher,
        "rotated-fisher": rotated(estimated.fisher, seed=7),
        "covariance": estimated.covariance,
    }.items():
        made_from = load_file(trained.exports[name] / "metric.safetensors")["metric"]
        expected = information * (len(made_from) / float(information.trace()))
        torch.testing.assert_close(made_from, expected, atol=1e-5, rtol=1e-4)
    decoders = [own["W_dec"] for own in exported.values()]
    assert not any(torch.equal(a, b) for a, b in combinations(decoders, 2))


def test_gradients_of_ones_own_where_no_language_model_is(world: TinyWorld, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(300, D_MODEL, generator=generator) * torch.linspace(0.1, 3, D_MODEL)
    file = tmp_path / "gradients.safetensors"
    save_file({"gradients": gradients}, file)
    longer = {"training_samples": 100 * BATCH, "lr": 1e-2}
    values = world.synthetic(sae=sae(alpha=0, metric="fisher", metric_file=str(file)), **longer)
    trained = run(tmp_path, values)
    export = trained.exports["sae"]
    assert type(SAE.load_from_disk(export)) is TopKSAE
    fisher = gradients.double().T @ gradients.double() / 300
    made_from = load_file(export / "metric.safetensors")["metric"]
    expected = fisher * D_MODEL / fisher.trace()
    torch.testing.assert_close(made_from, expected, atol=1e-5, rtol=1e-4)
    # What one trains under, and not only what one writes.
    plain = world.synthetic(sae=sae(alpha=0, metric="uniform"), **longer)
    uniform = run(tmp_path, plain, output="uniform")
    x = SyntheticSource(load_run_config(tmp_path / "config.yaml").runner_config()).held_out(2000).x
    errors = {
        name: torch.einsum("ni,ij,nj->n", delta, expected, delta).mean()
        for name, each in (("fisher", trained), ("uniform", uniform))
        for delta in [(SAE.load_from_disk(each.exports["sae"])(x) - x).detach().double()]
    }
    assert errors["fisher"] < errors["uniform"]

    save_file({"gradients": gradients[:, 1:].contiguous()}, file)
    with pytest.raises(BadInputError, match=r"gradients of shape \(300, 31\): must be \(n, 32\)"):
        run(tmp_path, values, output="narrow")
    assert not (tmp_path / "narrow").exists()
    with pytest.raises(BadInputError, match="no output that would feel an error: give metric_file"):
        SyntheticSource(load_run_config(tmp_path / "config.yaml").runner_config()).sensitivity(
            "synthetic_model", tmp_path / "f", 100
        )


def _awkward_data(world: TinyWorld, kind: str) -> dict[str, Any]:
    """Batches that do not divide the buffer, several of them waiting in it."""
    if kind == "synthetic":
        return world.synthetic()
    irregular = {"n_batches_in_buffer": 25, "exclude_special_tokens": True}
    if kind == "signed_and_pursued":
        return world.multi(saes=signed_and_pursued(), **irregular)
    if kind == "kl_alone":
        return world.language_model(sae=sae(alpha=0, finetune_kl=1), **irregular)
    if kind == "kl":
        saes = {"plain": sae(alpha=0), "tuned": sae(alpha=1.0, finetune_kl=0.6)}
        hooks = {"plain": "blocks.0.hook_resid_post", "tuned": "blocks.1.hook_resid_post"}
        return world.multi(saes=saes, hook_names=hooks, **irregular)
    if kind == "metric":
        return world.multi(saes=under_metrics(), hook_names="blocks.1.hook_resid_post", **irregular)
    if kind == "two_hooks":
        hooks = {
            "baseline": "blocks.0.hook_resid_post",
            "alpha-0": "blocks.1.hook_resid_post",
            "alpha-1": "blocks.1.hook_resid_post",
        }
        return world.multi(hook_names=hooks, **irregular)
    return getattr(world, kind)(**irregular)


def test_a_run_that_was_stopped_before_its_first_checkpoint_starts_again(
    world: TinyWorld, tmp_path: Path
) -> None:
    values = world.language_model()
    whole = run(tmp_path, values, output="whole").exports["sae"]
    config = load_run_config(write_config(tmp_path / "killed.yaml", values))
    RunFolder(tmp_path / "run").start(config, "", None)
    resumed = run(tmp_path, values, resume=True).exports["sae"]
    assert torch.equal(weights(resumed)["W_dec"], weights(whole)["W_dec"])


def test_a_checkpoint_is_taken_between_steps(world: TinyWorld, tmp_path: Path) -> None:
    folder = run(tmp_path, world.language_model(n_checkpoints=2)).folder
    for checkpoint in (folder / "checkpoints").iterdir():
        state = torch.load(checkpoint / "trainer_state.pt")
        assert state["n_training_samples"] == int(checkpoint.name)
        # SAELens's own are one step short here.
        assert state["n_training_steps"] == int(checkpoint.name) // BATCH
        assert state["optimizer"]["state"][0]["step"] == state["n_training_steps"]


def test_a_run_can_start_from_the_checkpoint_of_another(world: TinyWorld, tmp_path: Path) -> None:
    run(tmp_path, world.language_model(n_checkpoints=1), output="first")
    checkpoint = next((tmp_path / "first" / "checkpoints").iterdir())
    values = world.language_model(resume_from_checkpoint=str(checkpoint))
    second = run(tmp_path, values, output="second").folder
    assert metrics(second)[-1]["step"] == 10
    assert not (second / "checkpoints").exists()


def test_a_resumed_run_saves_the_checkpoints_that_are_left(
    world: TinyWorld, tmp_path: Path, stop_after: Any
) -> None:
    """Due above 256, 512, 768 and 1024 samples; it is stopped at 512 of them."""
    stop_after(4)
    with pytest.raises(TrainingInterruptedError):
        run(tmp_path, world.language_model(n_checkpoints=4))
    folder = run(tmp_path, world.language_model(n_checkpoints=4), resume=True).folder
    names = sorted(int(checkpoint.name) for checkpoint in (folder / "checkpoints").iterdir())
    assert names == [384, 512, 640, 896, 1152]


def test_a_place_in_a_text_is_none_in_a_cache(world: TinyWorld, tmp_path: Path) -> None:
    run(tmp_path, world.language_model(n_checkpoints=1), output="first")
    checkpoint = next((tmp_path / "first" / "checkpoints").iterdir())
    of_text = world.language_model(resume_from_checkpoint=str(checkpoint))
    cache = {"use_cached_activations": True, "cached_activations_path": str(tmp_path)}
    file = checkpoint / "runner_cfg.json"
    for changes, was_cached in ((cache, False), ({}, True)):
        record = json.loads(file.read_text()) | {"use_cached_activations": was_cached}
        file.write_text(json.dumps(record))
        with pytest.raises(BadInputError, match=f"its use_cached_activations is {was_cached}, and"):
            run(tmp_path, of_text | changes, output="second")
    assert not (tmp_path / "second").exists()


def test_resume_refuses_another_config(world: TinyWorld, tmp_path: Path, stop_after: Any) -> None:
    stop_after(5)
    with pytest.raises(TrainingInterruptedError):
        run(tmp_path, world.language_model())
    with pytest.raises(BadInputError) as error:
        run(tmp_path, world.language_model(), ("sae.alpha=1", "lr=0.5", "device=cpu"), resume=True)
    assert "sae.alpha was 0.5 and is now 1.0, lr was 0.001 and is now 0.5;" in str(error.value)
    # What does not change the result may differ.
    run(tmp_path, world.language_model(), ("n_checkpoints=1",), resume=True)


def test_fine_tuning_builds_what_the_config_names(world: TinyWorld, tmp_path: Path) -> None:
    plain = sae(architecture="topk", alpha=None)
    # A checkpoint: weights as trained, not as exported.
    run(tmp_path, world.language_model(sae=plain, n_checkpoints=1), output="plain")
    start = next((tmp_path / "plain" / "checkpoints").iterdir())
    values = world.language_model(from_pretrained_path=str(start), lr=1e-12)
    tuned = run(tmp_path, values, output="tuned")
    assert tuned.metrics["sae"]["details/alpha_coefficient"] == 0.5
    # At this learning rate only the weights it started from are left.
    checkpoint = weights(start)
    exported = SAE.load_from_disk(tuned.exports["sae"])
    cosines = torch.nn.functional.cosine_similarity(exported.W_dec, checkpoint["W_dec"], dim=-1)
    assert torch.all(cosines > 0.9999)


@pytest.mark.parametrize(
    "other", [sae(d_sae=2 * D_SAE), sae(architecture="weighted_gated", k=None)], ids=str
)
def test_fine_tuning_refuses_what_does_not_fit(
    world: TinyWorld, tmp_path: Path, other: dict[str, Any]
) -> None:
    plain = run(tmp_path, world.language_model(), output="plain").exports["sae"]
    values = world.language_model(sae=other, from_pretrained_path=str(plain))
    with pytest.raises(BadInputError) as error:
        run(tmp_path, values)
    assert "from_pretrained_path" in str(error.value)
    assert "does not fit" in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_explodes_ends_the_run(world: TinyWorld, tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match="the loss is not finite after step"):
        run(tmp_path, world.language_model(lr=1e30), ("logger.wandb_log_frequency=1",))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "failed"
    assert "RunFailedError" in record["error"]


def test_a_failure_is_recorded_with_its_traceback(
    world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(TrainingLoop, "_move", fail)
    with pytest.raises(RunFailedError, match="training failed: ZeroDivisionError: by zero"):
        run(tmp_path, world.language_model())
    assert "in fail" in json.loads((tmp_path / "run" / "run.json").read_text())["error"]


def check_of(export: Path) -> dict[str, Any]:
    return json.loads((export / "cfg.json").read_text())["metadata"]["export_check"]


@pytest.mark.parametrize("kind", ["language_model", "synthetic", "multi"])
def test_an_export_is_measured_beside_what_was_trained(
    world: TinyWorld, tmp_path: Path, kind: str
) -> None:
    trained = run(tmp_path, getattr(world, kind)())
    for export in trained.exports.values():
        check = check_of(export)
        assert check["samples"] == 8 * BATCH
        assert check["exported"] == pytest.approx(check["trained"])
        assert check["exported"]["l0"] == pytest.approx(4, abs=0.1)
        assert SAE.load_from_disk(export).cfg.metadata.export_check == check


def test_the_measured_batches_were_not_trained_on(
    world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is drawn after them is what it would be without them."""
    drawn: list[torch.Tensor] = []
    draw = SyntheticSource.__next__

    def recorded(self: SyntheticSource) -> dict[str, torch.Tensor]:
        drawn.append((batch := draw(self))["synthetic_model"])
        return batch

    monkeypatch.setattr(SyntheticSource, "__next__", recorded)
    first = run(tmp_path, world.synthetic(), output="first").exports["sae"]
    assert len(drawn) == 10 + 8
    assert not any(torch.equal(later, x) for later in drawn[10:] for x in drawn[:10])
    monkeypatch.setattr(TrainingLoop, "_batches_of_check", lambda _: [])
    second = run(tmp_path, world.synthetic(), output="second").exports["sae"]
    assert (first / "eval_stats.json").read_text() == (second / "eval_stats.json").read_text()
    assert "export_check" not in json.loads((second / "cfg.json").read_text())["metadata"]


def test_what_was_trained_is_exported_where_no_batch_is_left(
    world: TinyWorld,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    draw, left = SyntheticSource.__next__, list(range(10))

    def breaking(self: SyntheticSource) -> dict[str, torch.Tensor]:
        if not left:
            raise ConnectionError("the data set is gone")
        left.pop()
        return draw(self)

    monkeypatch.setattr(SyntheticSource, "__next__", breaking)
    export = run(tmp_path, world.synthetic()).exports["sae"]
    assert type(SAE.load_from_disk(export)) is TopKSAE
    assert "The export is not measured: no more batches: the data set is gone" in caplog.text


@pytest.mark.parametrize("architecture", ["batchtopk", "weighted_batchtopk"])
def test_an_export_that_was_not_trained_is_told_of(
    world: TinyWorld, tmp_path: Path, caplog: pytest.LogCaptureFixture, architecture: str
) -> None:
    """SAELens's moving average is at a tenth of the threshold after ten steps."""
    alpha = 0 if architecture.startswith("weighted") else None
    values = world.language_model(sae=sae(architecture=architecture, alpha=alpha))
    check = check_of(run(tmp_path, values).exports["sae"])
    assert check["trained"]["l0"] == pytest.approx(4)
    told = "what was exported is not what was trained" in caplog.text
    if alpha is None:
        assert told
        assert check["exported"]["l0"] > 8
    else:
        assert not told
        assert 4 / 1.5 < check["exported"]["l0"] < 4 * 1.5
