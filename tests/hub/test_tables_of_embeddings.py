"""SAEs on a table are published, loaded by plain SAELens, and verified where the table lies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sae_lens import SAE

from tests.hub.conftest import Wsae
from tests.hub.server import TOKEN, FakeHub
from wsae_plugin.measures.evaluate import EvalSettings, evaluate_runs
from wsae_plugin.training import load_run_config, train

REPO = "me/vision-saes"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

LOAD_WITHOUT_THE_PLUGIN = """
import sys
sys.modules["wsae_plugin"] = None  # importing it is an ImportError
import numpy as np, torch
from sae_lens import SAE
sae = SAE.from_pretrained("me/vision-saes", "run")
print(sae.cfg.metadata.model_name, sae.cfg.metadata.hook_name)
torch.save(sae.encode(torch.from_numpy(np.load("secret-place.npy"))[:64]), "codes.pt")
"""


@pytest.fixture(params=["share", "pictures", "another table", "asked for"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    x = np.maximum(generator.standard_normal((600, 16), dtype=np.float32), 0)
    np.save(tmp_path / "secret-place.npy", x)
    np.save(tmp_path / "secret-labels.npy", (x[:, 0] > 0).astype(np.int64))
    values: dict[str, Any] = {
        "activations": str(tmp_path / "secret-place.npy"),
        "labels": str(tmp_path / "secret-labels.npy"),
        "held_out": 0.5,
        "model_name": "somebody/resnet",
        "dataset_path": "somebody/images",
        "sae": {"architecture": "weighted_topk", "d_in": 16, "d_sae": 32, "k": 3, "alpha": 1},
        "training_samples": 4000,
        "batch_size": 100,
    }
    values["sae"]["gamma_proxy"] = "semantic_consistency"
    if request.param == "pictures":
        np.save(tmp_path / "secret-images.npy", np.zeros((100, 4, 4), dtype=np.uint8))
        values["images"] = str(tmp_path / "secret-images.npy")
    if request.param in ("another table", "asked for"):
        np.save(tmp_path / "secret-other.npy", 2 * x[::-1])
    if request.param == "another table":
        values["held_out"] = str(tmp_path / "secret-other.npy")
        values["held_out_labels"] = str(tmp_path / "secret-labels.npy")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(values))
    train(load_run_config(tmp_path / "c.yaml"), tmp_path / "run")
    asked = str(tmp_path / "secret-other.npy") if request.param == "asked for" else None
    evaluate_runs([tmp_path / "run"], EvalSettings(asked, 4, 1, 0))
    return tmp_path / "run"


def test_a_publication_holds_for_whoever_has_the_table(
    hub: FakeHub, wsae: Wsae, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, output = wsae("push", run, "--repo", REPO)
    assert code == 0, output
    files = hub.repositories[REPO].files
    assert not any(str(tmp_path).encode() in content for content in files.values())
    card = files["README.md"].decode()
    assert "[somebody/resnet](https://huggingface.co/somebody/resnet)" in card
    assert "[somebody/images](https://huggingface.co/datasets/somebody/images)" in card
    assert "`activations`" in card
    environment = {
        **{"PATH": os.environ["PATH"], "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN},
        **{"HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"},
    }
    loaded = subprocess.run(
        [sys.executable, "-I", "-c", LOAD_WITHOUT_THE_PLUGIN],
        cwd=tmp_path,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert loaded.stdout.split() == ["somebody/resnet", "activations"]
    x = torch.from_numpy(np.load(tmp_path / "secret-place.npy"))[:64]
    expected = SAE.load_from_disk(run / "sae").encode(x)
    codes = torch.load(tmp_path / "codes.pt", weights_only=True)
    torch.testing.assert_close(codes, expected.detach(), atol=1e-6, rtol=0)
    # Elsewhere nobody has the table, until somebody says where it is.
    code, output = wsae("verify", REPO)
    assert code == 0, output
    assert "scores not measured again: its held-out table, secret-" in output
    other = tmp_path / "secret-other.npy"
    here = tmp_path / "elsewhere.npy"
    is_share = not other.exists()
    (other if other.exists() else tmp_path / "secret-place.npy").rename(here)
    monkeypatch.chdir("/")
    code, output = wsae("verify", REPO, "--dataset", here)
    assert code == 0, output
    assert "not measured again" not in output
    np.save(here, np.load(here)[::-1])
    # Other rows are held out of what is in another order; of another table all are.
    if is_share:
        code, output = wsae("verify", REPO, "--dataset", here)
        assert code == 1, output
        assert "fingerprint of the table" in output
    np.save(here, np.abs(np.load(here)) ** 2)
    code, output = wsae("verify", REPO, "--dataset", here)
    assert code == 1, output
    assert ("fingerprint of the table" if is_share else "explained_variance") in output


def test_a_folder_of_images_gets_its_name_on_the_hub(wsae: Wsae, run: Path) -> None:
    command = ["card", run, "--repo", REPO, "--output", run / "README.md", "--dataset-name"]
    code, output = wsae(*command, "somebody/else")
    assert code == 2
    assert "dataset_path = 'somebody/images', which is no folder of this machine" in output
    for file in (run / "config.yaml", run / "sae" / "cfg.json"):
        file.write_text(file.read_text().replace("somebody/images", "photos"))
    evaluate_runs([run], EvalSettings(None, 4, 1, 0))
    code, output = wsae(*command, "somebody/photos")
    assert code == 0, output
    assert "https://huggingface.co/datasets/somebody/photos" in (run / "README.md").read_text()


def test_whoever_wrote_no_model_down_gives_its_name(wsae: Wsae, run: Path) -> None:
    config, cfg = run / "config.yaml", run / "sae" / "cfg.json"
    config.write_text(config.read_text().replace("model_name: somebody/resnet", "model_name: null"))
    cfg.write_text(cfg.read_text().replace('"somebody/resnet"', "null"))
    evaluate_runs([run], EvalSettings(None, 4, 1, 0))
    command = ["card", run, "--repo", REPO, "--output", run / "README.md"]
    code, output = wsae(*command)
    assert code == 2
    assert "--base-model: missing, no file of the SAEs says what computed the activations" in output
    code, output = wsae(*command, "--base-model", "somebody/resnet")
    assert code == 0, output
    assert "https://huggingface.co/somebody/resnet" in (run / "README.md").read_text()
