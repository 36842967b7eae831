"""`wsae push` and `wsae verify`, with the real client, against a Hub on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE
from safetensors.torch import load_file, save_file

from tests.hostile import change_json, correct_checksums
from tests.hub.conftest import Wsae
from tests.hub.server import TOKEN, FakeHub
from wsae_plugin.scores import Score, ScoreFile

REPO = "me/my-saes"
pytestmark = [
    pytest.mark.filterwarnings("ignore:All samples in the training dataset"),
    # The Hub's client says this to itself.
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]

LOAD_WITHOUT_THE_PLUGIN = """
import sys
sys.modules["wsae_plugin"] = None  # importing it is an ImportError
import torch
from sae_lens import SAE
for sae_id in ("ordinary", "weighted"):
    sae = SAE.from_pretrained("me/my-saes", sae_id)
    x = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
    torch.save(sae(x), f"{sae_id}.pt")
"""


def test_plain_saelens_loads_what_was_pushed(
    hub: FakeHub, wsae: Wsae, runs: list[Path], tmp_path: Path
) -> None:
    code, output = wsae("push", *runs, "--repo", REPO, "--private", "--json")
    assert code == 0, output
    assert hub.repositories[REPO].private
    assert len(hub.repositories[REPO].commits) == 2, "one commit after the initial one"
    assert TOKEN.encode() not in b"".join(hub.repositories[REPO].files.values())
    environment = {
        "PATH": os.environ["PATH"],
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "OMP_NUM_THREADS": "1",
    }
    subprocess.run(
        [sys.executable, "-I", "-c", LOAD_WITHOUT_THE_PLUGIN],
        cwd=tmp_path,
        env=environment,
        check=True,
    )
    x = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
    for run in runs:
        with pytest.warns(UserWarning, match="non-empty model_from_pretrained_kwargs"):
            expected = SAE.load_from_disk(run / "sae")(x)
        torch.testing.assert_close(
            torch.load(tmp_path / f"{run.name}.pt", weights_only=True),
            expected.detach(),
            atol=1e-6,
            rtol=0,
            check_stride=False,
        )
    code, output = wsae("verify", REPO)
    assert code == 0, output


def test_scores_of_another_name_are_published_and_shown_under_it(
    hub: FakeHub, wsae: Wsae, runs: list[Path]
) -> None:
    score = Score(
        eval="my_measure",
        metric="a",
        label="an agreement",
        value=0.25,
        direction="up",
        headline=True,
    )
    for run in runs:
        ScoreFile(run=run.name, scores=[score]).write(run, "my_measure")
    code, output = wsae("push", *runs, "--repo", REPO)
    assert code == 0, output
    files = hub.repositories[REPO].files
    for run in runs:
        name = f"{run.name}/scores/my_measure.json"
        assert json.loads(files[name]) == json.loads((run / "scores/my_measure.json").read_text())
        sha256 = json.loads(files["config.json"])["saes"][run.name]["sha256"]
        assert sha256["scores/my_measure.json"] == hashlib.sha256(files[name]).hexdigest()
    card = files["README.md"].decode()
    section = card.split("\n## My measure\n")[1].split("\n## ")[0]
    assert "| `weighted` | 0.25 |" in section
    assert "## SAEBench" not in card and "SAEBench was not run" in card
    assert wsae("verify", REPO)[0] == 0
    hub.edit(REPO, "weighted/scores/my_measure.json", b"{}")
    code, output = wsae("verify", REPO, "--json")
    assert code == 1
    assert '"weighted/scores/my_measure.json"' in output


def test_group_bias_adaptation_is_published(hub: FakeHub, wsae: Wsae, trained: Path) -> None:
    assert wsae("push", trained / "gba", "--repo", REPO)[0] == 0
    card = hub.repositories[REPO].files["README.md"].decode()
    assert "| `jumprelu` | `gba` | `highest_target_frequency = " in card
    code, output = wsae("verify", REPO)
    assert code == 0, output


def test_a_changed_weight_is_found(hub: FakeHub, wsae: Wsae, runs: list[Path]) -> None:
    assert wsae("push", *runs, "--repo", REPO)[0] == 0
    content = bytearray(hub.repositories[REPO].files["weighted/sae_weights.safetensors"])
    content[-2000:] = bytes(2000)
    hub.edit(REPO, "weighted/sae_weights.safetensors", bytes(content))
    code, output = wsae("verify", REPO, "--json")
    assert code == 1
    assert "weighted/sae_weights.safetensors" in output
    assert wsae("verify", REPO, "--revision", "no-such")[0] == 1
    figure = next(n for n in hub.repositories[REPO].files if n.startswith("figures/"))
    hub.edit(REPO, figure, b"another")
    assert f'"{figure}"' in wsae("verify", REPO, "--json")[1]


def test_an_upload_goes_on_after_a_dropped_connection(
    hub: FakeHub, wsae: Wsae, runs: list[Path]
) -> None:
    hub.drop_uploads = 1
    assert wsae("push", *runs, "--repo", REPO)[0] == 0
    hub.drop_uploads = 10**6
    hub.large_files.pop(next(iter(hub.large_files)))
    hub.repositories.clear()
    code, output = wsae("push", *runs, "--repo", REPO)
    assert code == 1
    assert "nothing was committed" in output
    assert len(hub.repositories[REPO].commits) == 1
    hub.drop_uploads = 0
    hub.log.clear()
    assert wsae("push", *runs, "--repo", REPO)[0] == 0
    assert sum(line.startswith("PUT") for line in hub.log) == 1, "only what was missing is sent"


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_one_line_without_it(
    hub: FakeHub, wsae: Wsae, runs: list[Path], status: int
) -> None:
    hub.refuse_with = status
    code, output = wsae("push", *runs, "--repo", REPO)
    assert code == 1
    assert f"the Hub refused ({status})" in output
    assert TOKEN not in output
    assert "Traceback" not in output


def test_a_concurrent_commit_is_not_overwritten(hub: FakeHub, wsae: Wsae, runs: list[Path]) -> None:
    hub.create(REPO)
    hub.before_commit = lambda: hub.edit(REPO, "notes.md", b"theirs")
    code, output = wsae("push", *runs, "--repo", REPO)
    assert code == 1
    assert "somebody else committed" in output
    assert "run this again" in output
    assert "config.json" not in hub.repositories[REPO].files
    assert wsae("push", *runs, "--repo", REPO)[0] == 0
    assert hub.repositories[REPO].files["notes.md"] == b"theirs"


def test_only_a_generated_card_is_replaced(hub: FakeHub, wsae: Wsae, runs: list[Path]) -> None:
    assert wsae("push", *runs, "--repo", REPO)[0] == 0
    assert wsae("push", *runs, "--repo", REPO, "--author", "Ada")[0] == 0
    generated = hub.repositories[REPO].files["README.md"]
    assert b"Ada" in generated
    edited = generated.replace(b"## Limits", b"## My limits")
    hub.edit(REPO, "README.md", edited)
    code, output = wsae("push", *runs, "--repo", REPO)
    assert code == 2
    assert "by hand" in output
    assert hub.repositories[REPO].files["README.md"] == edited
    assert wsae("push", *runs, "--repo", REPO, "--force")[0] == 0
    assert b"## My limits" not in hub.repositories[REPO].files["README.md"]


def test_an_existing_repository_keeps_its_saes_and_its_visibility(
    hub: FakeHub, wsae: Wsae, runs: list[Path]
) -> None:
    assert wsae("push", *runs, "--repo", REPO)[0] == 0
    code, output = wsae("push", runs[1], "--repo", REPO)
    assert code == 2
    assert "ordinary" in output
    # What somebody has deleted by hand cannot be deleted once more.
    repository = hub.repositories[REPO]
    tree = dict(repository.commits[repository.branches["main"]])
    del tree["ordinary/metrics.jsonl"]
    repository.commit("main", tree)
    assert wsae("push", runs[1], "--repo", REPO, "--force")[0] == 0
    assert not any(name.startswith("ordinary/") for name in hub.repositories[REPO].files)
    code, output = wsae("push", runs[1], "--repo", REPO, "--private")
    assert code == 1
    assert "public" in output


def test_a_branch_is_made_and_main_left_alone(hub: FakeHub, wsae: Wsae, runs: list[Path]) -> None:
    assert wsae("push", *runs, "--repo", REPO, "--revision", "v1")[0] == 0
    assert "config.json" not in hub.repositories[REPO].files
    assert wsae("verify", REPO, "--revision", "v1")[0] == 0


def test_a_dry_run_sends_nothing(hub: FakeHub, wsae: Wsae, runs: list[Path]) -> None:
    code, output = wsae("push", *runs, "--repo", REPO, "--dry-run")
    assert code == 0
    assert "weighted/gamma.safetensors" in output
    assert not hub.repositories
    assert not [line for line in hub.log if "/api/models" in line or "/api/repos" in line]


def test_a_training_checkpoint_is_refused(wsae: Wsae, runs: list[Path]) -> None:
    file = runs[1] / "sae" / "cfg.json"
    original = json.loads(file.read_text())
    for change in ({"architecture": "weighted_topk"}, {"aux_loss_coefficient": 1.0}):
        file.write_text(json.dumps(original | change))
        code, output = wsae("push", *runs, "--repo", REPO, "--dry-run")
        assert code == 2
        assert "training checkpoint" in output
    code, output = wsae("push", runs[1] / "sae", "--repo", REPO, "--dry-run")
    assert code == 2
    assert "`wsae eval` makes it" in output


def test_scores_of_other_weights_are_refused(wsae: Wsae, runs: list[Path]) -> None:
    file = runs[0] / "sae" / "sae_weights.safetensors"
    save_file({name: 0.9 * tensor for name, tensor in load_file(file).items()}, file)
    code, output = wsae("push", *runs, "--repo", REPO, "--dry-run")
    assert code == 2
    assert "its scores are of another SAE than the one that is there now" in " ".join(
        output.split()
    )
    # Where the scores do not say of which weights they are, they are measured again.
    scores = runs[0] / "scores" / "held_out.json"
    document = json.loads(scores.read_text())
    del document["settings"]["weights"]
    scores.write_text(json.dumps(document))
    code, output = wsae("push", *runs, "--repo", REPO, "--dry-run")
    assert code == 2
    assert "ordinary: explained_variance is" in output


HOSTILE: list[tuple[str, str, Any]] = [
    ("cfg.json", "metadata", [1]),
    ("cfg.json", "metadata.model_name", {"a": 1}),
    ("cfg.json", "metadata.model_class_name", [1]),
    ("cfg.json", "metadata.dataset_path", 1),
    ("cfg.json", "metadata.training_architecture_details", "k"),
    ("cfg.json", "metadata.training_architecture_details", ["k"]),
    ("cfg.json", "architecture", {"a": 1}),
    ("scores/held_out.json", "versions", [1]),
    ("scores/held_out.json", "held_out.dataset", ["x"]),
    ("scores/held_out.json", "held_out", 1),
    ("scores/held_out.json", "held_out.batches", "many"),
    ("scores/held_out.json", "held_out.batch_size_prompts", [1]),
    ("scores/held_out.json", "scores", {"a": 1}),
    ("scores/held_out.json", "scores", [1]),
    ("scores/held_out.json", "scores", [{"metric": ["l0"], "value": 1}]),
    ("scores/held_out.json", "scores", [{"metric": "l0", "value": "x"}]),
    ("scores/held_out.json", "scores", []),
]


def test_what_is_no_record_is_a_difference(
    hub: FakeHub, wsae: Wsae, runs: list[Path], tmp_path: Path
) -> None:
    assert wsae("push", runs[1], "--repo", REPO)[0] == 0
    folder = tmp_path / "publication"
    hub.repositories[REPO].write_to(folder)
    for name, where, value in HOSTILE:
        file = folder / "weighted" / name
        before = file.read_text()
        content: Any = json.loads(before)
        *above, last = where.split(".")
        section = content
        for field in above:
            section = section[field]
        section[last] = value
        file.write_text(json.dumps(content))
        correct_checksums(folder)
        code, output = wsae("verify", folder, "--json")
        assert code == 1, output
        found = json.loads(output.partition("\nwsae: ")[0])["differences"]
        assert [d["what"] for d in found] == ["loads with SAELens"]
        assert f"weighted/{name}" in found[0]["found"] and last in found[0]["found"]
        file.write_text(before)
    correct_checksums(folder)
    assert wsae("verify", folder)[0] == 0


def test_what_the_root_says_is_compared(
    hub: FakeHub, wsae: Wsae, runs: list[Path], tmp_path: Path
) -> None:
    assert wsae("push", runs[1], "--repo", REPO)[0] == 0
    folder = tmp_path / "publication"
    hub.repositories[REPO].write_to(folder)
    root = json.loads((folder / "config.json").read_text())
    recorded = root["saes"]["weighted"]["metrics"]["l0"]
    root["saes"]["weighted"]["metrics"]["l0"] = 1.5
    (folder / "config.json").write_text(json.dumps(root))
    code, output = wsae("verify", folder, "--json")
    assert code == 1
    (found,) = json.JSONDecoder().raw_decode(output)[0]["differences"]
    assert found["what"] == "l0 in scores/held_out.json"
    assert (found["recorded"], found["found"]) == ("1.5", str(recorded))
    del root["saes"]["weighted"]["sha256"]["training.yaml"]
    (folder / "config.json").write_text(json.dumps(root))
    code, output = wsae("verify", folder)
    assert code == 2
    assert "config.json: saes.weighted.sha256.training.yaml: missing" in output


def test_the_library_of_another_python_is_another_text(
    hub: FakeHub, wsae: Wsae, runs: list[Path], tmp_path: Path
) -> None:
    assert wsae("push", runs[1], "--repo", REPO)[0] == 0
    folder = tmp_path / "publication"
    hub.repositories[REPO].write_to(folder)
    scores = folder / "weighted" / "scores" / "held_out.json"
    change_json(scores, versions={"python": "3.0.0"})
    correct_checksums(folder)
    code, output = wsae("verify", folder)
    assert code == 0, output
    assert "its text is the library of Python 3.0.0, and this is Python" in output


def test_what_is_no_sae_to_publish_is_named(wsae: Wsae, runs: list[Path]) -> None:
    cfg = runs[1] / "sae" / "cfg.json"
    document = json.loads(cfg.read_text())
    details = document["metadata"]["training_architecture_details"]
    del details["gamma_normalization"]
    before = cfg.read_text()
    cfg.write_text(json.dumps(document))
    code, output = wsae("push", *runs, "--repo", REPO, "--dry-run")
    assert code == 2
    assert "training_architecture_details: gamma_normalization: missing" in output
    cfg.write_text(before)
    weights = runs[1] / "sae" / "sae_weights.safetensors"
    tensors = load_file(weights)
    tensors["b_dec"][0] = torch.nan
    save_file(tensors, weights)
    code, output = wsae("push", *runs, "--repo", REPO, "--dry-run")
    assert code == 2
    assert "b_dec holds NaN or infinity" in output


def test_names_cannot_lead_out_of_the_folder(
    hub: FakeHub, wsae: Wsae, runs: list[Path], tmp_path: Path
) -> None:
    assert wsae("push", *runs, "--repo", REPO)[0] == 0
    root = json.loads(hub.repositories[REPO].files["config.json"])
    for name in ("../../../escaped", "/tmp/escaped", "..\\escaped"):
        evil = json.loads(json.dumps(root))
        evil["saes"]["weighted"]["sha256"][name] = "0" * 64
        hub.edit(REPO, "config.json", json.dumps(evil).encode())
        code, output = wsae("verify", REPO)
        assert code == 2
        assert "stays inside" in output
    assert not list(tmp_path.rglob("escaped"))
