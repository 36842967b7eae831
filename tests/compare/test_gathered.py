"""What pairs with what where nobody planned a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wsae_plugin.compare.arms import Arm
from wsae_plugin.compare.gathered import DescribedSAE, gathered
from wsae_plugin.compare.manifest import ComparedRun


def sae(
    name: str, architecture: str = "topk", arm: Arm | None = None, **changed: Any
) -> DescribedSAE:
    metadata: dict[str, Any] = {
        "model_name": changed.pop("model_name", "m"),
        "hook_head_index": changed.pop("head", None),
        "training_architecture": architecture,
        "training_architecture_details": {"k": 8},
    }
    if architecture.startswith("weighted"):
        metadata["training_architecture_details"] |= {
            **{"alpha": 1.0, "gamma_proxy": "variance"},
            "gamma_normalization": "total_variance",
        }
    run = ComparedRun.alone(name, Path("runs", name), "blocks.1.hook_resid_post")
    config = {"seed": 0, "lr": 1e-3, "training_tokens": 9, "model_name": "m", **changed}
    return DescribedSAE(run, {"d_sae": 4, "metadata": metadata}, config, arm)


def pairs(*saes: DescribedSAE, baseline: DescribedSAE | None = None) -> dict[str, str]:
    return {run.run: run.pair for run in gathered(saes, baseline)[0] if run.role != "baseline"}


def test_the_same_place_and_first_the_same_architecture() -> None:
    weighted = sae("w", "weighted_topk")
    assert pairs(weighted, sae("b", "batchtopk"), sae("t")) == {"w": "t"}
    assert pairs(weighted, sae("other", model_name="n"), sae("head", head=2), sae("t")) == {
        "w": "t"
    }
    assert pairs(weighted, sae("other", model_name="n"), sae("head", head=2)) == {}
    _, manifest = gathered([weighted, sae("b", "batchtopk")])
    assert manifest["unmatched"] == {"w": {"sae.architecture": ["batchtopk", "topk"]}}


def test_synthetic_models_are_told_apart() -> None:
    def on(name: str, seed: int | None, width: int, run_seed: int = 0, **rest: Any) -> DescribedSAE:
        world = {"hidden_dim": width, "seed": seed}
        return sae(name, synthetic_model=world, model_name=None, seed=run_seed, **rest)

    weighted = on("w", 0, 16, architecture="weighted_topk")
    assert pairs(weighted, on("t", 0, 16, run_seed=1), baseline=on("b", 0, 16)) == {"w": "b"}
    for other in (on("t", 1, 16), on("t", 0, 32)):
        assert pairs(weighted, other) == {}
        assert pairs(weighted, baseline=other) == {}
    # One without a seed is another one in a training from another seed.
    drawn = on("w", None, 16, architecture="weighted_topk")
    assert pairs(drawn, baseline=on("t", None, 16)) == {"w": "t"}
    assert pairs(drawn, baseline=on("t", None, 16, run_seed=1)) == {}


def test_tables_are_told_apart_by_what_they_held() -> None:
    def on(name: str, rows: str, table: str = "x.npy", **rest: Any) -> DescribedSAE:
        found = sae(name, activations=table, model_name=None, **rest)
        found.cfg["metadata"]["table_fingerprint"] = rows
        return found

    weighted = on("w", "1f", architecture="weighted_topk")
    assert pairs(weighted, on("t", "1f")) == {"w": "t"}
    for other in (on("t", "2e"), on("t", "2e", table="y.npy"), sae("t", model_name=None)):
        assert pairs(weighted, other) == {}


def test_an_older_file_names_the_model_without_metadata() -> None:
    weighted, older = sae("w", "weighted_topk"), sae("t")
    older.cfg["metadata"].clear()
    older.cfg["architecture"] = "topk"  # pyright: ignore[reportIndexIssue]
    assert pairs(weighted, baseline=older) == {"w": "t"}
    older.config["model_name"] = "n"  # pyright: ignore[reportIndexIssue]
    assert pairs(weighted, baseline=older) == {}


def test_what_is_not_matched_and_what_is_not_known() -> None:
    weighted = sae("w", "weighted_topk", prepend_bos=True, output_path="x", sae={"k": 8})
    plain = sae("t", prepend_bos=False, output_path="y", lr=2e-3, sae={"k": 4})
    del plain.config["seed"]  # pyright: ignore[reportIndexIssue]
    _, manifest = gathered([weighted], plain)
    assert manifest["unmatched"] == {
        "w": {
            "seed": [None, 0],
            "lr": [2e-3, 1e-3],
            "prepend_bos": [False, True],
            "sae.k": [4, 8],
        }
    }


def test_controls_stay_controls_beside_another_run() -> None:
    arms = {
        "plain": Arm("plain", "SAE", "baseline", {}),
        "one": Arm("one", "WSAE, α = 1", "weighted", {}),
        "shuffled": Arm("shuffled", "shuffled Γ", "control", {}, control="shuffled", of="one"),
    }
    _, manifest = gathered(
        [
            sae("a", arm=arms["plain"]),
            sae("b", "weighted_topk", arm=arms["one"]),
            sae("c", "weighted_topk", arm=arms["shuffled"]),
            sae("d", "weighted_topk"),
        ]
    )
    by_name = {arm["name"]: arm for arm in manifest["arms"]}
    assert by_name["shuffled Γ"]["control"] == "shuffled"
    assert by_name["shuffled Γ"]["of"] == "WSAE, α = 1"


def test_a_metric_beside_an_sae_whose_b_dec_started_elsewhere() -> None:
    def under(name: str, metric: str) -> DescribedSAE:
        found = sae(name, "weighted_topk")
        details = {"k": 8, "alpha": 0.0, "metric": metric, "metric_ridge": 1.0}
        found.cfg["metadata"]["training_architecture_details"] = details
        return found

    runs, manifest = gathered([under("f", "fisher"), under("r", "rotated_fisher"), sae("t")])
    assert {run.run: run.role for run in runs} == {"f": "weighted", "r": "control", "t": "baseline"}
    assert manifest["unmatched"]["f"] == {"b_dec started at the mean": [False, True]}
    runs, alike = gathered([under("f", "fisher"), under("u", "uniform")])
    assert {run.run: (run.role, run.pair) for run in runs} == {
        "f": ("weighted", "u"),
        "u": ("baseline", "u"),
    }
    assert alike["unmatched"] == {}
    for metric in ("fisher", "rotated_fisher", "covariance", "file"):
        assert not under("s", metric).is_ordinary


def test_an_sae_that_was_trained_end_to_end_is_no_baseline() -> None:
    def trained(name: str, share: float, rate: float = 0.3) -> DescribedSAE:
        found = sae(name, "weighted_topk")
        details = {"k": 8, "alpha": 0.0, "finetune_kl": share, "finetune_kl_lr": rate}
        found.cfg["metadata"]["training_architecture_details"] = details
        return found

    runs, manifest = gathered([trained("tuned", 0.1), trained("plain", 0.0)])
    assert {run.run: run.role for run in runs} == {"tuned": "weighted", "plain": "baseline"}
    assert [arm["label"] for arm in manifest["arms"] if arm["role"] == "weighted"] == [
        "weighted_topk, Γ = I, last 10 % on KL, lr × 0.3"
    ]
    differing = {"trained end to end": ["on no tokens", "last 10 % on KL, lr × 0.3"]}
    assert manifest["unmatched"] == {"tuned": differing}
    ways = [trained("a", 0.1), trained("b", 0.1, 1.0), trained("c", 0.001), trained("plain", 0)]
    assert len({run.arm for run in gathered(ways)[0]}) == 4
