"""What kind of text a token is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from wsae_plugin.assets import bundled_model_path
from wsae_plugin.measures.token_classes import CLASSES, token_class, token_classes
from wsae_plugin.measures.top_tokens import HeldOutTokens, TokenEvidence


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\n", "newline"),
        ("\n        ", "newline"),
        ("    ", "space"),
        ("\t", "space"),
        ("", "space"),
        ("return", "word"),
        (" return", "word after a space"),
        ("_name", "word"),
        ("été", "word"),
        ("42", "digits"),
        (" 7", "digits"),
        ("():", "punctuation"),
        (" ==", "punctuation"),
        ("_", "punctuation"),
        ("\ufffd", "punctuation"),
        ("x1", "mixed"),
        ("a.b", "mixed"),
        ("a b", "mixed"),
    ],
)
def test_classes(text: str, expected: str) -> None:
    assert token_class(text) == expected


def test_classes_of_the_bundled_tokenizer() -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(bundled_model_path())
    ids = torch.tensor(tokenizer(" return self\n    pass  # 12")["input_ids"])
    classes = [CLASSES[label] for label in token_classes(ids, tokenizer).tolist()]
    assert classes[0] == "word after a space"
    assert "newline" in classes
    assert "digits" in classes
    assert len(classes) == len(ids)


def test_sentencepiece_keeps_its_leading_space() -> None:
    class Pieces:
        def convert_ids_to_tokens(self, token: int) -> str:
            return ["▁the", "the"][token]

        def decode(self, _: list[int]) -> str:
            return "the"

    classes = token_classes(torch.tensor([0, 1, 0]), Pieces())
    assert [CLASSES[label] for label in classes.tolist()] == [
        "word after a space",
        "word",
        "word after a space",
    ]


def test_without_a_tokenizer_there_are_no_classes() -> None:
    tokens = HeldOutTokens.of([torch.tensor([[1, 2, 2, 2, 2, 2]])], [], tokenizer=None)
    assert list(tokens.kinds) == ["token", "context"]
    positions = torch.tensor([[1, 2, 3, 4, 5]])
    evidence = TokenEvidence(tokens, 0, (positions, positions))
    assert evidence.specificity("token", positions).consistency.value == 1
    assert evidence.specificity("context", positions).consistency.value == pytest.approx(6 / 10)
