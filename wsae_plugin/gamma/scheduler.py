"""When Γ is estimated, when it is frozen, and how it survives a checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from wsae_plugin.compilation import not_compiled
from wsae_plugin.errors import RunFailedError
from wsae_plugin.gamma.consistency import LabelEvidence
from wsae_plugin.gamma.moments import Moments, as_float64, merge, moments_of
from wsae_plugin.gamma.proxies import Proxy, ProxyEvidence, needs_of, no_labels, proxy_named
from wsae_plugin.gamma.statistics import GammaStatistics
from wsae_plugin.gamma.weights import (
    Normalization,
    check_proxy,
    effective_dimensions,
    gamma_from_proxy,
    max_over_median,
)

logger = logging.getLogger(__name__)

# Below this share of d_in effective dimensions, Γ comes with a warning.
_CONCENTRATED = 0.1
# On the bundled model, 10 batches of 512 tokens give 0.8 to 1 times the effective dimensions that
# 100 give; one batch may give half of them.
_SETTLED = 10
"""Steps after which it is known well enough how concentrated Γ is."""
_FIRST_LOOK = 100
"""Steps after which a proxy that orders nothing is named where Γ is never frozen."""


class GammaScheduler(nn.Module):
    """Γ of one SAE: estimated over the first `freeze_step` steps, then frozen; or never frozen.

    A rule that is pure in the step, over two persistent buffers: `statistics` (what Γ is computed
    from, exact under any cast, since SAELens casts every floating tensor of a checkpoint to the
    SAE's dtype) and `gamma` (what it comes to, shape (d_in,), at least float32, recomputed after
    every load and cast).

    Args:
        d_in: input dimensions of the SAE.
        d_sae: latents of the SAE.
        proxy: a name in the table of proxies.
        normalization: see `gamma_from_proxy`.
        clip: see `gamma_from_proxy`.
        freeze_step: steps over which Γ is estimated; None: all of them.
        alpha_warm_up_steps: steps over which SAELens warms α up linearly from 0.
        file: for the proxy "file".
        seed: for the shuffled proxies.
        dtype: the SAE's.
        device: the SAE's.

    Attributes:
        labels: gives of which classes the samples are that excite each input dimension, for the
            proxies that are made from them, at step 0 only. Whoever has labels sets it before; it
            is in no checkpoint, and a resumed run needs none.
        shuffled_labels: the same with the labels permuted over all samples.
        of_all_latents: makes of rows for this process's latents those for all, in order, where
            several processes share an SAE.

    Example:
        >>> gamma = GammaScheduler(d_in=2, d_sae=8, freeze_step=1)
        >>> x = torch.tensor([[0.0, 0.0], [2.0, 4.0]])
        >>> gamma.update(step=0, alpha=0.5, activations=x, decoder=lambda: torch.zeros(8, 2))
        >>> gamma.gamma.square()  # variances 1 and 4: 1·5/17 + 4·20/17 = 1 + 4
        tensor([0.2941, 1.1765])
    """

    statistics: Tensor
    gamma: Tensor
    labels: Callable[[], LabelEvidence]
    shuffled_labels: Callable[[], LabelEvidence]
    of_all_latents: Callable[[Tensor], Tensor]

    def __init__(
        self,
        d_in: int,
        d_sae: int,
        *,
        proxy: str = "variance",
        normalization: Normalization = "total_variance",
        clip: float | None = None,
        freeze_step: int | None = 100,
        alpha_warm_up_steps: int = 0,
        file: str | None = None,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.d_in = d_in
        self.proxy_name = proxy
        self.d_sae = d_sae
        self.d_latents = d_sae if "latents" in (needs_of(proxy) or ()) else 0
        self.normalization: Normalization = normalization
        self.clip = clip
        self.freeze_step = freeze_step
        self.alpha_warm_up_steps = alpha_warm_up_steps
        self.file = file
        self.seed = seed
        self.labels = self.shuffled_labels = no_labels
        self.of_all_latents = lambda rows: rows
        self.gamma_dtype = torch.promote_types(dtype, torch.float32)
        self.register_buffer("statistics", self.initial_statistics(device))
        self.register_buffer("gamma", torch.ones(d_in, dtype=self.gamma_dtype, device=device))

    @property
    def proxy(self) -> Proxy:
        """The proxy's row of the table."""
        return proxy_named(self.proxy_name)

    def initial_statistics(self, device: torch.device | str = "cpu") -> Tensor:
        """The buffer `statistics` before the first step."""
        return GammaStatistics.initial(self.d_in, self.d_latents, device).to_bytes()

    @property
    def packed_latents(self) -> dict[str, tuple[int, ...]]:
        """Bytes a latent of the blocks that a buffer ends with: their moments'."""
        return {"statistics": (8, 8, 8, 8)} if self.d_latents else {}

    def read(self) -> GammaStatistics:
        """What Γ is computed from, in float64."""
        return GammaStatistics.from_bytes(self.statistics, self.d_in)

    def is_estimating(self, step: int) -> bool:
        """Whether the statistics still take samples at this step."""
        return self.freeze_step is None or step < self.freeze_step

    @not_compiled
    @torch.no_grad()
    def update(
        self,
        step: int,
        alpha: float,
        activations: Tensor,
        decoder: Callable[[], Tensor],
        name: Callable[[], str] = lambda: "Γ",
    ) -> None:
        """Bring Γ to where it is at this step, before the loss is taken.

        Args:
            step: training steps done so far.
            alpha: the exponent at this step, after warm-up.
            activations: the batch, shape (batch, d_in).
            decoder: gives the effective decoder, shape (d_sae, d_in); called if the proxy uses it.
            name: gives what the SAE is called in a warning.

        Raises:
            RunFailedError: the batch is not finite, while Γ is being estimated, or Γ is to be
                frozen and the proxy is 0 in every dimension.
            BadInputError: the proxy gave anything but d_in finite numbers ≥ 0.
        """
        if not self.is_estimating(step) and step > self.alpha_warm_up_steps:
            return
        now = self.read()
        now = replace(now, alpha=torch.full_like(now.alpha, alpha))
        if self.is_estimating(step):
            batch = moments_of(activations, batch_index=step)
            now = replace(now, activations=merge(now.activations, batch))
            if self._is_refresh_step(step) and (not self.d_latents or now.latents.count > 0):
                now = replace(now, proxy=self._compute_proxy(now, decoder))
        self._write(now)
        settled = min(self.freeze_step or _SETTLED, _SETTLED)
        if step == max(settled - 1, self.alpha_warm_up_steps):
            self._warn_if_concentrated(now, name, step + 1)
        if step + 1 == (self.freeze_step or _FIRST_LOOK):
            self._check(now)

    @not_compiled
    @torch.no_grad()
    def observe_latents(self, step: int, feature_acts: Tensor) -> None:
        """Take a step's feature activations (batch, d_sae) in, if the proxy asks for them."""
        if self.d_latents and self.is_estimating(step):
            now = self.read()
            dense = feature_acts.to_dense() if feature_acts.is_sparse else feature_acts
            self._write(replace(now, latents=merge(now.latents, moments_of(dense, step))))

    @torch.no_grad()
    def fold(self, input_factor: float = 1.0, latent_factor: float | Tensor = 1.0) -> None:
        """Follow a change of units that SAELens folded into the weights.

        Args:
            input_factor: activations are now this many times what they were.
            latent_factor: the same for the feature activations, one number or one for each.
        """
        now = self.read()
        # The proxy stays in the units in which it was estimated, so that γ stays what the SAE was
        # trained with, also where γ = s^α is not normalised.
        self._write(
            replace(
                now,
                activations=now.activations.scaled(input_factor),
                latents=now.latents.scaled(latent_factor) if self.d_latents else now.latents,
            )
        )

    def export(self) -> dict[str, Tensor]:
        """What a published SAE carries beside its weights: γ, s and the input's moments.

        s is in the units of the activations that γ was trained on, and the moments are in those of
        the published SAE: they differ where SAELens folded an activation scale.
        """
        now = self.read()
        tensors = {
            "gamma": self.gamma,
            "proxy": now.proxy,
            "mean": now.activations.mean,
            "variance": now.activations.variance,
            "excess_kurtosis": now.activations.excess_kurtosis,
            "n_samples": now.activations.count,
        }
        return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def effective_dimensions(self) -> Tensor:
        """How many dimensions the weighted variance of the input is spread over, 1 to d_in."""
        return effective_dimensions(as_float64(self.gamma), self.read().activations.variance)

    def _is_refresh_step(self, step: int) -> bool:
        if self.proxy.refresh == "every_step":
            return True
        if self.proxy.refresh == "once":
            return step == 0
        return step & (step - 1) == 0 or step + 1 == self.freeze_step

    def _compute_proxy(self, now: GammaStatistics, decoder: Callable[[], Tensor]) -> Tensor:
        evidence = ProxyEvidence(
            activations=now.activations,
            latents=self._latents_of_all(now.latents),
            decoder=lambda: as_float64(self.of_all_latents(decoder())),
            file=self.file,
            seed=self.seed,
            labels=self.labels,
            shuffled_labels=self.shuffled_labels,
        )
        proxy = self.proxy.compute(evidence)
        check_proxy(proxy, f"gamma_proxy {self.proxy_name!r}", self.d_in)
        return proxy.to(now.activations.mean)

    def _latents_of_all(self, latents: Moments) -> Moments:
        if not self.d_latents:
            return latents
        count, *sums = latents
        return Moments(count, *self.of_all_latents(torch.stack(sums, dim=1)).unbind(dim=1))

    @property
    def _is_uniform_on_purpose(self) -> bool:
        return self.normalization == "constant" or self.proxy_name.endswith("uniform")

    def _write(self, now: GammaStatistics) -> None:
        self.statistics = now.to_bytes().to(self.gamma.device)
        self._recompute_gamma()

    def _recompute_gamma(self) -> None:
        if not self.statistics.is_meta:
            now = self.read()
            # What orders no dimension yet (the kurtosis of a first batch without peaks) weights
            # none.
            s, variance = (
                x if (x > 0).any() else torch.ones_like(x)
                for x in (now.proxy, now.activations.variance)
            )
            gamma = gamma_from_proxy(s, float(now.alpha), self.normalization, self.clip, variance)
            self.gamma = gamma.to(self.gamma_dtype).to(self.statistics.device)

    def _check(self, now: GammaStatistics) -> None:
        if not (now.proxy > 0).any():
            told = (
                f"gamma_proxy {self.proxy_name!r} is 0 in every dimension after "
                f"{self.freeze_step or _FIRST_LOOK} steps, so it orders none and Γ stays I: look "
                "at the hook with `wsae gamma`, or use another gamma_proxy"
            )
            if self.freeze_step is not None:
                raise RunFailedError(told)
            logger.warning(told)
        elif now.alpha != 0 and len(self.gamma.unique()) == 1 and not self._is_uniform_on_purpose:
            logger.warning(
                "gamma_proxy %r orders no dimension after %d steps: Γ weights all of them alike.",
                self.proxy_name,
                self.freeze_step or _FIRST_LOOK,
            )

    def _warn_if_concentrated(
        self, now: GammaStatistics, name: Callable[[], str], n_steps: int
    ) -> None:
        effective = float(effective_dimensions(as_float64(self.gamma), now.activations.variance))
        if effective < _CONCENTRATED * self.d_in:
            logger.warning(
                "%s: with alpha = %g and gamma_proxy %r the weighted variance is on %.1f of %d "
                "dimensions after %d steps (max γ is %.3g × the median). On the bundled model, "
                "weights as uneven (alpha = 1, 7 of 128) left Top-k 0.70 of the variance of the "
                "120 dimensions that vary less, where it has 0.75 unweighted and 0.74 with "
                "alpha = 0.5. A smaller alpha or gamma_clip spreads the weights; compare "
                "losses/mse_loss with an unweighted run.",
                name(),
                float(now.alpha),
                self.proxy_name,
                effective,
                self.d_in,
                n_steps,
                float(max_over_median(self.gamma)),
            )

    @override
    def _apply(self, *args: Any, **kwargs: Any) -> GammaScheduler:
        super()._apply(*args, **kwargs)
        self._recompute_gamma()
        return self

    @override
    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        packed = state_dict.get(f"{prefix}statistics")
        if packed is not None and needs_of(self.proxy_name) is None:
            # Registered where the SAE was trained: the checkpoint says whether it needed latents.
            has_latents = packed.numel() > self.initial_statistics("meta").numel()
            self.d_latents = self.d_sae if has_latents else 0
            self.statistics = self.initial_statistics(self.statistics.device)
        if packed is not None and packed.shape != self.statistics.shape:
            told: list[str] = args[-1]  # torch's error_msgs
            told.append(
                f"the checkpoint's Γ was estimated for another d_in or another kind of proxy than "
                f"gamma_proxy {self.proxy_name!r}: it holds {len(packed)} bytes of statistics, "
                f"{len(self.statistics)} are needed."
            )
            return
        if packed is not None:
            # A copy, since a mapped file need not be aligned to the eight bytes of a float64.
            state_dict[f"{prefix}statistics"] = packed.to(torch.uint8, copy=True)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._recompute_gamma()
