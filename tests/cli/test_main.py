from __future__ import annotations

import subprocess
import sys

import pytest

from wsae_plugin.cli import main


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
