"""Nothing that is published says where on a machine it was made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from tests.hostile import change_yaml
from tests.hub.conftest import Wsae
from tests.hub.server import FakeHub
from wsae_plugin.measures.evaluate import EvalSettings, evaluate_runs
from wsae_plugin.optimality.run import OptimalitySettings, measure_optimality

REPO = "me/my-saes"
pytestmark = [
    pytest.mark.filterwarnings("ignore:All samples in the training dataset"),
    # The Hub's client says this to itself.
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]


@pytest.fixture
def texts(tmp_path: Path) -> list[Path]:
    """Two held-out texts, in a folder that nobody needs to hear of."""
    folder = tmp_path / "of ann"
    folder.mkdir()
    files: list[Path] = []
    for n, words in enumerate(("def f(x): return x + 1", "import os; os.listdir('.')")):
        files.append(folder / f"held-out-{n}.jsonl")
        files[-1].write_text((json.dumps({"text": f"{words}\n" * 40}) + "\n") * 40)
    return files


def test_a_local_held_out_text_is_a_name(
    hub: FakeHub, wsae: Wsae, runs: list[Path], texts: list[Path], tmp_path: Path
) -> None:
    evaluate_runs(runs, EvalSettings(str(texts[0]), 2, 2, 0))
    assert str(texts[0]) in (runs[0] / "scores/held_out.json").read_text()
    code, output = wsae("push", *runs, "--repo", REPO, "--json")
    assert code == 0, output
    assert '"not_measured_again": {}' in output, "it is here, so it was measured"
    files = hub.repositories[REPO].files
    for private in (tmp_path, Path.home() / "x", Path.cwd(), Path("of ann")):
        for name, content in files.items():
            assert str(private).encode() not in content, name
    assert "`held-out-0.jsonl`" in files["README.md"].decode()
    assert "a file that is not published" in files["README.md"].decode()
    assert (
        json.loads(files["weighted/scores/held_out.json"])["held_out"]["dataset_is_local"] is True
    )

    code, output = wsae("verify", REPO)
    assert code == 0, output
    assert "ordinary, weighted: scores not measured again: its held-out text, held-out" in output
    assert "--dataset PATH" in output
    code, output = wsae("verify", REPO, "--dataset", texts[0], "--json")
    assert code == 0, output
    assert '"not_measured": {}' in output
    code, output = wsae("verify", REPO, "--dataset", texts[1])
    assert code == 1
    assert "explained_variance" in output
    code, output = wsae("verify", REPO, "--dataset", tmp_path / "nowhere")
    assert code == 2
    assert "nowhere" in output
    texts[0].unlink()
    code, output = wsae("push", *runs, "--repo", REPO, "--dry-run")
    assert code == 0
    assert "not measured again" in output


def test_paths_that_start_in_the_working_directory_are_names_too(
    hub: FakeHub, wsae: Wsae, runs: list[Path], texts: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(texts[0].parent.parent)
    private = Path(texts[0].parent.name)
    evaluate_runs(runs, EvalSettings(str(private / texts[0].name), 2, 2, 0))
    change_yaml(runs[1] / "config.yaml", from_pretrained_path=f"{private}/checkpoint")
    code, output = wsae("push", *runs, "--repo", REPO)
    assert code == 0, output
    files = hub.repositories[REPO].files
    for name, content in files.items():
        assert f"{private}/".encode() not in content, name
    assert "from_pretrained_path: checkpoint" in files["weighted/training.yaml"].decode()
    assert wsae("verify", REPO)[0] == 0


def test_optimality_on_another_local_text_is_published_without_its_path(
    hub: FakeHub, wsae: Wsae, runs: list[Path], texts: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(texts[0].parent.parent)
    private = Path(texts[0].parent.name)
    settings = OptimalitySettings(str(private / texts[1].name), samples=128, batches=8)
    measure_optimality(runs, settings)
    assert f"{private}/" in (runs[1] / "scores/optimality.json").read_text()
    code, output = wsae("push", *runs, "--repo", REPO)
    assert code == 0, output
    files = hub.repositories[REPO].files
    for name, content in files.items():
        assert f"{private}/".encode() not in content, name
    published = json.loads(files["weighted/scores/optimality.json"])
    assert published["settings"]["dataset"] == "held-out-1.jsonl"
    code, output = wsae("verify", REPO)
    assert code == 0, output
    assert "2 SAEs are as recorded" in output


@pytest.mark.parametrize("field", ["dataset_path", "model_name"])
def test_a_folder_here_is_no_name_on_the_hub(
    field: str, wsae: Wsae, runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme" / "secret").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    file = runs[1] / "sae" / "cfg.json"
    cfg = json.loads(file.read_text())
    cfg["metadata"][field] = "acme/secret"
    file.write_text(json.dumps(cfg))
    code, output = wsae("card", runs[1], "--output", tmp_path / "out" / "README.md")
    assert code == 2
    assert f"{field} = 'acme/secret': a folder of this machine" in output


def test_dataset_is_for_local_texts_only(hub: FakeHub, wsae: Wsae, runs: list[Path]) -> None:
    assert wsae("push", *runs, "--repo", REPO)[0] == 0
    assert (
        "bundled-held-out" in hub.repositories[REPO].files["weighted/scores/held_out.json"].decode()
    )
    code, output = wsae("verify", REPO, "--dataset", "bundled-held-out")
    assert code == 2
    assert "leave it out" in output


def test_a_whole_comparison_goes_up_and_comes_down(
    hub: FakeHub, wsae: Wsae, comparison: Path, tmp_path: Path
) -> None:
    """With weights from a file, whose path is in the config."""
    config = (comparison / "runs" / "layer-1-k-8-literal-seed-0" / "config.yaml").read_text()
    assert "/s.safetensors" in config
    code, output = wsae("push", comparison, "--repo", REPO)
    assert code == 0, output
    assert "layer-1-k-8-literal-seed-0/ (9 files)" in output, "folders of many SAEs, not files"
    repository = hub.repositories[REPO]
    assert len(repository.commits) == 2
    for name, content in repository.files.items():
        for private in (str(tmp_path), str(comparison.parent), "pytest-of", str(Path.cwd())):
            assert private.encode() not in content, name
    assert len({name.split("/")[0] for name in repository.files if name.endswith("cfg.json")}) == 16
    code, output = wsae("verify", REPO)
    assert code == 0, output
    assert "16 SAEs are as recorded" in output

    folder = tmp_path / "down"
    for name in ("training.yaml", "proxy.safetensors", "gamma.safetensors"):
        content = repository.files[f"layer-1-k-8-literal-seed-0/{name}"]
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    published = yaml.safe_load((folder / "training.yaml").read_text())
    assert published["sae"]["gamma_file"] == "proxy.safetensors"
    ours = ("output_path", "checkpoint_path", "resume_from_checkpoint", "logger")
    assert not published.keys() & set(ours)
    s = load_file(folder / published["sae"]["gamma_file"])["proxy"]
    gamma = load_file(folder / "gamma.safetensors")["gamma"]
    assert (s.float() - gamma).abs().max() < 1e-6, "α = 1, no normalization"
    shutil.rmtree(folder)
