"""`wsae optimality`, as a user calls it."""

from __future__ import annotations

import inspect
import json
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.optimality.planted import ACTIVE, plant, write_table
from tests.training.tiny import TinyWorld, make_world, write_config, write_texts
from wsae_plugin.cli import main
from wsae_plugin.cli.optimality import optimality
from wsae_plugin.optimality.lines import LINES
from wsae_plugin.optimality.run import OptimalitySettings
from wsae_plugin.training.config import load_run_config
from wsae_plugin.training.train import train

Wsae = Callable[..., tuple[int, str, str]]
FEW = ("--tokens", 320, "--batches", 8, "--penalty", 0.1)


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("COLUMNS", "100")
    root, threads = logging.getLogger(), torch.get_num_threads()
    handlers, level = root.handlers[:], root.level
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def wsae(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Wsae:
    """Run a command line; returns the exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["wsae", "optimality", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        output = capsys.readouterr()
        code = ended.value.code
        return code if isinstance(code, int) else 0, output.out, output.err

    return run


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("planted") / "table.npy")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    torch.set_num_threads(1)
    world = make_world(tmp_path_factory.mktemp("tiny"))
    write_texts(world.path / "unseen.jsonl", n_rows=60)
    config = write_config(world.path / "mine.yaml", world.language_model(device="cpu"))
    train(load_run_config(config), world.path / "mine")
    return world


def test_a_trained_run_in_a_table_and_as_json(wsae: Wsae, world: TinyWorld) -> None:
    mine = world.path / "mine"
    request = (mine, "--dataset", world.path / "unseen.jsonl", "--tokens", 320, "--batches", 8)
    code, stdout, _ = wsae(*request)
    assert code == 0
    for shown in (*LINES, "control", "what to do", "±", "duality gap", "scores/optimality.json"):
        assert shown in stdout
    code, stdout, _ = wsae(*request, "--json")
    document = json.loads(stdout)
    assert code == 0
    assert document == json.loads((mine / "scores" / "optimality.json").read_text())
    assert document["duality_gap"] <= 1e-6
    assert [line["name"] for line in document["lines"]] == [*LINES]


def test_an_edit_of_a_trained_run(wsae: Wsae, world: TinyWorld) -> None:
    after = world.path / "after"
    request = (world.path / "mine", "--dataset", world.path / "unseen.jsonl")
    few = ("--tokens", 2000, "--batches", 8)
    code, stdout, stderr = wsae(*request, *few, "--refit", "--output", after, "--json")
    assert (code, stderr.count("wsae:")) == (0, 0)
    edit = json.loads(stdout)["edit"]
    assert edit["metrics"]["explained_variance"]["low"] > 0
    assert "ce_loss_recovered" in edit["metrics"]
    code, stdout, _ = wsae(after, *request[1:], *few, "--json")
    assert code == 0
    assert json.loads(stdout)["run"] == "after"


def test_several_saes_are_a_list(wsae: Wsae, table: Path, tmp_path: Path) -> None:
    saes = [plant(tmp_path / name, table) for name in ("one", "two")]
    _, stdout, _ = wsae(*saes, *FEW, "--json")
    assert [document["run"] for document in json.loads(stdout)] == ["one", "two"]
    _, stdout, _ = wsae(tmp_path, *FEW)
    assert stdout.count("what to do") == 2
    assert stdout.count("control: the same of random atoms") == 1


def test_saes_of_which_one_has_no_values_are_shown(wsae: Wsae, table: Path, tmp_path: Path) -> None:
    mostly_zero = np.load(table)
    mostly_zero[50:] = 0
    np.save(tmp_path / "zero.npy", mostly_zero)
    saes = [plant(tmp_path / name, table) for name in "abc"]
    saes.append(plant(tmp_path / "zero", tmp_path / "zero.npy"))
    code, stdout, stderr = wsae(*saes, *FEW)
    assert (code, stderr.count("Traceback")) == (0, 0)
    assert "zero" in stdout


def test_an_output_above_what_is_there_is_refused(
    wsae: Wsae, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sae = plant(tmp_path / "sae", table, off=0.2)
    monkeypatch.chdir(tmp_path)
    code, _, stderr = wsae(sae, *FEW, "--refit", "--output", "new/..")
    assert (code, "is there already" in stderr) == (2, True)
    assert sae.is_dir()


def test_an_edit_is_shown_and_written(wsae: Wsae, table: Path, tmp_path: Path) -> None:
    sae = plant(tmp_path / "loud", table, bias=0.3, k=ACTIVE + 2)
    code, stdout, _ = wsae(sae, *FEW, "--prune", "-o", tmp_path / "after")
    assert code == 0
    for shown in ("before", "after", "difference", "explained variance", "L0"):
        assert shown in stdout
    assert stdout.splitlines()[-1] == str(tmp_path / "after")
    assert (tmp_path / "after" / "edit.json").is_file()


def test_an_edit_that_does_not_gain_fails_in_one_line(
    wsae: Wsae, table: Path, tmp_path: Path
) -> None:
    sae = plant(tmp_path / "right", table)
    code, stdout, stderr = wsae(sae, *FEW, "--refit", "-o", tmp_path / "after", "--json")
    assert (code, stdout) == (1, "")
    assert "wsae: --refit: does not gain, so nothing was written" in stderr
    assert not (tmp_path / "after").exists()


def test_bad_input_is_one_line_and_exit_code_two(wsae: Wsae, table: Path, tmp_path: Path) -> None:
    sae, new = plant(tmp_path / "sae", table), tmp_path / "new"
    silent = plant(tmp_path / "silent", table, bias=-100.0)
    refused: list[tuple[tuple[object, ...], str]] = [
        ((sae, "--batches", 7), "batches = 7: must be 8 or more"),
        ((sae, "--tokens", 31), "samples = 31: must be 32 or more"),
        ((sae, "--penalty", 0), "penalty = 0.0: must be a positive, finite number"),
        ((sae, "--prune"), "--prune, --refit, --output: "),
        ((sae, "--output", new), "--prune, --refit, --output: "),
        ((sae, "--prune", "--refit", "--output", new), "--prune, --refit, --output: "),
        ((sae, silent, "--prune", "--output", new), "2 SAEs are given"),
        ((sae, "--refit", "--output", tmp_path), "is there already"),
        ((silent, *FEW), "no latent of the SAE is active on any sample"),
        ((tmp_path / "none",), "no such folder"),
        ((sae, "--set", "hook_nam=x"), "hook_nam: unknown field"),
    ]
    for arguments, message in refused:
        code, stdout, stderr = wsae(*arguments)
        (line,) = (line for line in stderr.splitlines() if line.startswith("wsae:"))
        assert (code, stdout) == (2, "")
        assert message in line
    assert not new.exists()
    assert not (sae / "scores").exists()


def test_the_defaults_are_the_librarys() -> None:
    parameters = inspect.signature(optimality).parameters
    defaults = {name: parameters[name].default for name in asdict(OptimalitySettings())}
    assert defaults == asdict(OptimalitySettings())


def test_help_teaches(wsae: Wsae) -> None:
    code, stdout, _ = wsae("--help")
    assert code == 0
    for taught in ("--prune", "--refit", "--penalty", "random atoms", "duality", "Exit codes"):
        assert taught in stdout
