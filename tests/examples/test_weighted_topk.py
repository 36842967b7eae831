"""The example differs from SAELens's script by one line, and both run."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE

EXAMPLE = Path(__file__).parents[2] / "examples" / "weighted_topk.py"
PLAIN = "    # sae=TopKTrainingSAEConfig("
WEIGHTED = "    sae=WeightedTopKTrainingSAEConfig("


def saelens_script() -> str:
    """The example with the one line as SAELens has it."""
    lines = EXAMPLE.read_text().splitlines(keepends=True)
    (plain,) = [line for line in lines if line.startswith(PLAIN)]
    changed = [line for line in lines if line.startswith(WEIGHTED)]
    assert len(changed) == 1
    return "".join(plain.replace("# ", "") if line in changed else line for line in lines)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Dataset is not tokenized:UserWarning")
@pytest.mark.filterwarnings("ignore:The training dataset contains fewer samples:UserWarning")
def test_one_changed_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.py").write_text(saelens_script())
    saes: dict[str, Any] = {}
    for name, script in {"plain": tmp_path / "plain.py", "weighted": EXAMPLE}.items():
        torch.manual_seed(0)
        saes[name] = runpy.run_path(str(script), run_name="__main__")["sparse_autoencoder"]
        published = SAE.load_from_disk("weighted_topk")
        assert published.cfg.architecture() == "topk"
    assert saes["plain"].cfg.architecture() == "topk"
    assert saes["weighted"].cfg.architecture() == "weighted_topk"
    assert saes["weighted"].gamma.max() > 1.5 * saes["weighted"].gamma.median()
    assert not torch.equal(saes["plain"].W_dec, saes["weighted"].W_dec)
