"""One pass of the language model over a batch, and what replacing activations costs it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Place = tuple[str, int | None]
"""The name of a hook, and one of its heads or None."""


class ModelRun:
    """The language model on one batch: x at each hook, and what replacing x costs.

    Args:
        model: the model as SAELens wraps it; its parameters are left alone.
        tokens: shape (batch, context).
        keep: where tokens count, shape (batch, context), bool.
        places: hooks, each with a head or None for all of what is there.
    """

    def __init__(self, model: Any, tokens: Tensor, keep: Tensor, places: list[Place]) -> None:
        self._model, self._tokens, self._keep = model, tokens, keep
        output, cache = model.run_with_cache(
            tokens,
            names_filter=[hook for hook, _ in places],
            return_type="both",
            loss_per_token=True,
            prepend_bos=False,
        )
        self.activations: dict[Place, Tensor] = {
            place: _part(cache[place[0]], place).flatten(start_dim=2) for place in places
        }
        self._log_probs = [
            self._log_probs_of(*prompt) for prompt in zip(output[0], keep, strict=True)
        ]
        self._ce_loss = self._summed(output[1])
        self._ablated = {
            place: self._losses_with(place, torch.zeros_like(x), where=torch.ones_like(keep))
            for place, x in self.activations.items()
        }

    def losses(self, place: Place, x_hat: Tensor) -> dict[str, Tensor]:
        """What `HeldOutSums` has of the model, with x̂ (batch, context, d_in) in place of x."""
        ce_loss, kl_divergence = self._losses_with(place, x_hat, where=self._keep)
        ce_loss_ablated, kl_divergence_ablated = self._ablated[place]
        return {
            "predictions": self._keep[:, :-1].sum(),
            "ce_loss": self._ce_loss,
            "ce_loss_with_sae": ce_loss,
            "ce_loss_with_ablation": ce_loss_ablated,
            "kl_divergence": kl_divergence,
            "kl_divergence_with_ablation": kl_divergence_ablated,
        }

    def _losses_with(
        self, place: Place, substitute: Tensor, where: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Σ cross-entropy and Σ KL(the model as it is ‖ as changed) over the tokens that count.

        In nats, with `substitute` in place of x `where` it is True.
        """

        def replace(activations: Tensor, hook: Any) -> Tensor:  # noqa: ARG001 - called by name
            changed = activations.clone()
            part = _part(changed, place)
            mask = where.to(part.device)
            mask = mask.reshape(*where.shape, *[1] * (part.ndim - where.ndim))
            part.copy_(torch.where(mask, substitute.reshape(part.shape), part))
            return changed

        logits, ce_loss = self._model.run_with_hooks(
            self._tokens,
            return_type="both",
            loss_per_token=True,
            fwd_hooks=[(place[0], replace)],
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


def _part(activations: Tensor, place: Place) -> Tensor:
    """What is at a place, of activations (batch, context, …) of its hook."""
    head = place[1]
    return activations if head is None else activations[:, :, head]
