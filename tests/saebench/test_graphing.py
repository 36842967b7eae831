"""SAEBench's own plotting functions on our results."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import pytest

from wsae_plugin.errors import BadInputError
from wsae_plugin.saebench import library
from wsae_plugin.saebench.graphing import graphing_copies


def write_bench(folder: Path) -> None:
    """Results of a run whose name reads as SCR, in the form that SAEBench writes."""
    metrics = {
        "core": {
            "sparsity": {"l0": 16.0},
            "model_performance_preservation": {"ce_loss_score": 0.9},
        },
        "sae_probes": {"sae": {"sae_top_1_test_accuracy": 0.7}},
        "tpp": {"tpp_metrics": {"tpp_threshold_10_total_metric": 0.1}},
    }
    for name, metric in metrics.items():
        # Results of sae-probes have no architecture.
        cfg = {"d_sae": 4096} | ({} if name == "sae_probes" else {"architecture": "topk"})
        result = {"eval_config": {}, "eval_result_metrics": metric, "sae_cfg_dict": cfg}
        file = folder / "results" / name / "scratch-core_custom_sae_eval_results.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(result))
        record = folder / "records" / name / "scratch-core.seed-0.json"
        record.parent.mkdir(parents=True)
        record.write_text(json.dumps({"arm": "alpha-1"}))
    (folder / "scores.json").write_text("{}")


def test_saebench_reads_the_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib.use("Agg")
    folder = tmp_path / "bench"
    write_bench(folder)
    graphing = library.module("sae_bench_utils.graphing_utils")
    monkeypatch.chdir(graphing_copies(folder))
    core_files = graphing.find_eval_results_files(["core"])
    (name,) = graphing.get_core_results(core_files)
    for evaluation, metric in (
        ("core", "ce_loss_score"),
        ("sparse_probing_sae_probes", "sae_top_1_test_accuracy"),
        ("tpp", "tpp_threshold_10_total_metric"),
    ):
        results = graphing.get_eval_results(graphing.find_eval_results_files([evaluation]))
        assert list(results) == [name]
        assert metric in results[name]
        assert results[name]["sae_class"] == "alpha-1"  # not "topk", which every arm is
    original = folder / "results/core/scratch-core_custom_sae_eval_results.json"
    assert json.loads(original.read_text())["sae_cfg_dict"]["architecture"] == "topk"


def test_without_results_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="`wsae bench` makes it"):
        graphing_copies(tmp_path)
