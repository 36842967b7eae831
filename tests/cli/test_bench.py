"""`wsae bench`, as far as it goes without SAEBench."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.saebench.conftest import make_comparison, make_run
from wsae_plugin.cli.bench import bench
from wsae_plugin.errors import BadInputError
from wsae_plugin.saebench import library

app = typer.Typer(context_settings={"terminal_width": 100, "max_content_width": 100})
app.command()(bench)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_comparison(tmp_path_factory.mktemp("bench") / "comparison")


@pytest.mark.skipif(importlib.util.find_spec("sae_bench") is not None, reason="it is there")
def test_without_saebench_the_way_to_it_is_said(comparison: Path) -> None:
    with pytest.raises(BadInputError, match="(?s)sae-bench is not installed.*constraints-saebench"):
        run(comparison, "--evals", "core")
    assert not (comparison / "saebench").exists()


def test_the_readme_says_the_same() -> None:
    package = Path(library.__file__).parent
    readme = (package.parent.parent / "README.md").read_text(encoding="utf-8")
    said = library.how_to_install(package.relative_to(package.parent.parent))
    assert " ".join(said.split()) in " ".join(readme.split())
    recipe = [line for line in said.splitlines() if line.startswith("    ")]
    assert set(recipe) <= set(readme.splitlines())


def test_the_files_that_the_message_names_are_in_the_package() -> None:
    said = library.how_to_install()
    names = set(re.findall(r"[^ ]*-saebench\.txt", said))
    assert {Path(name).name for name in names} == {
        "requirements-saebench.txt",
        "constraints-saebench.txt",
    }
    assert all(Path(name).is_file() for name in names)
    assert all(Path(name).parent == Path(library.__file__).parent for name in names)
    assert "'/a b/requirements-saebench.txt'" in library.how_to_install(Path("/a b"))


def test_a_dry_run_counts_and_writes_nothing(comparison: Path) -> None:
    arguments = (comparison, "--evals", "core,tpp,autointerp", "--judge-model", "m", "--dry-run")
    cost = json.loads(run(*arguments, "--json"))
    assert [(row["eval"], row["saes"], row["noise"], row["done"]) for row in cost["evals"]] == [
        ("core", 2, 1, 0),
        ("tpp", 2, 1, 0),
        ("autointerp", 2, 1, 0),
    ]
    assert cost["evals"][0]["seconds"] > 0
    assert cost["evals"][2]["seconds"] is None  # it depends on the judge
    assert cost["judge_calls"] == 2 * 50 * 3
    assert cost["judge_tokens"] > 100 * cost["judge_calls"]
    assert cost["output"] == str(comparison / "saebench")
    stdout = run(*arguments, "--no-noise")
    assert "nothing" in stdout and "200 calls" in stdout
    assert not (comparison / "saebench").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--evals", "ravel"), "RAVEL fails with transformers 5"),
        (("--evals", "unlearning"), "gated corpus"),
        (("--evals", "mdl"), "cannot be called"),
        (("--evals", "cor"), "did you mean 'core'"),
        (("--evals", "autointerp"), "--judge-model"),
        (("--profile", "fast"), "--profile fast"),
        (("--seed", 1), "--noise-seed 1"),
    ],
)
def test_wrong_requests_are_refused_before_anything(
    comparison: Path, options: tuple[object, ...], said: str
) -> None:
    with pytest.raises(BadInputError, match=said):
        run(comparison, *options, "--dry-run")


def test_absorption_needs_a_block_s_output(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", hook="blocks.1.hook_mlp_out")
    with pytest.raises(BadInputError, match="absorption reads hook_resid_post"):
        run(folder, "--evals", "absorption", "--dry-run")


def test_results_of_several_folders_need_a_place(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / name) for name in ("a", "b")]
    with pytest.raises(BadInputError, match="--output"):
        run(*folders, "--evals", "core", "--dry-run")
    assert "core" in run(*folders, "--evals", "core", "--dry-run", "--output", tmp_path / "out")


def test_help_teaches() -> None:
    stdout = run("--help")
    for taught in ("--evals", "--noise-seed", "OPENAI_API_KEY", "--dry-run", "Exit codes", "0.714"):
        assert taught in stdout
