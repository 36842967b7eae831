"""`wsae bench` on folders from a stranger, in SAEBench's environment: nothing is carried out."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

from tests.cli.test_faults import wsae
from tests.hostile import Carried, World, plain_model, plant_tokenizer, planted_data, remote_model
from tests.saebench.conftest import make_run
from wsae_plugin.errors import BadInputError
from wsae_plugin.measures.held_out import held_out_source
from wsae_plugin.remote_code import guarded, trusting
from wsae_plugin.saebench import bench as bench_module

FEW = {"train_set_size": 16, "test_set_size": 16, "context_length": 16, "n_values": [10]}
SMALL: dict[str, dict[str, Any]] = {
    "tpp": FEW,
    "scr": FEW,
    "sparse_probing": {
        "probe_train_set_size": 40,
        "probe_test_set_size": 24,
        "context_length": 32,
    },
    "absorption": {"k_sparse_probe_num_epochs": 2, "max_k_value": 2},
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    original = bench_module.evals_named

    def evals_named(*args: Any) -> Any:
        def config_of(evaluation: Any) -> Callable[..., dict[str, Any]]:
            return lambda situation: evaluation.config(situation) | SMALL.get(evaluation.name, {})

        return [replace(e, config=config_of(e)) for e in original(*args)]

    monkeypatch.setattr(bench_module, "evals_named", evals_named)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    for name in ("made", "cwd"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setattr("builtins.input", lambda _: "y")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_MODULES_CACHE", tmp_path / "modules")
    make_run(tmp_path / "run")
    return World(tmp_path)


def bench(world: World, *arguments: object) -> Any:
    return wsae("bench", world / "run", "--no-noise", *arguments)


def as_torch(file: Path, planted: Carried) -> None:
    torch.save({"planted": planted, "train": planted, "llm_probes": planted}, file)


def as_pickle(file: Path, planted: Carried) -> None:
    file.write_bytes(pickle.dumps(planted))


@pytest.mark.parametrize("write", [as_torch, as_pickle])
@pytest.mark.parametrize(
    "name",
    [
        "tpp",
        "scr",
        "sparse_probing",
        pytest.param("sae_probes", marks=pytest.mark.slow),
        pytest.param("absorption", marks=pytest.mark.slow),
    ],
)
def test_caches_that_came_with_the_folder(
    world: World, name: str, write: Callable[[Path, Carried], None]
) -> None:
    arguments = ("--evals", name, "--tasks", "117_us_state_FL", "--force")
    assert bench(world, *arguments).code == 0
    cache = world / "run" / "saebench" / "cache"
    caches = [file for file in cache.rglob("*") if file.suffix in (".pt", ".pkl", ".pth")]
    assert caches
    for file in caches:
        write(file, Carried(world.made / file.suffix))
    ended = bench(world, *arguments)
    ended.refused(1, f"{name}, run: UnpicklingError")
    assert not list(world.made.iterdir())


def test_no_credential_is_in_the_logs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What SAEBench and its libraries print goes into files."""
    key = "the-key-of-this-machine"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    original = bench_module.evals_named

    def talking(*_: Any) -> Any:
        sys.stdout.write(f"the key is {key}\n")
        raise RuntimeError(f"refused: {key}")

    def evals_named(*args: Any) -> Any:
        return [replace(e, run=talking) for e in original(*args)]

    monkeypatch.setattr(bench_module, "evals_named", evals_named)
    ended = bench(world, "--evals", "meta_structure")
    ended.refused(1, "RuntimeError: refused: ***")
    files = [file for file in (world / "run").rglob("*") if file.is_file()]
    assert any(b"the key is ***" in file.read_bytes() for file in files)
    assert not [file for file in files if key.encode() in file.read_bytes()]


def test_links_in_the_cache_are_not_followed(world: World) -> None:
    """SAEBench's models and data lie there by links, which a stranger may set, too."""
    elsewhere = world / "elsewhere"
    (elsewhere / "python_stdlib_in_bias_in_bios_form").mkdir(parents=True)
    (elsewhere / "mine").write_text("mine")
    cache = world / "run" / "saebench" / "cache"
    cache.mkdir(parents=True)
    for name in ("wsae", "bundled", "artifacts", "scratch", "logs"):
        (cache / name).symlink_to(elsewhere)
    before = sorted(elsewhere.rglob("*"))
    assert bench(world, "--evals", "meta_structure").code == 0
    assert sorted(elsewhere.rglob("*")) == before
    shutil.rmtree(cache)
    cache.symlink_to(elsewhere)
    bench(world, "--evals", "meta_structure").refused(2, f"{cache}: is a link that leads out of")
    assert sorted(elsewhere.rglob("*")) == before


def test_scripts_of_data_sets(world: World) -> None:
    folder = planted_data(world)
    rows = '{"text": "one", "label": "a", "attribute": "x"}\n'
    (folder / "train.jsonl").write_text(rows)
    published = world / "data" / "LabHC" / "bias_in_bios"
    published.mkdir(parents=True)
    shutil.copyfile(folder / "planted-data.py", published / "bias_in_bios.py")
    shutil.copyfile(folder / "train.jsonl", published / "train.jsonl")
    bench(world, "--evals", "core", "--dataset", folder).refused(2, "trust_remote_code")
    bench(world, "--evals", "tpp", "--datasets", world / "data").refused(2, "trust_remote_code")
    with guarded(), pytest.raises(BadInputError, match="trust_remote_code"):
        held_out_source("bundled", str(folder))
    assert not list(world.made.iterdir())
    with trusting(True), guarded(), pytest.raises(TypeError):
        datasets.load_dataset(str(folder), trust_remote_code=True)
    assert [file.name for file in world.made.iterdir()] == ["script"]


def test_a_name_that_is_a_reader_of_pickles(world: World) -> None:
    """This version of `datasets` would read every pickle in the working directory."""
    (world / "cwd" / "train.pkl").write_bytes(pickle.dumps(Carried(world.made / "pandas")))
    with pytest.raises(BadInputError, match="is a reader of files"):
        held_out_source("pandas", None)
    assert not list(world.made.iterdir())


def name_model(world: World, model: str) -> None:
    file = world / "run" / "sae" / "cfg.json"
    cfg = json.loads(file.read_text())
    cfg["metadata"]["model_name"] = model
    file.write_text(json.dumps(cfg))


def test_models_that_bring_code(world: World) -> None:
    for model in (
        remote_model(world),
        plant_tokenizer(world, plain_model(world / "remote-tokenizer")),
    ):
        name_model(world, str(model))
        ended = bench(world, "--evals", "meta_structure")
        assert ended.code == (2 if model.name == "remote-model" else 0), ended
    pickled = plain_model(world / "pickled-model")
    (pickled / "model.safetensors").unlink()
    torch.save({"planted": Carried(world.made / "weights")}, pickled / "pytorch_model.bin")
    name_model(world, str(pickled))
    bench(world, "--evals", "meta_structure").refused(2, "model.safetensors")
    for model in ("../../etc", "no such/model/at all", "\0"):
        name_model(world, model)
        assert bench(world, "--evals", "meta_structure").code == 2
    assert not list(world.made.iterdir())
