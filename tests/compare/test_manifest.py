"""The reader of comparison folders."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wsae_plugin
from wsae_plugin.compare.manifest import Comparison, layer_of
from wsae_plugin.compare.runs import runs_of
from wsae_plugin.errors import BadInputError


def manifest() -> dict[str, Any]:
    runs = [
        {
            "run": f"layer-1-{arm}-seed-{seed}",
            "path": f"runs/layer-1-{arm}-seed-{seed}",
            "arm": arm,
            "role": role,
            "hook_name": "blocks.1.hook_resid_post",
            "layer": 1,
            "sparsity": {"k": 16},
            "seed": seed,
            "pair": f"layer-1-seed-{seed}",
        }
        for seed in (0, 1)
        for arm, role in (("sae", "baseline"), ("alpha-1", "weighted"))
    ]
    return {
        "comparison": 1,
        "status": "finished",
        "model_name": "bundled/python-neox",
        "model_class_name": "HookedTransformer",
        "dataset_path": "bundled",
        "context_size": 128,
        "seeds": [0, 1],
        "baseline": "sae",
        "arms": [
            {"name": "sae", "label": "SAE", "role": "baseline", "alpha": 0, "proxy": None},
            {"name": "alpha-1", "label": "α = 1", "role": "weighted", "alpha": 1.0, "proxy": "x"},
        ],
        "runs": runs,
        "wall_clock_seconds": {"total": 1.5},
    }


def write(folder: Path, document: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(document))
    return folder


def plain_run(folder: Path, config: str = "hook_name: blocks.3.hook_resid_post\nseed: 7\n") -> Path:
    (folder / "sae").mkdir(parents=True)
    (folder / "config.yaml").write_text(config)
    (folder / "sae" / "cfg.json").write_text("{}")
    return folder


def test_a_manifest_comes_back_whole(tmp_path: Path) -> None:
    folder = write(tmp_path / "comparison", manifest())
    comparison = Comparison.load(folder)
    assert comparison == Comparison.load(folder / "manifest.json")
    assert (comparison.baseline, comparison.seeds, comparison.status) == ("sae", (0, 1), "finished")
    assert [arm.alpha for arm in comparison.arms] == [0.0, 1.0]
    assert comparison.manifest["wall_clock_seconds"] == {"total": 1.5}
    run = comparison.runs[1]
    assert (run.run, run.role, run.layer) == ("layer-1-alpha-1-seed-0", "weighted", 1)
    assert run.path == folder / "runs" / "layer-1-alpha-1-seed-0"
    assert run.sae == run.path / "sae"
    assert run.sparsity == {"k": 16}


def test_a_run_folder_alone_is_its_own_pair(tmp_path: Path) -> None:
    (run,) = runs_of([plain_run(tmp_path / "mine")])
    assert (run.run, run.arm, run.pair, run.role) == ("mine", "mine", "mine", "baseline")
    assert (run.hook_name, run.layer, run.seed) == ("blocks.3.hook_resid_post", 3, 7)


def test_folders_of_both_kinds_in_the_order_given(tmp_path: Path) -> None:
    document = manifest()
    folder = write(tmp_path / "comparison", document)
    for run in document["runs"]:
        plain_run(folder / run["path"])
    names = [run.run for run in runs_of([plain_run(tmp_path / "mine"), folder])]
    assert names == ["mine", *(run["run"] for run in document["runs"])]


def test_what_holds_no_run_is_refused(tmp_path: Path) -> None:
    refused: list[tuple[list[Path], str]] = [
        ([tmp_path / "none"], "no such folder"),
        ([tmp_path], "neither a comparison folder"),
        ([write(tmp_path / "empty", manifest())], "holds no trained SAE"),
        ([plain_run(tmp_path / "a" / "x"), plain_run(tmp_path / "b" / "x")], "x: 2 runs"),
        ([plain_run(tmp_path / "toy", "synthetic_model: x\n")], "on a synthetic model"),
        ([plain_run(tmp_path / "seed", "seed: x\n")], "seed: seed = 'x': must be a whole number"),
        ([plain_run(tmp_path / "no-yaml", "[")], "not YAML"),
        ([plain_run(tmp_path / "text", "hello")], "a config is a mapping"),
    ]
    for paths, message in refused:
        with pytest.raises(BadInputError, match=message):
            runs_of(paths, needs_language_model=True)


def first_run(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["runs"][0].update(changes)


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no version": (lambda d: d.pop("comparison"), "comparison: missing"),
    "another version": (lambda d: d.update(comparison=2), "comparison = 2: this version reads 1"),
    "no runs": (lambda d: d.pop("runs"), "runs: missing"),
    "runs of another kind": (lambda d: d.update(runs={}), "runs = {}: must be a list"),
    "a run that is none": (lambda d: d.update(runs=[3]), r"runs\[0\] = 3: must be a section"),
    "an unknown status": (
        lambda d: d.update(status="done"),
        "status = 'done': must be one of",
    ),
    "a seed that is none": (
        lambda d: d.update(seeds=["0"]),
        "seeds = .* a list of: a whole",
    ),
    "true for a number": (lambda d: d.update(context_size=True), "context_size = True"),
    "two baselines": (lambda d: d["arms"][1].update(role="baseline"), "baseline = 'sae'"),
    "an arm twice": (lambda d: d["arms"].append(d["arms"][1]), "'alpha-1' is there twice"),
    "an unknown role": (lambda d: d["arms"][0].update(role="best"), "role = 'best'"),
    "a run twice": (lambda d: d["runs"].append(d["runs"][0]), "is there twice"),
    "an unknown arm": (first_run(arm="wsae"), r"runs\[0\]\.arm = 'wsae': must be 'sae' or"),
    "a role that is not the arm's": (first_run(role="control"), "role = 'control'"),
    "a name that is a path": (first_run(run="../x"), "run = '../x': names files"),
    "text for a sparsity": (first_run(sparsity={"k": "16"}), r"runs\[0\]\.sparsity\.k = '16'"),
    "a path out": (first_run(path="../elsewhere"), "stays inside"),
    "a path out and back": (first_run(path="runs/../../x"), "stays inside"),
    "an absolute path": (first_run(path="/etc"), "stays inside"),
    "a drive": (first_run(path="C:\\x"), "stays inside"),
    "backslashes": (first_run(path="..\\x"), "stays inside"),
    "an empty path": (first_run(path=""), "stays inside"),
    "a pair without baseline": (first_run(pair="alone", arm="alpha-1", role="weighted"), "has 0"),
    "a pair of two seeds": (first_run(seed=5), "more than one hook_name or seed"),
}


@pytest.mark.parametrize(("break_it", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_manifest_is_refused_by_field(
    tmp_path: Path, break_it: Callable[[dict[str, Any]], object], message: str
) -> None:
    document = manifest()
    break_it(document)
    folder = write(tmp_path, document)
    with pytest.raises(BadInputError, match=message) as error:
        Comparison.load(folder)
    assert str(error.value).startswith(str(folder / "manifest.json"))


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "comparison", manifest())
    (tmp_path / "elsewhere").mkdir()
    (folder / "runs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInputError, match="runs: is a link that leads out"):
        Comparison.load(folder)


@pytest.mark.parametrize("text", ["", "{", '{"comparison": NaN}', "\xff", "[" * 100_000])
def test_what_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(BadInputError, match="cannot be read as JSON"):
        Comparison.load(tmp_path)


def test_readers_of_comparisons_import_no_training_code() -> None:
    package = Path(wsae_plugin.__file__).parent
    seen, left = set[str](), ["compare.gathered"]
    while left:
        module = left.pop()
        seen.add(module)
        file = package / f"{module.replace('.', '/')}.py"
        imports = re.findall(r"^from wsae_plugin\.(\S+) import", file.read_text(), re.MULTILINE)
        left += set(imports) - seen
    assert {"compare.arms", "validation", "yaml_file"} < seen
    assert not {module for module in seen if module.startswith(("training", "saes", "gamma"))}


def test_the_layer_is_the_number_between_dots() -> None:
    names = ("blocks.3.hook_resid_post", "gpt_neox.layers.12", "hook_embed", "h2.attn")
    assert [layer_of(name) for name in names] == [3, 12, None, None]
