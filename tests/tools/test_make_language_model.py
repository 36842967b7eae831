from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tools import make_language_model as maker
from tools.training_loop import Budget


def test_stream_leads_every_text_with_end_of_text() -> None:
    tokenizer = maker.train_tokenizer(["ab ab ab"])
    tokens = maker.token_stream(tokenizer, ["ab", "ab ab"])
    assert (tokens == 0).nonzero().flatten().tolist()[0] == 0
    assert tokenizer.decode(tokens) == "<|endoftext|>ab<|endoftext|>ab ab"


def test_whole_run_on_a_small_text_is_complete_and_repeatable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "".join(f"def f{i}(x):\n    return x + {i}\n\n\n" for i in range(200))
    monkeypatch.setattr(maker, "VOCAB_SIZE", 512)
    monkeypatch.setitem(maker.ARCHITECTURE, "vocab_size", 512)
    monkeypatch.setattr(maker, "bundled_dataset", lambda _: Dataset.from_dict({"text": [text]}))

    records = [
        maker.make_language_model(tmp_path / name, Budget(tokens=3 * 2048), seed=3)
        for name in ("one", "two")
    ]
    assert records[0]["tokens_trained_on"] == 3 * 2048
    assert records[0]["held_out_nats_per_token"] == records[1]["held_out_nats_per_token"]
    assert json.loads((tmp_path / "one/training.json").read_text()) == records[0]
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("one", "two")] == []

    stored = load_file(tmp_path / "one/model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.float16}
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "one")
    assert model.dtype == torch.float32
    assert torch.equal(
        model.get_input_embeddings().weight, stored["gpt_neox.embed_in.weight"].float()
    )
    assert torch.equal(model.get_output_embeddings().weight, stored["embed_out.weight"].float())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "one")
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_command_line_refuses_a_budget_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        maker.main(["--tokens", "0"])
    assert exit_info.value.code == 2
    assert "give a positive number" in capsys.readouterr().err
