"""What the top tokens of a latent can have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from wsae_plugin.evaluation.interpretability import HeldOutTokens, Specificity, specificity
from wsae_plugin.evaluation.token_classes import token_classes


@dataclass(frozen=True)
class TokenLabels:
    """Labels of the held-out tokens.

    Attributes:
        kinds: `token` (its id), `context` (the id before it) and, with a tokenizer, `token_class`
            → the label of every token, shape (n_tokens,), int64.
        tokens: the tokens.
        seed: of the shuffled controls.
    """

    kinds: Mapping[str, Tensor]
    tokens: HeldOutTokens
    seed: int

    @classmethod
    def of(cls, tokens: HeldOutTokens, tokenizer: Any, seed: int) -> TokenLabels:
        """Label tokens; without a tokenizer (None) there is no `token_class`."""
        kinds = {"token": tokens.ids, "context": tokens.previous}
        if tokenizer is not None:
            kinds["token_class"] = token_classes(tokens.ids, tokenizer)
        return cls(kinds, tokens, seed)

    def specificity(self, kind: str, positions: Tensor) -> Specificity:
        """How consistent latents are in one kind of label.

        Args:
            kind: one of `kinds`.
            positions: of each latent's top tokens, shape (d_sae, n_top), −1 where there is none.
        """
        return specificity(self.kinds[kind], positions, self.tokens.contexts, self.seed)
