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
        self._ablated: dict[Place, tuple[Tensor, Tensor]] = {}

    def samples(self, place: Place) -> Tensor:
        """x of the tokens that count, shape (n, d_in), in the order of the text."""
        return self.activations[place][self._keep_at(place)]

    def divergence(self, place: Place, x_hat: Tensor) -> tuple[Tensor, Tensor]:
        """What replacing x costs, and where it would cost less.

        Args:
            place: One of the places.
            x_hat: In place of `samples`, shape (n, d_in).

        Returns:
            KL(the model ‖ the model with x̂), nats per token that counts; and its gradient in x̂,
            shape (n, d_in). The model's own parameters get none.
        """
        x = self.activations[place]
        replaced = x_hat.detach().to(x).requires_grad_()
        with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
            substitute = x.masked_scatter(self._keep_at(place).unsqueeze(-1), replaced)
            total = self._losses_with(place, substitute, where=self._keep)[1]
            # Of the sum: the shares of a mean may be too small for the model's precision.
            (gradient,) = torch.autograd.grad(total, replaced)
        n = len(x_hat)
        return total.detach() / n, gradient.to(x_hat) / n

    def losses(self, place: Place, x_hat: Tensor) -> dict[str, Tensor]:
        """What `HeldOutSums` has of the model, with x̂ (batch, context, d_in) in place of x."""
        ce_loss, kl_divergence = self._losses_with(place, x_hat, where=self._keep)
        if place not in self._ablated:
            everywhere = torch.ones_like(self._keep)
            zeros = torch.zeros_like(self.activations[place])
            self._ablated[place] = self._losses_with(place, zeros, where=everywhere)
        ce_loss_ablated, kl_divergence_ablated = self._ablated[place]
        return {
            "predictions": self._keep[:, :-1].sum(),
            "ce_loss": self._ce_loss,
            "ce_loss_with_sae": ce_loss,
            "ce_loss_with_ablation": ce_loss_ablated,
            "kl_divergence": kl_divergence,
            "kl_divergence_with_ablation": kl_divergence_ablated,
        }

    def _keep_at(self, place: Place) -> Tensor:
        return self._keep.to(self.activations[place].device)

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
