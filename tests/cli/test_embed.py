"""`wsae embed` as a user gives it: a model in the Hub's cache, no network, a folder of images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.cli.test_faults import wsae
from tests.vision.tiny import LABELS, NAMES, pictures, put_into_cache, vit
from wsae_plugin.vision import embed_folder

NAME = "someone/tiny-vit"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return pictures(tmp_path / "images")


def offline(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; sys.argv[0] = 'wsae'; from wsae_plugin.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        cwd=folder,
        env=os.environ
        | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache")}
        | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_a_model_of_the_cache(images: Path, tmp_path: Path) -> None:
    put_into_cache(tmp_path / "cache", NAME)
    command = ("-q", "embed", "images", "--model", NAME, "--output", "table", "--hook", "layers.0")
    done = offline(tmp_path, *command, "--tokens", "cls", "--batch-size", "3", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    metadata = json.loads((tmp_path / "table" / "metadata.json").read_text())
    assert told == {"output": "table"} | metadata
    assert metadata["model_name"] == NAME and metadata["complete"]
    assert metadata["image_folder"] == str(images) and metadata["tokens"] == "cls"
    assert (tmp_path / "table" / "images.txt").read_text().splitlines() == NAMES
    rows = load_file(tmp_path / "table" / "rows-00000.safetensors")
    assert rows["labels"].tolist() == LABELS
    # The same from a folder of one's own.
    embed_folder(images, str(vit(tmp_path / "vit")), tmp_path / "own", ["layers.0"], "cls", 3)
    own = load_file(tmp_path / "own" / "rows-00000.safetensors")
    assert torch.equal(rows["layers.0"], own["layers.0"])
    again = offline(tmp_path, *command, "--tokens", "mean")
    assert again.returncode == 2 and again.stdout == ""
    assert "tokens was cls and is now mean" in again.stderr and again.stderr.count("\n") == 1


def test_a_model_that_is_nowhere(images: Path, tmp_path: Path) -> None:
    done = offline(tmp_path, "embed", str(images), "--model", "someone/else", "-o", "table")
    assert done.returncode == 2 and not (tmp_path / "table").exists()
    assert done.stderr.startswith("wsae: --model 'someone/else': ") and done.stderr.count("\n") == 1


def test_what_is_shown(images: Path, tmp_path: Path) -> None:
    model = vit(tmp_path / "vit")
    done = wsae("embed", images, "--model", model, "-o", tmp_path / "table", "--tokens", "patches")
    assert done.code == 0
    assert "last_hidden_state    32" in done.out
    assert "112 rows: 7 images with 16 each, of 2 classes" in done.out


def test_wrong_requests(images: Path, tmp_path: Path) -> None:
    model = vit(tmp_path / "vit")
    command = ("embed", images, "--model", model, "-o", tmp_path / "table")
    wsae(*command, "--tokens", "all").refused(2, "--tokens", "'all'")
    wsae(*command, "--device", "tpu9").refused(2, "--device", "cpu")
    wsae(*command, "--batch-size", 0).refused(2, "--batch-size")
    wsae(*command, "--hook", "layer.0").refused(2, "--hook 'layer.0'", "did you mean 'layers.0'?")
    wsae("embed", tmp_path / "no", *command[2:]).refused(2, "IMAGES", "no such folder")
    assert not (tmp_path / "table").exists()
    (images / "ant" / "b.png").write_bytes(b"")
    wsae(*command).refused(1, "ant/b.png: cannot be read as an image")
