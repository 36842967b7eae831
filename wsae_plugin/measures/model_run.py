"""One pass of the language model over a batch, and what replacing activations costs it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class ModelRun:
    """The language model on one batch: x at each hook, and what replacing x costs.

    Args:
        model: the model as SAELens wraps it; its parameters are left alone.
        tokens: shape (batch, context).
        keep: where tokens count, shape (batch, context), bool.
        hooks: names of the hooks.
    """

    def __init__(self, model: Any, tokens: Tensor, keep: Tensor, hooks: list[str]) -> None:
        self._model, self._tokens, self._keep = model, tokens, keep
        output, cache = model.run_with_cache(
            tokens, names_filter=hooks, return_type="both", loss_per_token=True, prepend_bos=False
        )
        self.activations: dict[str, Tensor] = {
            hook: cache[hook].flatten(start_dim=2) for hook in hooks
        }
        self._log_probs = [
            self._log_probs_of(*prompt) for prompt in zip(output[0], keep, strict=True)
        ]
        self._ce_loss = self._summed(output[1])
        self._ablated = {
            hook: self._losses_with(hook, torch.zeros_like(x), where=torch.ones_like(keep))
            for hook, x in self.activations.items()
        }

    def losses(self, hook_name: str, x_hat: Tensor) -> dict[str, Tensor]:
        """What `HeldOutSums` has of the model, with x̂ (batch, context, d_in) in place of x."""
        ce_loss, kl_divergence = self._losses_with(hook_name, x_hat, where=self._keep)
        ce_loss_ablated, kl_divergence_ablated = self._ablated[hook_name]
        return {
            "predictions": self._keep[:, :-1].sum(),
            "ce_loss": self._ce_loss,
            "ce_loss_with_sae": ce_loss,
            "ce_loss_with_ablation": ce_loss_ablated,
            "kl_divergence": kl_divergence,
            "kl_divergence_with_ablation": kl_divergence_ablated,
        }

    def _losses_with(
        self, hook_name: str, substitute: Tensor, where: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Σ cross-entropy and Σ KL(the model as it is ‖ as changed) over the tokens that count.

        In nats, with `substitute` in place of x `where` it is True.
        """

        def replace(activations: Tensor, hook: Any) -> Tensor:  # noqa: ARG001 - called by name
            mask = where.to(activations.device)
            mask = mask.reshape(*where.shape, *[1] * (activations.ndim - where.ndim))
            return torch.where(mask, substitute.reshape(activations.shape), activations)

        logits, ce_loss = self._model.run_with_hooks(
            self._tokens,
            return_type="both",
            loss_per_token=True,
            fwd_hooks=[(hook_name, replace)],
            prepend_bos=False,
        )
        return self._summed(ce_loss), self._kl_divergence(logits)

    def _summed(self, ce_loss: Tensor) -> Tensor:
        return ce_loss[self._keep[:, :-1].to(ce_loss.device)].double().sum().cpu()

    def _kl_divergence(self, logits: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64, device=logits.device)
        # Prompt by prompt: temporaries as large as a batch's logits would double what is held.
        for target, prompt, keep in zip(self._log_probs, logits, self._keep, strict=True):
            changed = self._log_probs_of(prompt, keep)
            kl = torch.nn.functional.kl_div(changed, target, reduction="none", log_target=True)
            total += kl.sum(dim=-1).double().sum()
        return total.cpu()

    @staticmethod
    def _log_probs_of(logits: Tensor, keep: Tensor) -> Tensor:
        """Of the tokens of a prompt that count, (n_tokens, vocabulary), float32."""
        return logits[keep.to(logits.device)].float().log_softmax(dim=-1)
