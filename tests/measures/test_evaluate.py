"""Run folders and a comparison folder in, scores/held_out.json in each of them out."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE
from sae_lens.evals import EvalConfig, run_evals
from sae_lens.training.activation_scaler import ActivationScaler
from safetensors.torch import load_file, save_file

from tests.measures.test_sums import Store
from tests.training.tiny import TinyWorld, sae, signed_and_pursued, write_config, write_texts
from wsae_plugin.compare.runs import runs_of
from wsae_plugin.errors import BadInputError
from wsae_plugin.files import write_json_atomic
from wsae_plugin.hub.records import read_records
from wsae_plugin.measures import evaluate as module
from wsae_plugin.measures.evaluate import EvalSettings, evaluate_runs, passes
from wsae_plugin.measures.evaluated_run import EvaluatedRun
from wsae_plugin.measures.held_out import HeldOutText, held_out_source, open_held_out
from wsae_plugin.training.config import load_run_config
from wsae_plugin.training.train import train
from wsae_plugin.yaml_file import read_yaml, to_yaml

ARMS = {
    "sae": ("baseline", 0.0, "variance"),
    "alpha-half": ("weighted", 0.5, "variance"),
    "alpha-1": ("weighted", 1.0, "variance"),
    "shuffled": ("control", 1.0, "shuffled_variance"),
}
SEEDS = (0, 1)
SCORE_KEYS = {
    "eval",
    "metric",
    "label",
    "value",
    "direction",
    "headline",
    "chance",
    "control",
    "noise",
    "spread",
    "note",
    "unit",
    "definition",
}


@pytest.fixture(scope="module")
def settings(world: TinyWorld) -> EvalSettings:
    file = world.path / "unseen.jsonl"
    write_texts(file, n_rows=60)
    return EvalSettings(str(file), batches=4, batch_size_prompts=4)


@pytest.fixture(scope="module")
def comparison(world: TinyWorld) -> Path:
    """Four arms from two seeds, as a comparison folder."""
    torch.set_num_threads(1)
    folder = world.path / "comparison"
    runs: list[dict[str, Any]] = []
    for seed in SEEDS:
        for arm, (role, alpha, proxy) in ARMS.items():
            name = f"{arm}-seed-{seed}"
            section = sae(alpha=alpha, gamma_proxy=proxy, gamma_freeze_step=5)
            values = world.language_model(sae=section, seed=seed, device="cpu")
            config = load_run_config(write_config(world.path / f"{name}.yaml", values))
            train(config, folder / "runs" / name)
            runs.append(
                {
                    "run": name,
                    "path": f"runs/{name}",
                    "arm": arm,
                    "role": role,
                    "hook_name": "blocks.1.hook_resid_post",
                    "layer": 1,
                    "sparsity": {"k": 4},
                    "seed": seed,
                    "pair": f"seed-{seed}",
                }
            )
    manifest = {
        "comparison": 1,
        "status": "finished",
        "model_name": str(world.model),
        "model_class_name": "HookedTransformer",
        "dataset_path": str(world.texts),
        "context_size": 32,
        "seeds": list(SEEDS),
        "baseline": "sae",
        "arms": [
            {"name": name, "label": name, "role": role, "alpha": alpha, "proxy": proxy}
            for name, (role, alpha, proxy) in ARMS.items()
        ],
        "runs": runs,
    }
    write_json_atomic(folder / "manifest.json", manifest)
    return folder


@pytest.fixture(scope="module")
def documents(comparison: Path, settings: EvalSettings) -> dict[str, dict[str, Any]]:
    return {document["run"]: document for document in evaluate_runs([comparison], settings)}


def scores_of(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    scores = {score["metric"]: score for score in document["scores"]}
    assert len(scores) == len(document["scores"])
    return scores


def test_every_run_gets_what_the_contract_says(
    comparison: Path, documents: dict[str, dict[str, Any]]
) -> None:
    assert list(documents) == [f"{arm}-seed-{seed}" for seed in SEEDS for arm in ARMS]
    for run in runs_of([comparison]):
        document = json.loads((run.path / "scores" / "held_out.json").read_text())
        assert document == documents[run.run]
        assert document["scores_version"] == 1
        assert document["run"] == run.run
        # 4 batches of 4 contexts of 32 tokens, one BOS each
        held_out = document["held_out"]
        assert held_out["tokens"] <= 4 * 4 * 31
        assert len(held_out["excluded_token_ids"]) == 1
        assert {key: held_out[key] for key in ("batches", "context_size", "seed")} == {
            "batches": 4,
            "context_size": 32,
            "seed": 0,
        }
        assert {"torch", "sae-lens", "wsae-plugin"} <= set(document["versions"])
        assert [len(values) for values in document["per_dimension"].values()] == [32] * 3
        assert {len(values) for values in document["per_batch"].values()} == {4}
        assert {"explained_variance", "ce_loss_recovered"} <= set(document["per_batch"])
        scores = scores_of(document)
        for score in scores.values():
            assert set(score) == SCORE_KEYS
            assert score["eval"] == "held_out"
            assert score["definition"]
            assert score["direction"] in ("up", "down", "none")
            assert score["value"] is not None or score["note"]
        assert next(iter(scores)) == "explained_variance"
        for metric in ("explained_variance", "ce_loss_recovered", "l0", "token_consistency"):
            assert scores[metric]["headline"]
        assert scores["l0"]["value"] == 4
        assert scores["kl_divergence"]["chance"] > 0
        assert scores["explained_variance"]["spread"] > 0


def test_signed_and_pursued_latents_are_measured_and_described(
    world: TinyWorld, settings: EvalSettings, tmp_path: Path
) -> None:
    for name, section in signed_and_pursued().items():
        values = world.language_model(sae=section, device="cpu")
        train(load_run_config(write_config(tmp_path / f"{name}.yaml", values)), tmp_path / name)
    folders = [tmp_path / name for name in signed_and_pursued()]
    l0 = [scores_of(document)["l0"]["value"] for document in evaluate_runs(folders, settings)]
    assert l0[0] == 4
    assert 1 < l0[1] <= 4
    found = [SAE.load_from_disk(folder / "sae") for folder in folders]
    assert [sae.cfg.architecture() for sae in found] == ["abstopk", "matching_pursuit"]
    x = torch.randn(50, 32)
    assert (found[0].encode(x) < 0).any() and not (found[1].encode(x) < 0).any()
    records = read_records(folders)
    assert [record.sparsity for record in records] == ["k = 4", "max_iterations = 4"]
    endless = replace(records[1], cfg=json.loads(json.dumps(records[1].cfg)))
    endless.cfg["metadata"]["training_architecture_details"]["max_iterations"] = None
    endless.cfg["max_iterations"] = None
    assert endless.sparsity == "residual_threshold = 0.01"


def test_all_runs_of_a_pair_are_judged_under_the_same_weights(
    documents: dict[str, dict[str, Any]],
) -> None:
    for seed in SEEDS:
        for arm in ARMS:
            scores = scores_of(documents[f"{arm}-seed-{seed}"])
            assert scores["weighted_explained_variance"]["note"] == "under Γ of arm alpha-1"
            assert "weighted_explained_variance_alpha-half" in scores
            assert "explained_variance_largest_quarter" in scores
            assert ("own_weighted_explained_variance" in scores) == (arm != "sae")
    document = documents["sae-seed-0"]
    gamma = torch.tensor(documents["alpha-1-seed-0"]["per_dimension"]["gamma"]).double()
    of_baseline = document["per_dimension"]
    assert of_baseline["gamma"] == [1] * 32
    variance = torch.tensor(of_baseline["variance"]).double()
    explained = torch.tensor(of_baseline["explained_variance"]).double()
    weighted = scores_of(document)["weighted_explained_variance"]["value"]
    weight = gamma.square() * variance
    assert weighted == pytest.approx(float((explained * weight).sum() / weight.sum()))
    unweighted = scores_of(document)["explained_variance"]["value"]
    assert unweighted == pytest.approx(float((explained * variance).sum() / variance.sum()))


def test_seeds_agree_equally_for_both(documents: dict[str, dict[str, Any]]) -> None:
    first, second = (scores_of(documents[f"sae-seed-{seed}"])["seed_consistency"] for seed in SEEDS)
    assert first["value"] == second["value"]
    assert 0 < first["chance"] < 1
    assert first["control"] is not None
    assert "seeds 0, 1" in first["note"]


def test_scores_are_those_of_run_evals(
    comparison: Path, documents: dict[str, dict[str, Any]], settings: EvalSettings
) -> None:
    run = comparison / "runs" / "alpha-1-seed-0"
    config = load_run_config(run / "config.yaml")
    trained_sae = SAE.load_from_disk(run / "sae")
    source = held_out_source(config.values["dataset_path"], settings.dataset)
    text = open_held_out([config], source, settings)
    assert isinstance(text, HeldOutText)

    theirs, _ = run_evals(
        trained_sae,
        Store(text.batches),  # type: ignore[arg-type]
        text.model,
        ActivationScaler(),
        EvalConfig(
            n_eval_reconstruction_batches=4,
            n_eval_sparsity_variance_batches=4,
            compute_kl=True,
            compute_ce_loss=True,
            compute_l2_norms=True,
            compute_sparsity_metrics=True,
            compute_variance_metrics=True,
        ),
        exclude_special_tokens=text.excluded,
    )
    flat = {key: value for group in theirs.values() for key, value in group.items()}
    scores = scores_of(documents["alpha-1-seed-0"])
    for ours, saelens in {
        "explained_variance": "explained_variance",
        "ce_loss_recovered": "ce_loss_score",
        "kl_divergence": "kl_div_with_sae",
        "kl_recovered": "kl_div_score",
        "l0": "l0",
        "norm_ratio": "l2_ratio",
        "cosine_similarity": "cossim",
    }.items():
        assert scores[ours]["value"] == pytest.approx(flat[saelens], rel=2e-3, abs=1e-5), ours


@pytest.fixture
def refuse_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(*_: Any, **__: Any) -> Any:
        raise AssertionError("was measured again")

    monkeypatch.setattr(module, "open_held_out", measured)


@pytest.mark.usefixtures("refuse_to_measure")
def test_what_is_measured_is_left_alone(
    comparison: Path,
    documents: dict[str, dict[str, Any]],
    settings: EvalSettings,
) -> None:
    assert list(documents.values()) == evaluate_runs([comparison], settings)
    for changed, force in ((replace(settings, seed=1), False), (settings, True)):
        with pytest.raises(AssertionError, match="again"):
            evaluate_runs([comparison], changed, force)


def test_only_what_is_missing_is_measured_and_a_broken_file_is_replaced(
    comparison: Path, documents: dict[str, dict[str, Any]], settings: EvalSettings
) -> None:
    runs = {run.run: run.path / "scores" / "held_out.json" for run in runs_of([comparison])}
    times = {name: os.stat(file).st_mtime_ns for name, file in runs.items()}
    runs["sae-seed-1"].write_text("{")
    runs["alpha-1-seed-0"].unlink()
    again = evaluate_runs([comparison], settings)
    changed = {name for name, file in runs.items() if os.stat(file).st_mtime_ns != times[name]}
    assert changed == {"sae-seed-1", "alpha-1-seed-0"}
    assert again == list(documents.values())


def test_a_seed_that_comes_later_is_compared_with(
    comparison: Path, tmp_path: Path, settings: EvalSettings
) -> None:
    folder = tmp_path / "growing"
    shutil.copytree(comparison, folder, ignore=shutil.ignore_patterns("scores"))
    manifest = json.loads((folder / "manifest.json").read_text())
    runs = [run for run in manifest["runs"] if run["arm"] == "sae"]
    for n_seeds in (1, 2):
        write_json_atomic(folder / "manifest.json", manifest | {"runs": runs[:n_seeds]})
        for document in evaluate_runs([folder], settings):
            agreement = scores_of(document)["seed_consistency"]["value"]
            assert (agreement is None) == (n_seeds == 1)


def test_passes_one_by_one_change_no_score(
    comparison: Path,
    documents: dict[str, dict[str, Any]],
    settings: EvalSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SAE_BYTES", 1)
    assert evaluate_runs([comparison], settings, force=True) == list(documents.values())


def test_passes_keep_hooks_together(comparison: Path) -> None:
    runs = [EvaluatedRun.load(run, "bundled-held-out") for run in runs_of([comparison])]
    size = runs[0].n_bytes
    # Γ lies in a file of its own beside the weights.
    assert 2 * 4 * 64 * 32 < size < 4 * 4 * 64 * 32
    assert [len(chosen) for chosen in passes(runs, 100 * size)] == [8]
    chosen = list(passes(runs, 3 * size + 100))
    assert [len(some) for some in chosen] == [3, 3, 2]
    assert {run.name for some in chosen for run in some} == {run.name for run in runs}


def test_a_run_alone_is_judged_under_its_own_weights(
    comparison: Path, tmp_path: Path, settings: EvalSettings
) -> None:
    for arm in ("alpha-1", "sae"):
        shutil.copytree(comparison / "runs" / f"{arm}-seed-0", tmp_path / arm)
    weighted, plain = evaluate_runs([tmp_path / "alpha-1", tmp_path / "sae"], settings)
    scores = scores_of(weighted)
    assert scores["weighted_explained_variance"]["note"] == "under Γ of this run"
    assert scores["seed_consistency"]["value"] is None
    assert "two seeds" in scores["seed_consistency"]["note"]
    assert "weighted_explained_variance" not in scores_of(plain)


def test_a_comparison_that_nobody_planned_may_lie_in_several_folders(
    comparison: Path, tmp_path: Path, settings: EvalSettings
) -> None:
    names = ["alpha-1-seed-0", "alpha-1-seed-1", "sae-seed-0"]
    folders = [tmp_path / f"of-{name}" / name for name in names]
    for folder in folders:
        shutil.copytree(comparison / "runs" / folder.name, folder)
    *weighted, plain = evaluate_runs(folders, settings, baseline=folders[-1])
    for document in (*weighted, plain):
        note = scores_of(document)["weighted_explained_variance"]["note"]
        assert note == "under Γ of arm weighted_topk, s = variance, α = 1"
    first, second = (scores_of(document)["seed_consistency"] for document in weighted)
    assert first["value"] == second["value"] and "seeds 0, 1" in first["note"]
    # Trained otherwise than in its seed alone, it is no other seed of the first.
    config = read_yaml(folders[1] / "config.yaml")
    (folders[1] / "config.yaml").write_text(to_yaml({**config, "lr": 0.5}))
    for document in evaluate_runs(folders, settings, baseline=folders[-1])[:-1]:
        assert scores_of(document)["seed_consistency"]["value"] is None
    # A copy without its Γ has none that others could be judged under.
    for file in folders[0].rglob("gamma.safetensors"):
        file.unlink()
    alone, _ = evaluate_runs(folders[::2], settings, baseline=folders[-1])
    assert "weighted_explained_variance" not in scores_of(alone)


def test_the_device_of_the_training_need_not_be_there(
    comparison: Path,
    documents: dict[str, dict[str, Any]],
    tmp_path: Path,
    settings: EvalSettings,
) -> None:
    run = tmp_path / "from-elsewhere"
    shutil.copytree(comparison / "runs" / "sae-seed-0", run)
    config = (run / "config.yaml").read_text()
    assert config.count("device: cpu") >= 2
    (run / "config.yaml").write_text(config.replace("device: cpu", "device: cuda:7"))
    (document,) = evaluate_runs([run], settings)
    ours, theirs = scores_of(document), scores_of(documents["sae-seed-0"])
    assert ours["explained_variance"]["value"] == theirs["explained_variance"]["value"]


def test_an_sae_that_diverged_has_null_scores_with_their_reason(
    comparison: Path, tmp_path: Path, settings: EvalSettings
) -> None:
    run = tmp_path / "diverged"
    shutil.copytree(comparison / "runs" / "sae-seed-0", run)
    weights = run / "sae" / "sae_weights.safetensors"
    tensors = load_file(weights)
    save_file({name: torch.full_like(value, torch.nan) for name, value in tensors.items()}, weights)
    (document,) = evaluate_runs([run], settings)
    scores = scores_of(document)
    for metric in ("explained_variance", "ce_loss_recovered", "token_consistency"):
        assert scores[metric]["value"] is None
        assert "not finite" in scores[metric]["note"]
    assert document["per_dimension"]["explained_variance"] == [None] * 32


def test_wrong_requests(comparison: Path, tmp_path: Path, settings: EvalSettings) -> None:
    with pytest.raises(BadInputError, match=r"sae-seed-0.*--dataset: missing"):
        evaluate_runs([comparison])
    run = tmp_path / "broken"
    shutil.copytree(comparison / "runs" / "alpha-1-seed-0", run)
    gamma = run / "sae" / "gamma.safetensors"
    save_file({"gamma": torch.ones(5)}, gamma)
    with pytest.raises(BadInputError, match=r"gamma has shape \(5,\), not \(32,\)"):
        evaluate_runs([run], settings)
    save_file({"other": torch.ones(32)}, gamma)
    with pytest.raises(BadInputError, match="cannot be read"):
        evaluate_runs([run], settings)
    gamma.unlink()
    (run / "sae" / "sae_weights.safetensors").write_bytes(b"none")
    with pytest.raises(BadInputError, match="cannot load this SAE"):
        evaluate_runs([run], settings)


def test_a_hook_of_another_run_or_of_no_model_is_refused_by_name(
    comparison: Path, tmp_path: Path, settings: EvalSettings
) -> None:
    for name in ("right", "wrong"):
        shutil.copytree(comparison / "runs" / "sae-seed-0", tmp_path / name)
    for file in ("config.yaml", "sae/cfg.json"):
        path = tmp_path / "wrong" / file
        written = path.read_text()
        path.write_text(written.replace("blocks.1.hook_resid_post", "blocks.0.hook_resid_post"))
        with pytest.raises(BadInputError, match="as the training says; the two are not of one run"):
            evaluate_runs([tmp_path / "right", tmp_path / "wrong"], settings)
        path.write_text(written.replace("blocks.1.hook_resid_post", "blocks.1.hook_residpost"))
    with pytest.raises(BadInputError, match="residpost': .*did you mean"):
        evaluate_runs([tmp_path / "right", tmp_path / "wrong"], settings)


def test_every_sae_of_a_run_of_several_is_measured(
    world: TinyWorld, tmp_path: Path, settings: EvalSettings
) -> None:
    run = tmp_path / "several"
    config = write_config(tmp_path / "several.yaml", world.multi(device="cpu"))
    train(load_run_config(config), run)
    documents = evaluate_runs([run], settings)
    names = ("alpha-0", "alpha-1", "baseline")
    assert [document["run"] for document in documents] == [f"several-{name}" for name in names]
    for name, document in zip(names, documents, strict=True):
        file = run / "saes" / name / "scores" / "held_out.json"
        assert json.loads(file.read_text()) == document
        assert {"explained_variance", "ce_loss_recovered"} <= scores_of(document).keys()
        SAE.load_from_disk(run / "saes" / name)
    assert "own_weighted_explained_variance" in scores_of(documents[1])
    assert evaluate_runs([run], settings) == documents


def test_runs_without_a_trained_sae_are_refused(world: TinyWorld, tmp_path: Path) -> None:
    for name, values in (("several", world.multi()), ("world", world.synthetic())):
        (tmp_path / name).mkdir()
        write_config(tmp_path / name / "config.yaml", values)
        with pytest.raises(BadInputError, match=f"{name}: holds no trained SAE"):
            evaluate_runs([tmp_path / name])


def test_an_sae_of_a_synthetic_model_is_measured_on_new_samples(
    world: TinyWorld, tmp_path: Path
) -> None:
    run = tmp_path / "world"
    config = write_config(tmp_path / "world.yaml", world.synthetic())
    train(load_run_config(config), run)
    settings = EvalSettings(batches=3, batch_size_prompts=2)
    (document,) = evaluate_runs([run], settings)
    assert json.loads((run / "scores" / "held_out.json").read_text()) == document
    assert document["held_out"]["tokens"] == 3 * 2 * 128
    assert document["held_out"]["dataset"] == "synthetic model"
    scores = scores_of(document)
    assert scores["l0"]["value"] == 4
    assert 0 < scores["mcc"]["value"] <= 1
    assert {"feature_f1", "uniqueness", "true_l0", "explained_variance"} <= scores.keys()
    assert scores.keys().isdisjoint({"ce_loss_recovered", "kl_divergence", "token_consistency"})
    assert evaluate_runs([run], settings, force=True) == [document]
    (other,) = evaluate_runs([run], replace(settings, seed=1))
    assert scores_of(other)["explained_variance"]["value"] != scores["explained_variance"]["value"]
    with pytest.raises(BadInputError, match="--dataset x: this is a run on a synthetic model"):
        evaluate_runs([run], replace(settings, dataset="x"))


def test_a_synthetic_model_without_a_seed_is_the_one_that_was_trained_on(
    world: TinyWorld, tmp_path: Path
) -> None:
    """It is drawn from the run's seed, so two runs of two seeds have two."""
    model = {"num_features": 48, "hidden_dim": 32}
    runs = [tmp_path / f"seed-{seed}" for seed in (0, 1)]
    for seed, run in enumerate(runs):
        values = world.synthetic(synthetic_model=model, seed=seed, save_synthetic_model=True)
        train(load_run_config(write_config(tmp_path / "world.yaml", values)), run)
    torch.manual_seed(5)
    for run, document in zip(runs, evaluate_runs(runs), strict=True):
        found = scores_of(document)["mcc"]["value"]
        recorded = json.loads((run / "sae" / "eval_stats.json").read_text())["mcc"]
        assert found == pytest.approx(recorded, abs=1e-6)


def test_a_synthetic_model_that_was_drawn_on_another_device_is_not_drawn_again(
    world: TinyWorld, tmp_path: Path
) -> None:
    run = tmp_path / "world"
    train(load_run_config(write_config(tmp_path / "c.yaml", world.synthetic(device="cpu"))), run)
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("device: cpu", "device: mps"))
    with pytest.raises(BadInputError, match="device = 'mps': the synthetic model was drawn on it"):
        evaluate_runs([run])
