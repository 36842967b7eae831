"""`wsae eval`, as a user calls it."""

from __future__ import annotations

import inspect
import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from tests.training.tiny import TinyWorld, make_world, write_config, write_texts
from wsae_plugin.cli.eval import eval_
from wsae_plugin.errors import BadInputError
from wsae_plugin.measures.evaluate import EvalSettings
from wsae_plugin.training.config import load_run_config
from wsae_plugin.training.train import train

app = typer.Typer(context_settings={"terminal_width": 100, "max_content_width": 100})
app.command(name="eval")(eval_)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    torch.set_num_threads(1)
    world = make_world(tmp_path_factory.mktemp("tiny"))
    write_texts(world.path / "unseen.jsonl", n_rows=30)
    config = write_config(world.path / "mine.yaml", world.language_model(device="cpu"))
    train(load_run_config(config), world.path / "mine")
    return world


@pytest.fixture
def request_of(world: TinyWorld) -> tuple[object, ...]:
    return (
        world.path / "mine",
        *("--dataset", world.path / "unseen.jsonl"),
        *("--batches", 3),
        *("--batch-size-prompts", 2),
    )


def test_json_is_what_is_in_the_run_folder(world: TinyWorld, request_of: tuple[object]) -> None:
    (document,) = json.loads(run(*request_of, "--seed", 5, "--json", "--force"))
    assert json.loads((world.path / "mine" / "scores" / "held_out.json").read_text()) == document
    held_out = document["held_out"]
    assert (held_out["batches"], held_out["batch_size_prompts"], held_out["seed"]) == (3, 2, 5)


def test_the_table_begins_with_unweighted_explained_variance(request_of: tuple[object]) -> None:
    stdout = run(*request_of)
    headings = next(line for line in stdout.splitlines() if "EV" in line).split()
    assert headings[:4] == ["run", "EV", "EV,", "Γ"]
    assert "seeds" not in headings
    for shown in ("mine", "±", "chance", "control", "directions", "scores/held_out.json"):
        assert shown in stdout
    assert "[" not in stdout


def test_wrong_requests(world: TinyWorld, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="--dataset: missing; the run was trained on"):
        run(world.path / "mine")
    with pytest.raises(BadInputError, match="neither a comparison folder"):
        run(tmp_path)
    result = CliRunner().invoke(app, [str(world.path / "mine"), "--batches", "1"])
    assert result.exit_code == 2


def test_the_defaults_are_the_librarys() -> None:
    parameters = inspect.signature(eval_).parameters
    defaults = {name: parameters[name].default for name in asdict(EvalSettings())}
    assert defaults == asdict(EvalSettings())


def test_help_teaches() -> None:
    stdout = run("--help")
    for taught in (
        "--dataset",
        "bundled-held-out",
        "chance",
        "control",
        "held_out.json",
        "Exit codes",
    ):
        assert taught in stdout
