"""The benchmark end to end, on SAEs of random weights: repeatable, resumable, and never silent."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.saebench.conftest import make_run
from tests.saebench.judge_server import JudgeServer
from wsae_plugin.errors import RunFailedError
from wsae_plugin.saebench import bench as bench_module
from wsae_plugin.saebench import library
from wsae_plugin.saebench.bench import bench, estimate
from wsae_plugin.saebench.evals import autointerp
from wsae_plugin.saebench.evals.table import evals_named
from wsae_plugin.saebench.request import Request

EVALS = (
    *("core", "sparse_probing", "sae_probes", "absorption"),
    *("scr", "tpp", "meta_structure", "autointerp"),
)
CATEGORIES = {
    "run", "eval", "metric", "label", "value", "direction", "headline",
    "chance", "control", "noise", "spread", "note", "unit", "definition",
}  # fmt: skip


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer texts and steps, so that a test is about the protocol and not about the numbers."""

    def shrink(eval_config: Callable[..., dict[str, Any]], **values: Any) -> Any:
        return lambda *args: eval_config(*args) | values

    original = bench_module.evals_named
    smaller: dict[str, dict[str, Any]] = {
        "core": {
            "n_eval_reconstruction_batches": 1,
            "n_eval_sparsity_variance_batches": 2,
            "eval_batch_size_prompts": 4,
        },
        "sparse_probing": {
            "probe_train_set_size": 40,
            "probe_test_set_size": 24,
            "context_length": 32,
        },
        "tpp": {"train_set_size": 16, "test_set_size": 16, "context_length": 16, "n_values": [10]},
        "scr": {"train_set_size": 16, "test_set_size": 16, "context_length": 16, "n_values": [10]},
        "absorption": {"k_sparse_probe_num_epochs": 2, "max_k_value": 2},
        "meta_structure": {"train_steps": 5},
        "autointerp": {"n_latents": 4, "total_tokens": 6000, "llm_context_size": 64},
    }

    def evals_named(*args: Any) -> Any:
        from dataclasses import replace

        return [
            replace(e, config=shrink(e.config, **smaller.get(e.name, {}))) for e in original(*args)
        ]

    monkeypatch.setattr(bench_module, "evals_named", evals_named)


def metrics_of(folder: Path) -> dict[str, Any]:
    """SAEBench's numbers, file by file; the time a training took is none of them."""
    found: dict[str, Any] = {}
    for file in sorted(folder.glob("results/*/*.json")):
        metrics = json.loads(file.read_text())["eval_result_metrics"]
        metrics.get("meta_structure", {}).pop("train_time_seconds", None)
        found[file.relative_to(folder).as_posix()] = metrics
    return found


@pytest.mark.parametrize(
    "evals",
    [
        ["core", "meta_structure"],
        ["sparse_probing", "tpp"],
        ["scr"],
        pytest.param(["sae_probes"], marks=pytest.mark.slow),
        pytest.param(["absorption"], marks=pytest.mark.slow),
    ],
    ids="-".join,
)
def test_twice_is_the_same(
    comparison: Path, tmp_path: Path, in_a_repository: Path, evals: list[str]
) -> None:
    package = Path(str(importlib.util.find_spec("sae_bench").origin)).parent  # type: ignore[union-attr]
    before = sorted(package.glob("artifacts/**/*"))
    documents = [
        bench([comparison], tmp_path / name, Request(evals, tasks=["117_us_state_FL"]))
        for name in ("once", "again")
    ]
    assert metrics_of(tmp_path / "once") == metrics_of(tmp_path / "again")
    assert documents[0]["scores"] == documents[1]["scores"]
    assert sorted(package.glob("artifacts/**/*")) == before  # absorption would write there
    assert list(in_a_repository.iterdir()) == [in_a_repository / ".git"]
    _check_document(documents[0], comparison, tmp_path / "once", evals)


def _check_document(
    document: dict[str, Any], comparison: Path, folder: Path, evals: list[str]
) -> None:
    assert json.loads((folder / "scores.json").read_text()) == document
    assert list(document["evals"]) == evals
    for name in evals:
        assert document["evals"][name]["status"] == "done"
        assert set(document["files"][name]) == {"sae", "alpha-1"}
        for file in document["files"][name].values():
            result = json.loads((folder / file).read_text())
            assert result["sae_bench_commit_hash"] == "Unknown"  # not the user's repository
            text = (folder / file).read_text()
            assert str(folder) not in text
            assert "bundled/python-neox" in text
    assert {score["run"] for score in document["scores"]} == {"sae", "alpha-1"}
    assert all(score["definition"] for score in document["scores"])
    for run in ("sae", "alpha-1"):
        own = json.loads((comparison / "runs" / run / "scores" / "saebench.json").read_text())
        expected = [score for score in document["scores"] if score["run"] == run]
        assert [{"run": own["run"], **score} for score in own["scores"]] == expected
        assert list(own["evals"]) == evals
    assert all(set(score) == CATEGORIES for score in document["scores"])
    assert any(score["headline"] for score in document["scores"])
    assert all(s["value"] is not None or s["note"] for s in document["scores"])
    # Both SAEs sit at one hook, whose baseline was measured under another seed.
    with_value = [s for s in document["scores"] if s["value"] is not None]
    assert not with_value or any(score["noise"] is not None for score in with_value)
    assert {"ravel", "unlearning", "mdl"} == set(document["refused"])


def test_what_is_done_is_kept(comparison: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = comparison / "saebench"
    measured: list[str] = []
    original = bench_module.measure

    def measure(measurement: Any) -> Any:
        measured.append(f"{measurement.sae.name} {measurement.seed}")
        return original(measurement)

    monkeypatch.setattr(bench_module, "measure", measure)
    request = Request(["meta_structure"])
    first = bench([comparison], output, request)
    assert measured == ["sae 0", "sae 1", "alpha-1 0"]
    assert estimate([comparison], output, request)["evals"][0]["done"] == 3
    assert bench([comparison], output, request) == first
    assert len(measured) == 3
    (output / "results/meta_structure/sae_custom_sae_eval_results.json").unlink()
    assert bench([comparison], output, request)["scores"] == first["scores"]
    assert measured[3:] == ["sae 0"]
    # Own data have pairs of classes in their config.
    probes = Request(["tpp"], noise_seed=None)
    scores = bench([comparison], output, probes)["scores"]
    assert len(measured) == 6
    assert bench([comparison], output, probes)["scores"] == scores
    assert len(measured) == 6
    # Another eval is added to what is there; another seed replaces it.
    both = bench([comparison], output, Request(["core"], noise_seed=None))
    assert list(both["evals"]) == ["core", "meta_structure", "tpp"]
    del measured[:]
    bench([comparison], output, Request(["meta_structure"], force=True, noise_seed=None))
    assert measured == ["sae 0", "alpha-1 0"]


def test_a_retrained_sae_is_measured_again(tmp_path: Path) -> None:
    request = Request(["meta_structure"], noise_seed=None)
    make_run(tmp_path / "a" / "run", seed=0)
    make_run(tmp_path / "b" / "run", seed=1)
    first = bench([tmp_path / "a" / "run"], tmp_path / "bench", request)
    second = bench([tmp_path / "b" / "run"], tmp_path / "bench", request)
    assert first["scores"][0]["value"] != second["scores"][0]["value"]


def test_no_score_is_of_an_sae_that_was_trained_again_since(tmp_path: Path) -> None:
    output, run = tmp_path / "bench", make_run(tmp_path / "run", seed=0)
    bench([run], output, Request(["core"], noise_seed=None))
    shutil.rmtree(run)
    make_run(run, seed=1)
    document = bench([run], output, Request(["meta_structure"], noise_seed=None))
    assert list(document["evals"]) == ["meta_structure"]
    own = json.loads((run / "scores" / "saebench.json").read_text())
    assert {score["eval"] for score in own["scores"]} == {"saebench/meta_structure"}


def test_folders_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    document = bench([Path("run")], Path("bench"), Request(["meta_structure"], noise_seed=None))
    assert document["evals"]["meta_structure"]["status"] == "done"
    assert (tmp_path / "bench" / "scores.json").is_file()


def test_an_eval_that_writes_nothing_is_a_failure_and_others_go_on(
    comparison: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(**kwargs: object) -> None:
        assert kwargs
        raise ValueError("the cause")

    # core catches what is raised inside, logs it, and returns.
    monkeypatch.setattr(library.module("evals.core.main"), "run_evals", fails)
    output = comparison / "saebench"
    with pytest.raises(RunFailedError, match=r"core, sae: .*the cause.*seed-0\.txt"):
        bench([comparison], output, Request(["core", "meta_structure"], noise_seed=None))
    document = json.loads((output / "scores.json").read_text())
    assert document["evals"]["core"]["status"] == "failed"
    assert "the cause" in document["evals"]["core"]["error"]
    assert document["evals"]["meta_structure"]["status"] == "done"


def test_the_corrected_figures_are_of_cores_own_tokens(comparison: Path) -> None:
    document = bench([comparison], comparison / "saebench", Request(["core"], noise_seed=None))
    values = {(s["eval"], s["metric"]): s["value"] for s in document["scores"] if s["run"] == "sae"}
    # core divides by the tokens of a batch without BOS: 4 contexts of 64 tokens, and BOS between
    # files, of which a batch has a few.
    ratio = values["corrected/core", "mse_per_token"] / values["saebench/core", "mse"]
    assert 4 * 64 * 0.95 < ratio < 4 * 64
    # Random weights reconstruct worse than the mean does; SAEBench's formula is another one.
    assert values["corrected/core", "explained_variance"] != pytest.approx(
        values["saebench/core", "explained_variance"]
    )
    assert values["corrected/core", "explained_variance"] < 1


def test_the_first_sae_is_measured_as_later_ones_are(tmp_path: Path) -> None:
    # In one call of SAEBench it would not be: it also draws for the language model's probes.
    request = Request(["sparse_probing"], noise_seed=None)
    for name in ("a", "b"):
        make_run(tmp_path / name)
    document = bench([tmp_path / "a", tmp_path / "b"], tmp_path / "bench", request)
    by_run = [[s["value"] for s in document["scores"] if s["run"] == name] for name in ("a", "b")]
    assert by_run[0] == by_run[1]


def test_autointerp_resumes_and_the_key_is_nowhere(
    comparison: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-very-secret"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    output = comparison / "saebench"
    with JudgeServer() as server:
        request = Request(["autointerp"], noise_seed=None, judge_url=server.url, judge_model="stub")
        cost = estimate([comparison], output, request)
        assert cost["judge_calls"] == 2 * 2 * 50
        first = bench([comparison], output, request)
        asked = len(server.requests)
        assert 0 < asked <= 2 * 2 * 4
        for record in output.glob("records/autointerp/*"):
            record.unlink()
        assert bench([comparison], output, request)["scores"] == first["scores"]
        assert len(server.requests) == asked  # every answer was kept
        assert set(server.keys) == {f"Bearer {key}"}
    score = next(s for s in first["scores"] if s["metric"] == "autointerp_score")
    assert score["chance"] == autointerp.CHANCE == 10 / 14
    assert 0 <= score["value"] <= 1
    files = [file for file in comparison.rglob("*") if file.is_file()]
    assert all(key.encode() not in file.read_bytes() for file in files)


def test_core_reads_other_text_under_another_seed(comparison: Path) -> None:
    document = bench([comparison], comparison / "saebench", Request(["core"]))
    loss = next(s for s in document["scores"] if s["metric"] == "ce_loss_score")
    assert loss["noise"] > 0  # SAEBench itself shuffles one file's rows under no seed


def test_metrics_are_those_of_the_contract() -> None:
    config = {"k_values": [1], "ks": [1], "n_values": [2], "eval_batch_size_prompts": 1}
    metrics = [
        (metric.eval or evaluation.name, metric)
        for evaluation in evals_named(EVALS)
        for metric in evaluation.metrics({**config, "context_size": 1})
    ]
    assert len({(name, metric.metric) for name, metric in metrics}) == len(metrics)
    assert all(metric.direction in ("up", "down", "none") for _, metric in metrics)
