"""A third source is one module: it names its config, and is trained on from a YAML file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE
from sae_lens.synthetic import SyntheticModelConfig, SyntheticSAERunnerConfig
from safetensors.torch import load_file, save_file
from torch import Tensor
from typing_extensions import override

from tests.training.tiny import BATCH, D_MODEL, TinyWorld, sae, write_config
from wsae_plugin.errors import BadInputError
from wsae_plugin.measures.evaluate import EvalSettings, evaluate_runs
from wsae_plugin.sources import Samples, Source, open_source
from wsae_plugin.training import estimate, load_run_config, train


@dataclass(kw_only=True)
class TableRunnerConfig(SyntheticSAERunnerConfig[Any]):
    """What SAELens's synthetic config says of a training, of a table of embeddings."""

    synthetic_model: SyntheticModelConfig | str = ""
    table: str = ""


class TableSource(Source):
    """The rows of a table (n, d_in) in a safetensors file, in their order, over and over.

    A second table in the file, if there is one, is for measures alone.
    """

    runner_configs = {("table", "sae"): TableRunnerConfig}
    n_samples_field, batch_size_field = "training_samples", "batch_size"
    has_language_model = False
    cfg_filename = "runner_cfg.json"

    @override
    @classmethod
    def problems(cls, values: Mapping[str, Any]) -> Iterator[str]:
        if not Path(values["table"]).is_file():
            yield f"table = {values['table']!r}: no such file"

    def __init__(self, cfg: TableRunnerConfig) -> None:
        tables = load_file(cfg.table)
        self._table, self._held_out = tables["table"], tables.get("held_out")
        self._batch_size = cfg.batch_size
        self.name = f"a table of {len(self._table)} rows"
        self.d_in = {"table": self._table.shape[1]}
        self.n_read = 0

    @override
    def __next__(self) -> dict[str, Tensor]:
        rows = torch.arange(self.n_read, self.n_read + self._batch_size)
        self.n_read += self._batch_size
        return {"table": self._table[rows % len(self._table)]}

    @override
    def held_out(self, n_samples: int) -> Samples:
        if self._held_out is None:
            return super().held_out(n_samples)
        return Samples(self._held_out[torch.randint(len(self._held_out), (n_samples,))])

    @override
    def save(self, folder: Path) -> None:
        (folder / "n_read").write_text(str(self.n_read))

    @override
    def load(self, folder: Path) -> None:
        self.n_read = int((folder / "n_read").read_text())


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    table = torch.randn(1000, D_MODEL, generator=torch.manual_seed(0))
    save_file({"table": table}, tmp_path / "table.safetensors")
    return {
        "table": str(tmp_path / "table.safetensors"),
        "sae": sae(),
        "training_samples": 10 * BATCH,
        "batch_size": BATCH,
        "n_checkpoints": 1,
    }


def test_a_source_is_opened_from_its_config(tmp_path: Path, values: dict[str, Any]) -> None:
    config = load_run_config(write_config(tmp_path / "c.yaml", values))
    source = open_source(config.runner_config())
    assert isinstance(source, TableSource)
    assert (source.metadata("table"), source.name) == ({}, "a table of 1000 rows")
    assert (config.seed, config.has_language_model) == (42, False)
    assert estimate(config).n_steps == 10
    with pytest.raises(BadInputError, match="table = 'nowhere': no such file"):
        load_run_config(tmp_path / "c.yaml", ["table=nowhere"])
    with pytest.raises(BadInputError, match="tabel: unknown field; did you mean 'table'"):
        load_run_config(tmp_path / "c.yaml", ["tabel=x"])


def test_a_yaml_of_any_source_is_trained_and_resumed(
    world: TinyWorld, tmp_path: Path, values: dict[str, Any]
) -> None:
    config = load_run_config(write_config(tmp_path / "c.yaml", values))
    whole = train(config, tmp_path / "whole")
    (checkpoint,) = (tmp_path / "whole" / "checkpoints").iterdir()
    assert int((checkpoint / "n_read").read_text()) == int(checkpoint.name)
    own = load_run_config(tmp_path / "whole" / "config.yaml")
    assert own.values == config.values
    # As it was when a kill came after the checkpoint.
    record = tmp_path / "whole" / "run.json"
    record.write_text(record.read_text().replace('"finished"', '"interrupted"'))
    expected = load_file(whole.exports["sae"] / "sae_weights.safetensors")
    resumed = train(own, tmp_path / "whole", resume=True)
    found = load_file(resumed.exports["sae"] / "sae_weights.safetensors")
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    # The same file without a table is a run on something else.
    other = load_run_config(write_config(tmp_path / "s.yaml", world.synthetic()))
    assert other.source is not TableSource


def test_an_sae_of_any_source_is_measured(tmp_path: Path, values: dict[str, Any]) -> None:
    """By what asks no language model and needs no known features."""
    run = tmp_path / "run"
    trained = train(load_run_config(write_config(tmp_path / "c.yaml", values)), run)
    settings = EvalSettings(batches=3, batch_size_prompts=2)
    with pytest.raises(BadInputError, match="table of 1000 rows: has no samples that a training"):
        evaluate_runs([run], settings)
    with pytest.raises(BadInputError, match="--dataset x: this is a run on a table, which"):
        evaluate_runs([run], replace(settings, dataset="x"))
    tables = load_file(values["table"])
    row = torch.randn(1, D_MODEL, generator=torch.manual_seed(1))
    held_out = torch.cat([row, -row])
    save_file({**tables, "held_out": held_out}, values["table"])
    (document,) = evaluate_runs([run], settings)
    scores = {score["metric"]: score["value"] for score in document["scores"]}
    assert document["held_out"]["dataset"] == "table"
    assert document["held_out"]["tokens"] == 3 * 2 * 128
    assert {"explained_variance", "l0", "dead_share", "seed_consistency"} <= scores.keys()
    assert scores.keys().isdisjoint({"ce_loss_recovered", "kl_divergence", "token_consistency"})
    assert scores.keys().isdisjoint({"mcc", "true_l0"})
    sae = SAE.load_from_disk(trained.exports["sae"])
    with torch.no_grad():
        ratios = sae(held_out).norm(dim=1) / held_out.norm(dim=1)
    assert ratios.min() <= scores["norm_ratio"] <= ratios.max()
