"""One pass of the language model over a batch, and what replacing activations costs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class ModelLoss:
    """What the model lost on a batch, summed over the tokens that count; float64, on the CPU.

    Attributes:
        ce_loss: Σ cross-entropy of the next token, nats.
        kl_divergence: Σ KL(the model as it is ‖ the model as changed), nats.
    """

    ce_loss: Tensor
    kl_divergence: Tensor


class ModelRun:
    """The language model on one batch: x at each hook, and what replacing x costs.

    Args:
        model: the model as SAELens wraps it.
        tokens: shape (batch, context).
        keep: where tokens count, shape (batch, context), bool.
        hooks: names of the hooks.
    """

    def __init__(self, model: Any, tokens: Tensor, keep: Tensor, hooks: list[str]) -> None:
        self.model, self.tokens, self.keep = model, tokens, keep
        output, cache = model.run_with_cache(
            tokens, names_filter=hooks, return_type="both", loss_per_token=True, prepend_bos=False
        )
        self.activations: dict[str, Tensor] = {hook: cache[hook] for hook in hooks}
        self._log_probs = [
            self._log_probs_of(*prompt) for prompt in zip(output[0], keep, strict=True)
        ]
        self.ce_loss = self._summed(output[1])
        self.ablated = {
            hook: self.loss_with(hook, torch.zeros_like(x), where=torch.ones_like(keep))
            for hook, x in self.activations.items()
        }

    def loss_with(self, hook_name: str, substitute: Tensor, where: Tensor) -> ModelLoss:
        """The loss with `substitute` (batch, context, ...) in place of x, `where` it is True."""

        def replace(activations: Tensor, hook: Any) -> Tensor:  # noqa: ARG001 - called by name
            mask = where.reshape(*where.shape, *[1] * (activations.ndim - where.ndim))
            return torch.where(mask, substitute.reshape(activations.shape), activations)

        output = self.model.run_with_hooks(
            self.tokens,
            return_type="both",
            loss_per_token=True,
            fwd_hooks=[(hook_name, replace)],
            prepend_bos=False,
        )
        return ModelLoss(self._summed(output[1]), self._kl_divergence(output[0]))

    def _summed(self, ce_loss: Tensor) -> Tensor:
        return ce_loss[self.keep[:, :-1].to(ce_loss.device)].double().sum().cpu()

    def _kl_divergence(self, logits: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64, device=logits.device)
        # Prompt by prompt: temporaries as large as a batch's logits would double what is held.
        for target, prompt, keep in zip(self._log_probs, logits, self.keep, strict=True):
            changed = self._log_probs_of(prompt, keep)
            kl = torch.nn.functional.kl_div(changed, target, reduction="none", log_target=True)
            total += kl.sum(dim=-1).double().sum()
        return total.cpu()

    @staticmethod
    def _log_probs_of(logits: Tensor, keep: Tensor) -> Tensor:
        """Of the tokens of a prompt that count, (n_tokens, vocabulary), float32."""
        return logits[keep.to(logits.device)].float().log_softmax(dim=-1)
