"""Whether cfg.json and the config of the training agree, and what `wsae verify` does if not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.hostile import change_yaml, correct_checksums
from tests.hub.conftest import Wsae
from tests.hub.server import FakeHub
from wsae_plugin.errors import BadInputError
from wsae_plugin.measures.agreement import SAYS_NOTHING, disagreements
from wsae_plugin.measures.evaluated_run import config_for_here
from wsae_plugin.yaml_file import read_yaml

pytestmark = [
    pytest.mark.filterwarnings("ignore:All samples in the training dataset"),
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]


def cfg_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "sae" / "cfg.json").read_text())


def unlike(cfg: dict[str, Any], run: Path) -> dict[str, tuple[str, str]]:
    return disagreements(cfg, config_for_here(read_yaml(run / "config.yaml"), "config.yaml"))


def test_what_was_trained_agrees(trained: Path, compared: Path) -> None:
    """Of one run and of a comparison, with every control."""
    runs = [trained / "ordinary", trained / "weighted", *compared.glob("runs/*")]
    assert len(runs) == 18
    for run in runs:
        assert unlike(cfg_of(run), run) == {}


def test_a_whole_number_is_what_saelens_says_of_a_float(trained: Path) -> None:
    """`BatchTopKTrainingSAEConfig(k=8)` of a script says 8, and the field is a float."""
    cfg = cfg_of(trained / "weighted")
    details = cfg["metadata"]["training_architecture_details"]
    details["k"] = 8
    assert unlike(cfg, trained / "weighted") == {}
    details["k"] = 9
    assert unlike(cfg, trained / "weighted") == {"k": ("9", "8.0")}
    details["k"], cfg["metadata"]["prepend_bos"] = 8.0, 1
    assert unlike(cfg, trained / "weighted") == {"prepend_bos": ("1", "true")}


CHANGES: list[tuple[str, Any]] = [
    ("model_name", "gpt2"),
    ("model_class_name", "AutoModelForCausalLM"),
    ("model_from_pretrained_kwargs", {"first_n_layers": 1}),
    ("hook_name", "blocks.0.hook_resid_post"),
    ("dataset_path", "somebody/else"),
    ("context_size", 32),
    ("prepend_bos", False),
    ("exclude_special_tokens", True),
    ("sae.d_in", 64),
    ("sae.d_sae", 128),
    ("sae.alpha", 1.0),
    ("sae.gamma_proxy", "kurtosis"),
]


def changed(run: Path, field: str, value: Any) -> None:
    section, _, name = field.rpartition(".")
    config = yaml.safe_load((run / "config.yaml").read_text())
    (config[section] if section else config)[name] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.parametrize(("field", "value"), CHANGES, ids=lambda value: str(value))
def test_what_does_not_agree(runs: list[Path], wsae: Wsae, field: str, value: Any) -> None:
    run = runs[1]
    cfg, name = cfg_of(run), field.rpartition(".")[2]
    changed(run, field, value)
    said = unlike(cfg, run)
    assert said[name][1] == json.dumps(value)
    code, output = wsae("push", run, "--repo", "me/mine", "--dry-run")
    assert code == 2
    assert "they are not of one run" in output
    # A field that is left out of cfg.json must not leave it to the other.
    if not field.startswith("sae.") and name in ("model_class_name", "dataset_path"):
        del cfg["metadata"][name]
        assert unlike(cfg, run)[name][0] == SAYS_NOTHING


@pytest.mark.parametrize(
    "training", ["synthetic_model: {hidden_dim: 32}\nsae: {architecture: topk}", "saes: {}", "[]"]
)
def test_a_training_of_another_kind(runs: list[Path], training: str) -> None:
    (runs[0] / "config.yaml").write_text(training)
    with pytest.raises(BadInputError, match="config.yaml|config of the training"):
        unlike(cfg_of(runs[0]), runs[0])


def test_a_publication_that_does_not_agree_is_not_measured(
    hub: FakeHub, wsae: Wsae, runs: list[Path], tmp_path: Path
) -> None:
    assert wsae("push", *runs, "--repo", "me/mine")[0] == 0
    folder = tmp_path / "publication"
    hub.repositories["me/mine"].write_to(folder)
    change_yaml(folder / "weighted" / "training.yaml", model_name="gpt2")
    change_yaml(folder / "ordinary" / "training.yaml", lr="fast")
    correct_checksums(folder)
    code, output = wsae("verify", folder, "--json")
    assert code == 1
    found = json.loads(output.partition("\nwsae: ")[0])
    root = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(root | {"saes": {}}))
    code, output = wsae("verify", folder)
    assert (code, "names none" in output) == (2, True), output
    assert found["measured"] == []
    assert set(found["not_measured"]) == {"ordinary", "weighted"}
    assert [(d["sae_id"], d["what"]) for d in found["differences"]] == [
        ("ordinary", "training.yaml can be read"),
        ("weighted", "model_name in training.yaml"),
    ]
