"""`wsae identify`: do SAEs trained apart have the same latents?"""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from tests.measures.draws import draw, save
from tests.training.tiny import TinyWorld, make_world, write_config
from wsae_plugin.cli.identify import identify
from wsae_plugin.cli.main import app as wsae
from wsae_plugin.errors import BadInputError
from wsae_plugin.measures.identify import LARGEST_ASSIGNMENT
from wsae_plugin.plots.identify import agreement_figure

app = typer.Typer(context_settings={"terminal_width": 100, "max_content_width": 100})
app.command()(identify)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two run folders of `wsae train`, of different seeds."""
    torch.set_num_threads(1)
    world: TinyWorld = make_world(tmp_path_factory.mktemp("tiny"))
    config = write_config(world.path / "mine.yaml", world.synthetic())
    folders = [world.path / f"seed-{seed}" for seed in (0, 1)]
    for seed, folder in enumerate(folders):
        arguments = ["-q", "train", config, "--set", f"seed={seed}", "--output", folder]
        result = CliRunner().invoke(wsae, [*map(str, arguments)], catch_exceptions=False)
        assert result.exit_code == 0
    return folders


def test_json_is_all_that_is_on_stdout_and_in_the_file(seeds: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "new" / "agreement.json"
    result = json.loads(run(*seeds, "--json", "--output", output, "--threshold", 0.5))
    assert json.loads(output.read_text()) == result
    assert result["threshold"] == 0.5
    assert [entry["seed"] for entry in result["runs"]] == [0, 1]
    (pair,) = result["saes"][0]["pairs"]
    assert 0 < pair["agreement"]["assignment"]["mean_cosine"] < 1


def test_the_table_has_chance_beside_every_pair(seeds: list[Path]) -> None:
    stdout = run(*seeds)
    for shown in ("0, 1", "same: > 0.9", "random", "rotated", "|cos|", "MMCS"):
        assert shown in stdout
    assert f"run 1: {seeds[1]} (seed 1)" in stdout
    assert "WARNING" not in stdout
    assert "mean" not in stdout


def test_a_run_and_itself_agree_and_are_no_evidence(seeds: list[Path]) -> None:
    stdout = run(seeds[0], seeds[0], seeds[1])
    assert "1.000" in stdout
    assert "mean" in stdout
    assert "WARNING runs of the same seed" in stdout


@pytest.mark.parametrize("largest_assignment", [4096, 8])
def test_the_figure_names_its_axes(tmp_path: Path, largest_assignment: int) -> None:
    paths = [save(tmp_path / f"{seed}", draw(12 + seed, 6, seed)) for seed in (0, 1, 2)]
    plot = tmp_path / "new" / "agreement.png"
    options = ("--assign-up-to", largest_assignment, "--plot", plot, "--json")
    result = json.loads(run(*paths, *options))
    with Image.open(plot) as image:
        assert image.size[0] > 900
    matrix, curves, _ = agreement_figure(result).axes
    assert matrix.get_xlabel() and matrix.get_ylabel()
    assert curves.get_xlabel() and curves.get_ylabel()
    assert len(matrix.texts) == 9
    legend = [text.get_text() for text in curves.get_legend().get_texts()]
    assert legend[0] == "runs 0 and 1"
    assert legend[3:] == ["chance: random directions", "chance: rotated copy"]


def test_without_an_assignment_the_table_says_so(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{seed}", draw(12, 6, seed)) for seed in (0, 1)]
    stdout = run(*paths, "--assign-up-to", 8)
    assert "more than 8 latents, so no one-to-one assignment" in stdout


def test_wrong_requests_write_nothing(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{d_in}", draw(12, d_in, 0)) for d_in in (6, 7)]
    before = sorted(tmp_path.rglob("*"))
    output = ("--output", tmp_path / "a.json", "--plot", tmp_path / "a.png")
    with pytest.raises(BadInputError, match="d_in is 6"):
        run(*paths, *output)
    with pytest.raises(BadInputError, match="1 run is given"):
        run(paths[0], *output)
    with pytest.raises(BadInputError, match="--plot .*: is a folder"):
        run(*paths, "--plot", tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_default_width_is_the_librarys() -> None:
    default = inspect.signature(identify).parameters["largest_assignment"].default
    assert default == LARGEST_ASSIGNMENT


def test_help_teaches() -> None:
    stdout = run("--help")
    for taught in ("--set seed=1", "random", "rotated", "--assign-up-to", "Exit codes"):
        assert taught in stdout
