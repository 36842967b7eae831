"""A third source is one subclass: it is opened from its config and trained on by the same loop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typing_extensions import override

from tests.training.tiny import BATCH, D_MODEL, TinyWorld, write_config
from wsae_plugin.sources import Source, open_source
from wsae_plugin.training import RunFolder, load_run_config
from wsae_plugin.training.loop import TrainingLoop
from wsae_plugin.training.saes import build_saes


@dataclass
class TableConfig:
    """A table of embeddings, of shape (n, d_in)."""

    table: Tensor
    batch_size: int


class TableSource(Source):
    """Its rows in their order, over and over."""

    opened_from = (TableConfig,)
    cannot_give = frozenset({"language_model", "ground_truth"})
    cfg_filename = "runner_cfg.json"

    def __init__(self, cfg: TableConfig) -> None:
        self.name = f"a table of {len(cfg.table)} rows"
        self.d_in = {"table": cfg.table.shape[1]}
        self.n_read = 0
        self._cfg = cfg

    @override
    def __next__(self) -> dict[str, Tensor]:
        rows = torch.arange(self.n_read, self.n_read + self._cfg.batch_size)
        self.n_read += self._cfg.batch_size
        return {"table": self._cfg.table[rows % len(self._cfg.table)]}

    @override
    def save(self, folder: Path) -> None:
        (folder / "n_read").write_text(str(self.n_read))

    @override
    def load(self, folder: Path) -> None:
        self.n_read = int((folder / "n_read").read_text())


@pytest.fixture
def cfg() -> TableConfig:
    return TableConfig(torch.randn(1000, D_MODEL, generator=torch.manual_seed(0)), BATCH)


def test_a_source_is_opened_from_its_config(cfg: TableConfig) -> None:
    source = open_source(cfg)
    assert isinstance(source, TableSource)
    assert source.metadata("table") == {}


def test_the_loop_trains_on_any_source_and_resumes_it(
    world: TinyWorld, tmp_path: Path, cfg: TableConfig
) -> None:
    config = load_run_config(write_config(tmp_path / "c.yaml", world.synthetic(n_checkpoints=1)))

    def loop(name: str) -> TrainingLoop:
        (tmp_path / name).mkdir()
        return TrainingLoop(
            config, build_saes(config), open_source(cfg), RunFolder(tmp_path / name)
        )

    whole = loop("whole")
    whole.run()
    (checkpoint,) = (tmp_path / "whole" / "checkpoints").iterdir()
    assert int((checkpoint / "n_read").read_text()) == int(checkpoint.name)
    resumed = loop("resumed")
    resumed.run(checkpoint)
    assert (resumed.n_steps, resumed.n_samples) == (10, 10 * BATCH)
    for name in ("whole", "resumed"):
        assert (tmp_path / name / "sae" / "cfg.json").is_file()
    expected, found = whole.trainers["sae"].sae, resumed.trainers["sae"].sae
    assert torch.equal(found.W_dec, expected.W_dec)
