"""SAEBench on SAEs as people's own scripts leave them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import own_scripts
from wsae_plugin.errors import BadInputError
from wsae_plugin.saebench.bench import bench
from wsae_plugin.saebench.request import Request

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*dataset contains fewer samples:UserWarning"),
    pytest.mark.filterwarnings("ignore:Dataset is not tokenized:UserWarning"),
    pytest.mark.filterwarnings("ignore:All samples in the training dataset"),
    pytest.mark.filterwarnings("ignore:.*SAE has non-empty model_from"),
]


def test_core(tmp_path: Path) -> None:
    model = own_scripts.bundled_hugging_face_model()
    one = own_scripts.train_one(tmp_path / "1", own_scripts.jumprelu(), model, n_checkpoints=1)
    (checkpoint,) = (tmp_path / "1" / "checkpoints").glob("*/*")
    dense = own_scripts.train_one(
        tmp_path / "2", own_scripts.topk(), model, "gpt_neox.layers.1.attention.dense"
    )
    several = {"a": own_scripts.topk(weighted=False), "b": own_scripts.topk()}
    paths = [
        one.rename(tmp_path / "jumprelu"),
        checkpoint,
        dense.rename(tmp_path / "dense"),
        own_scripts.train_several(tmp_path / "3", several, model).rename(tmp_path / "several"),
    ]
    document = bench(paths, tmp_path / "bench", Request(evals=["core"], noise_seed=None))
    found = {score["run"] for score in document["scores"]}
    assert found == {"jumprelu", f"{checkpoint.parent.name}-{checkpoint.name}", "dense"} | {
        "several-a",
        "several-b",
    }
    for path in (paths[0], paths[2], paths[3] / "a"):
        scores: dict[str, Any] = json.loads((path / "scores" / "saebench.json").read_text())
        assert scores["scores"]


def test_what_saebench_cannot_measure_is_refused(tmp_path: Path) -> None:
    synthetic = own_scripts.train_synthetic(tmp_path)
    with pytest.raises(BadInputError, match="give SAEs of a language model"):
        bench([synthetic], tmp_path / "bench", Request(evals=["core"]))
