"""From the folder that one's own SAELens script left to measures, a report and a publication."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from sae_lens import SAE
from sae_lens.synthetic import SyntheticModel, SyntheticModelConfig
from safetensors.torch import load_file, save_file

from tests import own_scripts
from tests.hub.conftest import Wsae
from tests.hub.server import FakeHub
from wsae_plugin import fisher_metric, register_proxy
from wsae_plugin.assets import bundled_dataset
from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma import PROXIES
from wsae_plugin.report.text import number
from wsae_plugin.saebench.bench import planned
from wsae_plugin.saebench.request import Request

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*dataset contains fewer samples:UserWarning"),
    pytest.mark.filterwarnings("ignore:Dataset is not tokenized:UserWarning"),
    pytest.mark.filterwarnings("ignore:All samples in the training dataset"),
    pytest.mark.filterwarnings("ignore:.*SAE has non-empty model_from"),
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]
NAMES = ("weighted", "plain", "several", "dense", "jumprelu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SAEs from scripts: those of NAMES, `synthetic`, and in checkpoints/ the one of `weighted`,
    whose folder is called after the tokens that it has seen."""
    folder, threads = tmp_path_factory.mktemp("scripts"), torch.get_num_threads()
    torch.set_num_threads(1)
    model = own_scripts.bundled_hugging_face_model()
    topk = own_scripts.topk
    one = own_scripts.train_one
    scaled = topk(normalize_activations="expected_average_only_in")
    saved = {
        "weighted": one(folder / "1", scaled, model, n_checkpoints=1),
        "plain": one(folder / "2", topk(weighted=False), model, seed=0),
        "several": own_scripts.train_several(
            folder / "3", {"a": topk(weighted=False), "b": topk()}, model, seed=1
        ),
        "dense": one(folder / "4", topk(), model, "gpt_neox.layers.1.attention.dense"),
        "jumprelu": one(folder / "5", own_scripts.jumprelu(), model),
        "synthetic": own_scripts.train_synthetic(folder / "6"),
    }
    (checkpoint,) = (folder / "1" / "checkpoints").glob("*/*")
    shutil.move(checkpoint, folder / "checkpoints" / checkpoint.name)
    for name, path in saved.items():
        shutil.move(path, folder / name)
    torch.set_num_threads(threads)
    return folder


@pytest.fixture
def scripts(trained: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "scripts"))


def measure(wsae: Wsae, *arguments: object) -> list[dict[str, Any]]:
    code, output = wsae("eval", *arguments, "--batches", 2, "--batch-size-prompts", 2, "--json")
    assert code == 0, output
    return json.JSONDecoder().raw_decode(output)[0]


def values(document: dict[str, Any]) -> dict[str, float]:
    return {score["metric"]: score["value"] for score in document["scores"]}


def test_the_whole_road(
    wsae: Wsae,
    hub: FakeHub,
    scripts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (checkpoint,) = (scripts / "checkpoints").iterdir()
    folders = [*(scripts / name for name in NAMES), checkpoint]
    found = {of["run"]: values(of) for of in measure(wsae, *folders)}
    assert set(found) == {"weighted", "plain", "several-a", "several-b", "dense", "jumprelu"} | {
        f"scripts-{checkpoint.name}"
    }
    assert {found[name]["l0"] for name in found if name != "jumprelu"} == {8.0}
    # The checkpoint's scale is folded in: it is worse than the end of its training, not absurd.
    partway = found[f"scripts-{checkpoint.name}"]["explained_variance"]
    assert -0.5 < partway < found["weighted"]["explained_variance"]
    assert (scripts / "several" / "a" / "scores" / "held_out.json").is_file()
    # A second time nothing is left to measure, until the SAE is trained again.
    times = {p: p.stat().st_mtime_ns for p in scripts.rglob("held_out.json")}
    shutil.copy(scripts / "plain" / "sae_weights.safetensors", scripts / "several" / "a")
    again = {of["run"]: values(of) for of in measure(wsae, *folders)}
    assert {p for p in times if p.stat().st_mtime_ns != times[p]} == {
        scripts / "several" / "a" / "scores" / "held_out.json"
    }
    assert again["several-a"] == pytest.approx(found["plain"])

    report = tmp_path / "report"
    code, output = wsae(
        "report", *folders[:-1], "--baseline", scripts / "plain", "--output", report
    )
    assert code == 0, output
    summary = json.loads((report / "report.json").read_text())
    scale = ["none", "expected_average_only_in"]
    assert summary["unmatched"] == {
        "weighted": {"sae.normalize_activations": scale},
        "jumprelu": {"sae.architecture": ["topk", "jumprelu"]},
    }
    assert {arm["role"] for arm in summary["arms"]} == {"baseline", "weighted"}

    code, output = wsae("push", *folders, "--repo", "me/mine")
    assert code == 0, output
    assert "scores not measured again" not in output
    code, output = wsae("verify", "me/mine")
    assert code == 0, output
    published = tmp_path / "published"
    hub.repositories["me/mine"].write_to(published)
    training = yaml.safe_load((published / "weighted" / "training.yaml").read_text())
    assert training["training_tokens"] == 120 * 256
    of_checkpoint = f"scripts-{checkpoint.name}"
    training = yaml.safe_load((published / of_checkpoint / "training.yaml").read_text())
    assert training["training_tokens"] == int(checkpoint.name) < 120 * 256
    assert "wsae_plugin" not in SAE.load_from_disk(published / "weighted").__module__

    # What is on the Hub is welcome too, of a pull request as well, and as a baseline.
    monkeypatch.chdir(tmp_path)
    repository = hub.repositories["me/mine"]
    repository.branches["refs/pr/1"] = repository.branches["mine/draft"] = repository.branches[
        "main"
    ]
    (of_hub,) = measure(wsae, "hf://me/mine/several-b")
    assert values(of_hub) == found["several-b"]
    code, output = wsae("eval", "hf://me/mine", "hf://me/mine/several-b")
    assert (code, "is given 2 times" in output) == (2, True), output
    for revision in ("refs/pr/1", "mine%2Fdraft"):
        code, output = wsae(
            *("report", f"hf://me/mine@{revision}/several-b", "--output", report),
            *("--baseline", f"hf://me/mine@{revision}/several-a"),
        )
        assert code == 0, output
        arms = json.loads((report / "report.json").read_text())["arms"]
        assert [arm["role"] for arm in arms] == ["baseline", "weighted"]
        code, output = wsae("verify", f"hf://me/mine@{revision}", "--json")
        assert code == 0, output
    for address, said in (
        ("hf://me/mine/none", "has no SAE that SAELens saved"),
        ("hf://me/my mine/several-b", "hf://me/my mine/several-b: Repo id must use alphanumeric"),
        ("hf://datasets/me/mine", "is a dataset; SAEs are in repositories of models"),
        ("hf://mine", "give hf://USER/NAME"),
    ):
        code, output = wsae("eval", address)
        assert (code, said in output) == (2, True), output
    code, output = wsae("eval", "hf://me/mine@mine/draft/several-b")
    assert (code, "a slash of its name is %2F" in output) == (1, True), output


def test_a_proxy_that_is_registered_in_the_script_alone(
    wsae: Wsae, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as script:
        script.setattr("wsae_plugin.gamma.proxies.PROXIES", dict(PROXIES))
        register_proxy(
            "mine",
            lambda seen: seen.latents.variance.sum() + seen.activations.variance,
            needs=("latents",),
        )
        sae, model = own_scripts.topk(gamma_proxy="mine"), own_scripts.bundled_hugging_face_model()
        out = own_scripts.train_one(tmp_path, sae, model, n_checkpoints=1)
    (checkpoint,) = (tmp_path / "checkpoints").glob("*/*")
    for found in measure(wsae, out, checkpoint):
        gamma = found["per_dimension"]["gamma"]
        assert len(set(gamma)) > 100
    for command in (("report", out), ("push", out, "--repo", "me/mine"), ("verify", "me/mine")):
        code, output = wsae(*command)
        assert code == 0, output
    assert b"`mine`" in hub.repositories["me/mine"].files["README.md"]
    monkeypatch.chdir(tmp_path)
    for given in (out, "hf://me/mine/out"):
        code, output = wsae("gamma", given, "--tokens", 1024)
        assert code == 0, output
    assert "variance" in output and "mine, " not in output


def test_the_road_of_a_metric(wsae: Wsae, hub: FakeHub, tmp_path: Path) -> None:
    """One call and one field in the script, and no trace of its file in what is published."""
    model, file = own_scripts.bundled_hugging_face_model(), tmp_path / "fisher.safetensors"
    text = " ".join(bundled_dataset("train")["text"][:20])
    tokens = model.tokenizer(text, return_tensors="pt").input_ids[0, : 8 * 64].view(8, 64)
    found = fisher_metric(model, own_scripts.HOOK, tokens, file, n_tokens=500, n_labels=2)
    sae = own_scripts.topk(alpha=0, metric="fisher", metric_file=str(file))
    out = own_scripts.train_one(tmp_path, sae, model)
    (measured,) = measure(wsae, out)
    assert values(measured)["l0"] == 8 and values(measured)["explained_variance"] > 0.2
    file.unlink()
    for command in (("push", out, "--repo", "me/mine"), ("verify", "me/mine")):
        code, output = wsae(*command)
        assert code == 0, output
    published = tmp_path / "published"
    hub.repositories["me/mine"].write_to(published)
    card = (published / "README.md").read_text()
    assert str(tmp_path) not in card
    for each in filter(Path.is_file, published.rglob("*")):
        assert str(tmp_path).encode() not in each.read_bytes(), each
    assert "Trained under a metric, `fisher`" in card
    assert r"| loss weights | metric fisher, ε \= 1 |" in card
    training = yaml.safe_load((published / "out" / "training.yaml").read_text())
    assert training["sae"]["metric_file"] == "metric.safetensors"
    kept = load_file(published / "out" / "metric.safetensors")["metric"]
    expected = found.fisher * (len(kept) / found.fisher.trace())
    torch.testing.assert_close(kept, expected, atol=1e-5, rtol=1e-4)
    plain = SAE.load_from_disk(published / "out")
    assert plain.cfg.architecture() == "topk" and "metric" not in plain.cfg.to_dict()


def test_unmatched_runs_are_called_so(wsae: Wsae, scripts: Path, tmp_path: Path) -> None:
    file = scripts / "weighted" / "runner_cfg.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"lr": 5e-3, "seed": 4}))
    measure(wsae, scripts / "weighted", scripts / "plain", "--baseline", scripts / "plain")
    arguments = ("--baseline", scripts / "plain", "--output", tmp_path / "report")
    code, output = wsae("report", scripts / "weighted", *arguments)
    assert code == 0
    summary = json.loads((tmp_path / "report" / "report.json").read_text())
    assert summary["unmatched"] == {
        "weighted": {
            "seed": [0, 4],
            "lr": [1e-3, 5e-3],
            "sae.normalize_activations": ["none", "expected_average_only_in"],
        }
    }
    assert "Not matched: weighted and what it is compared with differ in seed (0 and 4)" in (
        " ".join(output.split())
    )
    code, output = wsae("report", scripts / "plain", "--baseline", scripts / "weighted")
    assert code == 2
    assert "is no ordinary SAE" in output


def test_the_road_of_a_synthetic_one(
    wsae: Wsae, hub: FakeHub, scripts: Path, tmp_path: Path
) -> None:
    mine = scripts / "synthetic"
    (found,) = measure(wsae, mine)
    assert 0 < values(found)["mcc"] <= 1
    assert wsae("report", mine)[0] == 0
    with pytest.raises(BadInputError, match=r"on a synthetic model; give SAEs of a language model"):
        planned([mine], Request(evals=["core"]))
    code, output = wsae("push", mine, "--repo", "me/mine")
    assert code == 0, output
    assert "scores not measured again" not in output
    code, output = wsae("verify", "me/mine")
    assert (code, "1 SAEs are as recorded" in output) == (0, True), output

    published = tmp_path / "published"
    hub.repositories["me/mine"].write_to(published)
    text = (published / "README.md").read_text()
    front_matter = yaml.safe_load(text.split("---\n")[1])
    assert front_matter["library_name"] == "saelens"
    assert not {"base_model", "datasets", "language"} & set(front_matter)
    assert "nothing here says anything of language models" in text
    row = next(line for line in text.splitlines() if line.startswith("| `synthetic` | 0."))
    for metric in ("mcc", "feature_f1", "uniqueness", "true_l0"):
        assert f" {number(values(found)[metric], None)} |" in row
    assert "wsae bench" not in text

    # Plain SAELens loads it, and the card's synthetic model is the one that it was trained on.
    ran: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0], ran)
    lost = (ran["activations"] - ran["reconstruction"]).var(dim=0).sum()
    explained = 1 - lost / ran["activations"].var(dim=0).sum()
    assert "wsae_plugin" not in type(ran["sae"]).__module__
    assert explained.item() == pytest.approx(values(found)["explained_variance"], abs=0.05)
    code, output = wsae("train", published / "synthetic" / "training.yaml", "--dry-run")
    assert code == 0, output

    # What is published may come from anybody.
    training = published / "synthetic" / "training.yaml"
    said, here = yaml.safe_load(training.read_text()), str(scripts / "synthetic")
    for changed, why in (
        ({"synthetic_model": 5}, "synthetic_model"),
        ({"synthetic_model": None}, "metadata.model_name: missing"),
        ({"synthetic_model": {"num_features": 32, "seed": 0}}, "hidden_dim: missing"),
        ({"synthetic_model": here}, "was a folder of the machine that made it"),
        ({"synthetic_model": "me/worlds:../.."}, "me/worlds:../.. is not on this machine"),
        ({"synthetic_model": "me/worlds:/etc"}, "me/worlds:/etc is not on this machine"),
        ({"device": "cuda:1"}, "was drawn on cuda"),
    ):
        training.write_text(yaml.safe_dump(said | changed))
        code, output = wsae("verify", published, "--json")
        assert (code, "Traceback" in output, why in output) == (1, False, True), output
    training.write_text(yaml.safe_dump(said))

    # It is of one of the two, and says so in both of its files.
    file = published / "synthetic" / "cfg.json"
    cfg = json.loads(file.read_text())
    cfg["metadata"]["model_name"] = "gpt2"
    file.write_text(json.dumps(cfg))
    code, output = wsae("verify", published, "--json")
    assert (code, "the two are not of one run" in output) == (1, True), output


def test_a_synthetic_model_in_a_folder_has_a_name_on_the_hub(
    wsae: Wsae, hub: FakeHub, scripts: Path
) -> None:
    mine, world = scripts / "synthetic", scripts / "world"
    file = mine / "runner_config.json"
    config = json.loads(file.read_text())
    SyntheticModel.load_from_source(SyntheticModelConfig.from_dict(config["synthetic_model"])).save(
        world
    )
    (drawn,) = measure(wsae, mine)
    file.write_text(json.dumps(config | {"synthetic_model": str(world)}))
    (loaded,) = measure(wsae, mine)
    assert values(loaded) == values(drawn)
    push = ("push", mine, "--repo", "me/mine")
    code, output = wsae(*push)
    assert (code, "a folder of this machine" in output and "--base-model" in output) == (2, True)
    code, output = wsae(*push, "--base-model", "me/worlds:small", "--dataset-name", "me/text")
    assert (code, "has no data set; leave it out" in output) == (2, True)
    code, output = wsae(*push, "--base-model", "me/worlds:small")
    assert code == 0, output
    assert "scores not measured again" not in output
    files = hub.repositories["me/mine"].files
    assert not [name for name, content in files.items() if str(scripts).encode() in content]
    assert b"(https://huggingface.co/me/worlds)" in files["README.md"]
    code, output = wsae("verify", "me/mine")
    assert code == 0
    assert "scores not measured again: me/worlds:small is not on this machine" in output
    # One that nobody can draw again is not measured on another one.
    config["synthetic_model"]["seed"] = None
    file.write_text(json.dumps(config))
    code, output = wsae("eval", mine)
    assert (code, "cannot be drawn again" in output) == (2, True)


def test_what_no_file_says_is_asked_for_and_kept(wsae: Wsae, scripts: Path) -> None:
    mine = scripts / "plain"
    (mine / "runner_cfg.json").unlink()
    cfg = json.loads((mine / "cfg.json").read_text())
    said = cfg["metadata"]
    for name in ("model_name", "hook_name"):
        del said[name]
    (mine / "cfg.json").write_text(json.dumps(cfg))
    code, output = wsae("eval", mine)
    assert code == 2
    assert "model_name, hook_name: missing" in output
    assert "--set model_name=… --set hook_name=…" in output
    code, output = wsae("eval", mine, "--set", "context_size=32")
    assert code == 2
    assert "context_size=32: the files of" in output and "say 64" in output
    # What was asked for and then refused is not kept.
    wrong = ("--set", "model_name=bundled/python-neox", "--set", "hook_name=layers.9")
    code, output = wsae("eval", mine, *wrong)
    assert (code, "the model has no such hook" in output) == (2, True), output
    assert not (mine / "config.yaml").exists()
    for wrong, said in (
        ("prepend_boss=false", "--set prepend_boss: unknown field"),
        ("hook_name=5", "hook_name = 5: must be text"),
    ):
        code, output = wsae("eval", mine, "--set", "model_name=gpt2", "--set", wrong)
        assert (code, said in output) == (2, True), output
    assert not (mine / "config.yaml").exists()
    told = ("--set", "model_name=bundled/python-neox", "--set", f"hook_name={own_scripts.HOOK}")
    (found,) = measure(wsae, mine, *told)
    (kept,) = measure(wsae, mine, "--force")
    assert values(found) == values(kept)
    code, output = wsae("push", mine, "--repo", "me/mine", "--dry-run")
    assert (code, "metadata.model_name: missing" in output) == (2, True), output
    # What was kept cannot be changed into what a file says otherwise.
    measure(wsae, mine, "--set", "context_size=64")
    code, output = wsae("eval", mine, "--set", "context_size=32")
    assert (code, "context_size=32: the files of" in output) == (2, True), output


def test_what_no_file_says_of_the_training_is_asked_for_before_it_is_published(
    wsae: Wsae, scripts: Path
) -> None:
    mine = scripts / "plain"
    (mine / "runner_cfg.json").unlink()
    measure(wsae, mine)
    push = ("push", mine, "--repo", "me/mine", "--dry-run")
    code, output = wsae(*push)
    assert (code, "lr: missing" in output, f"`wsae eval {mine} --set" in output) == (2, True, True)
    told = ("lr=1e-3", "lr_scheduler_name=constant", "training_tokens=30720", "seed=0")
    given = [part for text in (*told, "train_batch_size_tokens=256") for part in ("--set", text)]
    measure(wsae, mine, *given)
    assert yaml.safe_load((mine / "config.yaml").read_text())["lr"] == 1e-3
    code, output = wsae(*push)
    assert code == 0, output
    # What the files say may be said again, however it is written.
    measure(wsae, scripts / "weighted", "--set", "lr=1e-3")


def test_folders_here_have_names_on_the_hub(wsae: Wsae, hub: FakeHub, scripts: Path) -> None:
    text = scripts / "text.jsonl"
    text.write_text("\n".join(json.dumps({"text": "x = 1\n" * n}) for n in range(50, 99)))
    local = shutil.copytree(own_scripts.bundled_model_path(), scripts / "model")
    for name in ("cfg.json", "runner_cfg.json"):
        file = scripts / "weighted" / name
        told = json.loads(file.read_text())
        where = told.get("metadata", told) if name == "cfg.json" else told
        where |= {"model_name": str(local), "dataset_path": str(scripts / "text.jsonl")}
        file.write_text(json.dumps(told))
    measure(wsae, scripts / "weighted", "--dataset", "bundled-held-out")
    push = ("push", scripts / "weighted", "--repo", "me/mine")
    code, output = wsae(*push)
    assert code == 2
    assert "--base-model" in output
    code, output = wsae(*push, "--base-model", "ann/neox")
    assert code == 2
    assert "--dataset-name" in output
    code, output = wsae(*push, "--base-model", "ann/neox\n", "--dataset-name", "ann/texts")
    assert (code, "--base-model ann/neox" in output and "alphanumeric" in output) == (2, True)
    measure(wsae, scripts / "plain")
    known = ("push", scripts / "plain", "--repo", "me/mine", "--base-model", "ann/neox")
    code, output = wsae(*known)
    assert (code, "which is no folder of this machine" in output) == (2, True)
    (scripts / "weighted" / "config.yaml").write_text("notes: mine alone\n")
    code, output = wsae(*push, "--base-model", "ann/neox", "--dataset-name", "ann/texts")
    assert code == 0, output
    assert "mine alone" not in str(hub.repositories["me/mine"].files)
    assert "scores not measured again" not in output, "the model is a folder here"
    files = hub.repositories["me/mine"].files
    assert not [name for name, content in files.items() if str(scripts).encode() in content]
    assert b"base_model: ann/neox" in files["README.md"]
    assert json.loads(files["weighted/cfg.json"])["metadata"]["model_name"] == "ann/neox"
    assert yaml.safe_load(files["weighted/training.yaml"])["dataset_path"] == "ann/texts"


def test_the_export_of_a_checkpoint_follows_it(wsae: Wsae, scripts: Path) -> None:
    (checkpoint,) = (scripts / "checkpoints").iterdir()
    measure(wsae, checkpoint)
    scale = json.loads((checkpoint / "activation_scaler.json").read_text())["scaling_factor"]
    trained = load_file(checkpoint / "sae_weights.safetensors")
    exported = load_file(checkpoint / "sae" / "sae_weights.safetensors")
    assert torch.allclose(exported["b_dec"], trained["b_dec"] / scale)
    assert not torch.allclose(exported["b_dec"], trained["b_dec"])
    # What was trained further is exported again, whatever its file says of the time.
    time = (checkpoint / "sae_weights.safetensors").stat().st_mtime
    zero = {name: torch.zeros_like(tensor) for name, tensor in trained.items() if name == "b_dec"}
    save_file(trained | zero, checkpoint / "sae_weights.safetensors")
    os.utime(checkpoint / "sae_weights.safetensors", (time, time))
    measure(wsae, checkpoint)
    assert not load_file(checkpoint / "sae" / "sae_weights.safetensors")["b_dec"].any()
    for wrong in ("null", "0.0", "-1.0", "NaN"):
        scaler = f'{{"scaling_factor": {wrong}, "has_whitening": false}}'
        (checkpoint / "activation_scaler.json").write_text(scaler)
        code, output = wsae("eval", checkpoint)
        assert (code, "scaling_factor = " in output) == (2, True), output


def test_a_script_that_saved_into_a_folder_called_sae(wsae: Wsae, scripts: Path) -> None:
    (before,) = measure(wsae, scripts / "plain")
    inside = scripts / "mine" / "sae"
    shutil.copytree(scripts / "plain", inside, ignore=shutil.ignore_patterns("scores"))
    for given, name in ((scripts / "mine", "mine"), (inside, "mine-sae")):
        (found,) = measure(wsae, given)
        assert found["run"] == name
        assert values(found) == values(before)


def test_what_an_sae_is_decides_what_is_measured_again(wsae: Wsae, scripts: Path) -> None:
    plain = scripts / "plain"
    (before,) = measure(wsae, plain)
    cfg = json.loads((plain / "cfg.json").read_text())
    (plain / "cfg.json").write_text(json.dumps(cfg | {"k": 64}))
    (after,) = measure(wsae, plain)
    assert values(before)["l0"] == 8 and 63 < values(after)["l0"] <= 64
    for k in (-1, 0, 129, "8"):
        (plain / "cfg.json").write_text(json.dumps(cfg | {"k": k}))
        code, output = wsae("eval", plain)
        assert (code, "must be a whole number from 1 to 128" in output) == (2, True), output
    (plain / "cfg.json").write_text(json.dumps(cfg | {"k": 64}))
    # The Γ that a weighted SAE left behind is not the plain one's.
    shutil.copy(scripts / "weighted" / "gamma.safetensors", plain)
    (again,) = measure(wsae, plain)
    assert set(again["per_dimension"]["gamma"]) == {1.0}
    # Scores of other weights are not reported.
    shutil.copy(scripts / "several" / "a" / "sae_weights.safetensors", plain)
    code, output = wsae("report", plain)
    assert (code, "run `wsae eval` again" in " ".join(output.split())) == (2, True)


@pytest.mark.parametrize(
    ("field", "value"),
    # Of heads SAELens's runner says None, that is all of them, and one head is not all of them.
    [("context_size", 32), ("prepend_bos", True), ("hook_head_index", 1)],
)
def test_files_that_contradict_each_other(
    wsae: Wsae, scripts: Path, field: str, value: Any
) -> None:
    file = scripts / "plain" / "cfg.json"
    cfg = json.loads(file.read_text())
    cfg["metadata"][field] = value
    file.write_text(json.dumps(cfg))
    code, output = wsae("eval", scripts / "plain")
    assert code == 2
    assert f"cfg.json: {field} = {json.dumps(value)}: must be" in output


def test_a_transcoder_is_refused(wsae: Wsae, scripts: Path) -> None:
    file = scripts / "plain" / "cfg.json"
    cfg = json.loads(file.read_text())
    cfg["metadata"]["hook_name_out"] = "gpt_neox.layers.2"
    file.write_text(json.dumps(cfg))
    code, output = wsae("eval", scripts / "plain")
    assert (code, "is a transcoder" in output) == (2, True)
