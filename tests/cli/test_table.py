"""A table of labelled images from its file to a page and a card, through the real commands."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sae_lens import SAE
from safetensors.torch import load_file

from wsae_plugin.cli.main import main

N, D = 900, 16


@dataclass(frozen=True)
class Said:
    stdout: str
    stderr: str


def invoke(*arguments: str, code: int = 0) -> Said:
    """Run a command line."""
    before, out, err = sys.argv, io.StringIO(), io.StringIO()
    sys.argv = ["wsae", *arguments]
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            main()
    finally:
        sys.argv = before
    assert (ended.value.code or 0) == code, err.getvalue()
    return Said(out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, each bright in five dimensions of its own."""
    folder = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, N)
    x = rng.random((N, D), dtype=np.float32) * 0.5
    x[:, :15] += 2 * (np.arange(15) // 5 == labels[:, None]) * rng.random((N, 15))
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", labels)
    (folder / "classes.txt").write_text("cat\ndog\n<b>cow</b>")
    np.save(folder / "p.npy", (x.reshape(N, 4, 4) * 100).astype(np.uint8))
    config: dict[str, Any] = {
        "activations": str(folder / "x.npy"),
        "labels": str(folder / "y.npy"),
        "images": str(folder / "p.npy"),
        "held_out": 0.5,
        "model_name": "somebody/a-vision-model",
        "dataset_path": "somebody/images",
        "hooks": ["activations"],
        "seeds": [0, 1],
        "training_samples": 20_000,
        "batch_size": 200,
        "lr": 0.003,
        "baseline": "plain",
        "sae": {"architecture": "weighted_topk", "d_in": D, "d_sae": 32, "k": 3},
        "arms": {
            "plain": {"alpha": 0},
            "beta": {"alpha": 1, "gamma_proxy": "semantic_consistency"},
            "shuffled": {"control": "shuffled", "of": "beta"},
            "labels": {"alpha": 1, "gamma_proxy": "semantic_consistency_of_shuffled_labels"},
        },
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return folder


@pytest.fixture(scope="module")
def comparison(folder: Path) -> Path:
    invoke("compare", str(folder / "c.yaml"), "--output", str(folder / "cmp"))
    invoke("eval", str(folder / "cmp"), "--batches", "8")
    return folder / "cmp"


def test_arms_are_measured_by_their_labels(comparison: Path) -> None:
    manifest = json.loads((comparison / "manifest.json").read_text())
    roles = {arm["name"]: arm["role"] for arm in manifest["arms"]}
    assert roles == {
        "plain": "baseline",
        "beta": "weighted",
        "shuffled": "control",
        "labels": "control",
    }
    run = comparison / "runs" / "activations-beta-seed-0"
    found = json.loads((run / "scores" / "held_out.json").read_text())
    scores = {score["metric"]: score for score in found["scores"]}
    assert found["held_out"]["dataset"].endswith("x.npy (held_out)")
    assert scores["semantic_consistency"]["value"] > scores["semantic_consistency"]["control"] > 0.3
    assert scores["nearest_neighbour_accuracy"]["value"] > 0.8
    # β knows that the last dimension is of no class.
    proxy = load_file(run / "sae" / "gamma.safetensors")["proxy"]
    assert proxy[:15].min() > 0.9 > proxy[15] + 0.2


def test_the_page_shows_what_excites_latents(comparison: Path) -> None:
    invoke("report", str(comparison))
    page = (comparison / "report.html").read_text()
    assert "What weighting did: somebody/a-vision-model" in page
    assert len(re.findall("best latent", page)) == 4
    assert len(re.findall("best random direction", page)) == 1
    assert "data:image/png;base64," in page
    assert "<b>cow</b>" not in page
    assert "SAEBench" not in (comparison / "report.md").read_text()
    gallery = comparison / "runs" / "activations-plain-seed-0" / "gallery.json"
    written = gallery.read_text()
    try:
        gallery.write_text(written.replace("data:image/png;base64,", "https://example.org/", 1))
        result = invoke("report", str(comparison), code=2)
        assert "gallery.json: images: must be PNGs" in result.stderr
    finally:
        gallery.write_text(written)


def test_a_card_says_of_which_model_and_data(comparison: Path, folder: Path) -> None:
    invoke("card", str(comparison), "--output", str(folder / "card.md"))
    card = (folder / "card.md").read_text()
    assert "base_model: somebody/a-vision-model" in card
    assert "[somebody/images](https://huggingface.co/datasets/somebody/images)" in card
    assert str(folder) not in card
    run = comparison / "runs" / "activations-beta-seed-0"
    sae = SAE.load_from_disk(run / "sae")
    assert sae.cfg.metadata.model_name == "somebody/a-vision-model"
    x = torch.from_numpy(np.load(folder / "x.npy"))[:5]
    assert ((sae.encode(x) > 0).sum(dim=1) <= 3).all()


def test_what_is_pushed_holds_no_path_and_no_picture(comparison: Path, folder: Path) -> None:
    result = invoke("push", str(comparison), "--repo", "me/saes", "--dry-run", "--json")
    assert str(folder) not in result.stdout
    assert "gallery" not in result.stdout


def test_gamma_and_identify(comparison: Path) -> None:
    run = comparison / "runs" / "activations-beta-seed-0"
    shown = invoke("gamma", str(run), "--proxy", "semantic_consistency", "--json")
    found = json.loads(shown.stdout)
    assert {gamma["proxy"] for gamma in found["gammas"]} == {"uniform", "semantic_consistency"}
    other = comparison / "runs" / "activations-beta-seed-1"
    assert json.loads(invoke("identify", str(run), str(other), "--json").stdout)["saes"]


def test_another_table_is_measured_on(comparison: Path, folder: Path) -> None:
    np.save(folder / "other.npy", np.load(folder / "x.npy")[:300] * 2)
    run = str(comparison / "runs" / "activations-plain-seed-0")
    shown = invoke("eval", run, "--dataset", str(folder / "other.npy"), "--batches", "4", "--json")
    (found,) = json.loads(shown.stdout)
    assert found["held_out"]["dataset"] == str(folder / "other.npy")
    assert found["held_out"]["tokens"] == 300


def test_a_label_proxy_without_labels_is_refused(folder: Path) -> None:
    values = yaml.safe_load((folder / "c.yaml").read_text())
    del values["labels"]
    (folder / "no-labels.yaml").write_text(yaml.safe_dump(values))
    result = invoke("compare", str(folder / "no-labels.yaml"), code=2)
    assert "gamma_proxy = 'semantic_consistency': is made from the classes" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
