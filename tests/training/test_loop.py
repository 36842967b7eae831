"""What the loop does between two steps that a run's folder does not show: W&B."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb

from tests.architectures import ARCHITECTURES, activations, trainer
from tests.test_documentation import table
from tests.training.tiny import BATCH, D_SAE, TinyWorld, sae, write_config
from wsae_plugin.training import load_run_config
from wsae_plugin.training.loop import mean_scores
from wsae_plugin.training.train import train

pytestmark = pytest.mark.filterwarnings("ignore:All samples in the training dataset")

Calls = list[tuple[str, Any]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What W&B is called with, in order."""
    calls: Calls = []

    def record(name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: calls.append((name, (*args, kwargs)))

    class Artifact:
        def __init__(self, name: str, **_: Any) -> None:
            self.name = name

        def add_file(self, path: str) -> None:
            assert Path(path).is_file()

    for name in ("init", "log", "finish", "log_artifact"):
        monkeypatch.setattr(wandb, name, record(name))
    monkeypatch.setattr(wandb, "Artifact", Artifact)
    return calls


def run(world: TinyWorld, folder: Path, kind: str, **changes: Any) -> None:
    logger = {
        "log_to_wandb": True,
        "wandb_log_frequency": 2,
        "eval_every_n_wandb_logs": 2,
        "wandb_project": "mine",
    }
    values = getattr(world, kind)(logger=logger, n_checkpoints=1, **changes)
    train(load_run_config(write_config(folder / "config.yaml", values)), folder / "run")


def logged(calls: Calls, key: str) -> list[int]:
    """Steps at which something was logged under `key`."""
    return [args[-1]["step"] for name, args in calls if name == "log" and key in args[0]]


@pytest.mark.parametrize("kind", ["language_model", "multi", "synthetic"])
def test_wandb_gets_what_saelens_sends(
    world: TinyWorld, tmp_path: Path, calls: Calls, kind: str
) -> None:
    changes: dict[str, Any] = {"feature_sampling_window": 5}
    if kind == "synthetic":
        changes["eval_frequency"] = 1
    else:
        changes |= {"n_eval_batches": 1, "eval_batch_size_prompts": 2}
    run(world, tmp_path, kind, **changes)
    assert calls[0][0] == "init"
    assert calls[0][1][-1]["project"] == "mine"
    assert calls[-1][0] == "finish"
    prefix = "alpha-1/" if kind == "multi" else ""
    # SAELens counts a step only after it has logged it.
    assert logged(calls, f"{prefix}losses/overall_loss") == [1, 3, 5, 7, 9]
    assert logged(calls, f"{prefix}metrics/mean_log10_feature_sparsity") == [5, 10]
    scored = {
        "language_model": "model_performance_preservation",
        "multi": "alpha-1/model_performance_preservation",
        "synthetic": "synthetic/mcc",
    }[kind]
    assert logged(calls, scored) == [3, 7]
    samples = [args[0]["details/n_training_samples"] for name, args in calls if name == "log"]
    assert samples[-1] == 10 * BATCH
    # The weights' and the sparsities' artifact of each SAE, of the checkpoint and of the export.
    n_saes = 3 if kind == "multi" else 1
    assert sum(name == "log_artifact" for name, _ in calls) == 4 * n_saes
    assert bool(logged(calls, "final/mcc")) == (kind == "synthetic")


def test_the_documentation_has_every_name_that_this_package_adds(
    world: TinyWorld, tmp_path: Path, calls: Calls
) -> None:
    levels = {"matryoshka_widths": [16, D_SAE]}
    plain = {
        "matryoshka": sae(architecture="matryoshka_batchtopk", alpha=None, **levels),
        "gated": sae(architecture="gated", alpha=None, k=None),
    }
    ours = {
        name: section | {"architecture": f"weighted_{section['architecture']}", "alpha": 1.0}
        for name, section in plain.items()
    }
    ours |= {"gba": sae(architecture="gba", k=None, finetune_kl=0.5)}
    unweighted = {name: section | {"alpha": 0.0} for name, section in ours.items()}
    names: list[set[str]] = []
    for number, saes in enumerate((plain, ours, unweighted)):
        calls.clear()
        (folder := tmp_path / str(number)).mkdir()
        few = {"n_eval_batches": 1, "eval_batch_size_prompts": 2, "n_batches_for_norm_estimate": 2}
        run(world, folder, "multi", saes=saes, **few)
        sent = (key for name, args in calls if name == "log" for key in args[0])
        names.append(
            {
                re.sub(r"inner_mse_loss_\d+", "inner_mse_loss_WIDTH", key.split("/", 1)[1])
                for key in sent
                if key.split("/")[0] in saes
            }
        )
    rows = table("docs/logged_names.md", "| name | logged by | meaning |")
    documented = {name.strip("`"): logged_by for name, logged_by, _ in rows}
    assert documented.keys() == names[1] - names[0]
    at_any_alpha = {name for name, logged_by in documented.items() if "α ≠ 0" not in logged_by}
    assert at_any_alpha == names[2] - names[0]
    # SAELens's names but those that are logged with weighted_ before them.
    assert names[0] - names[1] == {
        "losses/auxiliary_reconstruction_loss",
        "losses/inner_mse_loss_WIDTH",
    }
    assert names[0] <= names[2]


def test_nothing_goes_to_wandb_unless_asked(world: TinyWorld, tmp_path: Path, calls: Calls) -> None:
    values = world.language_model(sae=sae(), n_checkpoints=1)
    train(load_run_config(write_config(tmp_path / "config.yaml", values)), tmp_path / "run")
    assert calls == []


def test_an_export_is_scored_over_all_batches() -> None:
    (topk,) = [arch for arch in ARCHITECTURES if arch.name == "topk"]
    part: Any = trainer(topk.weighted())
    batches = [activations(seed=0), 3 * activations(seed=1)]
    together = mean_scores(part, part.sae, batches)
    alone = [mean_scores(part, part.sae, [batch]) for batch in batches]
    evs = [scores["explained_variance"] or 0.0 for scores in alone]
    assert evs[0] != evs[1]
    assert together["explained_variance"] == pytest.approx(sum(evs) / 2)
