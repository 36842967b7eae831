from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from typing import Any

import pytest
import typer.main

import wsae_plugin
from wsae_plugin.cli import main
from wsae_plugin.cli.main import app


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["wsae", *arguments])
    with pytest.raises(SystemExit) as done:
        main()
    assert isinstance(done.value.code, int)
    return done.value.code


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_the_commands(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments, monkeypatch) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in ("demo", "gamma", "train", "saelens"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["trian"], "'trian'"),
        (["--fast"], "--fast"),
        (["train"], "CONFIG.yaml"),
        (["train", "--nope"], "--nope"),
        (["train", "x.yaml", "--set"], "--set"),
        (["demo", "--seed", "one"], "--seed"),
        (["gamma"], "CONFIG.yaml"),
        (["gamma", "x.yaml", "--tokens", "many"], "--tokens"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_two(
    arguments: list[str],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(arguments, monkeypatch) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert named in line
    assert "--help" in line


def test_quiet_silences_every_bar() -> None:
    code = (
        "import sys; sys.argv = ['wsae', '-q', 'train', 'missing.yaml']\n"
        "from wsae_plugin.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "from tqdm.auto import tqdm\n"
        "from sae_lens.training.sae_trainer import tqdm as saelens_tqdm\n"
        "for _ in saelens_tqdm(tqdm(range(3), disable=False)): pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stderr == "wsae: missing.yaml: no such file; give the path of a YAML config\n"


def test_requests_to_the_hub_are_not_logged_line_by_line() -> None:
    code = (
        "import logging, sys; sys.argv = ['wsae', 'train', 'missing.yaml']\n"
        "from wsae_plugin.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "logging.getLogger('httpx').info('HTTP Request: GET https://cdn/?signature=1')\n"
        "logging.getLogger('wsae_plugin').info('shown')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "shown" and "signature" not in done.stderr


def test_versions_are_told_without_anything_heavy() -> None:
    code = (
        "import sys; sys.argv = ['wsae', '--version']\n"
        "from wsae_plugin.cli import main\n"
        "try: main()\n"
        "except SystemExit as done: assert done.code == 0\n"
        f"assert not {HEAVY!r} & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    told = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert [*told][:3] == ["wsae-plugin", "sae-lens", "torch"]
    assert told["wsae-plugin"] == wsae_plugin.__version__
    assert told["torch"] == version("torch")


HEAVY = {"torch", "sae_lens", "transformers", "transformer_lens", "datasets", "matplotlib", "numpy"}


def commands(group: Any = None, *before: str) -> list[list[str]]:
    """The arguments of every command, groups and `wsae` itself included."""
    group = typer.main.get_command(app) if group is None else group
    inner = getattr(group, "commands", {})
    return [[*before], *(args for name in inner for args in commands(inner[name], *before, name))]


def test_help_needs_nothing_heavy() -> None:
    # `wsae saelens --help` is SAELens's own.
    wanted = [[*args, "--help"] for args in commands() if args != ["saelens"]]
    assert ["toy", "gba", "--help"] in wanted
    code = (
        "import os, sys, time\n"
        "from wsae_plugin.cli import main\n"
        f"for arguments in {wanted!r}:\n"
        "    sys.argv = ['wsae', *arguments]\n"
        "    try: main()\n"
        "    except SystemExit as done: assert done.code == 0, arguments\n"
        f"    heavy = {HEAVY!r} & sys.modules.keys()\n"
        "    assert not heavy, (arguments, heavy)\n"
        "    if len(arguments) == 1: print('seconds', time.process_time())\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (seconds,) = (line.split()[1] for line in done.stdout.splitlines() if line[:7] == "seconds")
    assert float(seconds) < 2  # under one, and twice that on a slower machine


def test_completion_needs_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['wsae']\n"
        "from wsae_plugin.cli import main\n"
        "try: main()\n"
        f"finally: assert not {HEAVY!r} & sys.modules.keys()\n"
    )
    words = {"_WSAE_COMPLETE": "complete_bash", "COMP_WORDS": "wsae ver", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True, text=True, check=False, env=os.environ | words,
    )  # fmt: skip
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["verify"], "")
