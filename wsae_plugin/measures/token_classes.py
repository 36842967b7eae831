"""What kind of text a token is, from its characters alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CLASSES = (
    "newline",
    "space",
    "digits",
    "word",
    "word after a space",
    "punctuation",
    "mixed",
)


def token_class(text: str) -> str:
    """One of `CLASSES`.

    "newline" is white space with a line break (and the indentation after it), "space" other white
    space; "word" is letters and underscores, "digits" digits, "punctuation" neither letters nor
    digits nor white space, "mixed" the rest. A leading space counts for words only.

    Args:
        text: the decoded token.
    """
    stripped = text.strip()
    if not stripped:
        return "newline" if "\n" in text or "\r" in text else "space"
    if stripped.isdigit():
        return "digits"
    letters = stripped.replace("_", "")
    if letters.isalpha():
        return "word after a space" if text[0].isspace() else "word"
    if not any(character.isalnum() or character.isspace() for character in stripped):
        return "punctuation"
    return "mixed"


def token_classes(token_ids: Tensor, tokenizer: Any) -> Tensor:
    """The class of each token as an index into `CLASSES`.

    Args:
        token_ids: shape (n_tokens,), int64.
        tokenizer: a Hugging Face tokenizer.

    Returns:
        Shape (n_tokens,), int64.
    """
    distinct, where = token_ids.unique(return_inverse=True)
    texts = [_text(int(token), tokenizer) for token in distinct.tolist()]
    return torch.tensor([CLASSES.index(token_class(text)) for text in texts])[where]


def _text(token: int, tokenizer: Any) -> str:
    """The token's characters; decoding one alone would lose SentencePiece's leading space."""
    piece = tokenizer.convert_ids_to_tokens(token)
    if isinstance(piece, str) and piece.startswith("▁"):
        return piece.replace("▁", " ")
    return tokenizer.decode([token])
