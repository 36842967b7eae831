"""What the weighted architectures share: their config fields, and the weight in every loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Le
from sae_lens import SAEConfig, TrainingSAEConfig
from sae_lens.registry import SAE_CLASS_REGISTRY
from sae_lens.saes.sae import (
    SAEMetadata,
    TrainCoefficientConfig,
    TrainStepInput,
    TrainStepOutput,
    mse_loss,
)
from safetensors.torch import save_file
from torch import Tensor
from typing_extensions import override

from wsae_plugin.compilation import not_compiled
from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma import GammaScheduler, max_over_median
from wsae_plugin.gamma.metric import MetricName
from wsae_plugin.gamma.proxies import SHUFFLED, load_proxy, needs_of
from wsae_plugin.gamma.weights import Normalization
from wsae_plugin.saes.metric import MetricTrainingSAE
from wsae_plugin.saes.weighted_squares import AUXILIARY_LOSS, WeightedSquares
from wsae_plugin.validation import check_fields

GAMMA_FILENAME = "gamma.safetensors"
_SCHEDULER = "gamma_scheduler"
_PREFIX = "weighted_"


@dataclass(kw_only=True)
class WeightedTrainingSAEConfig(TrainingSAEConfig):
    """
    The fields that every weighted architecture adds to SAELens's.

    Args:
        alpha (float): Exponent in γ = s^alpha, of either sign. 0 is SAELens's own architecture, bit for bit. 0.5 is the one of the paper's two values that costs little: on the bundled model 0.006 of the explained variance, and 1 costs 0.033 and kills 4 % of the latents; the most activating tokens of a latent agree as much more often at 0.5 as at 1, and no probing score rises at either (eval/saebench/report.md).
        alpha_warm_up_steps (int): Steps over which alpha rises linearly from 0.
        gamma_proxy (str): The proxy s of how monosemantic an input dimension is: variance, kurtosis, latent_variance, interference, uniform, file, a registered one, or a function of yours as package.module:function; with shuffled_ before it, its control.
        gamma_normalization (Literal["total_variance", "mean_square", "max", "none", "constant"]): total_variance makes Σγ²·Var = ΣVar over the input dimensions, so that predicting the mean costs what it costs unweighted (which keeps the scale of the loss, and not L0: a sparsity coefficient has to be set for each alpha), mean_square makes the mean of γ² 1, max makes the largest γ 1, none is the paper's literal form, constant is its control Γ = cI.
        gamma_clip (float | None): Largest allowed ratio of a weight to the median weight. None for no limit: at alpha = 0.5 none is needed, and at 1 a clip of 3 loses more of the reconstruction than 0.5 does without one (eval/balance).
        gamma_freeze_step (int | None): Γ is estimated over this many steps, then frozen. None never freezes it.
        gamma_file (str | None): For gamma_proxy file: a safetensors file with one tensor of shape (d_in,).
        gamma_seed (int): For a shuffled gamma_proxy: the seed of the permutation.
        weight_aux_loss (bool): Whether auxiliary reconstruction losses (dead latents, Gated's via-gate path) are weighted too.
        metric (Literal["fisher", "rotated_fisher", "covariance", "uniform", "file"] | None): What an error is measured with in place of ‖δ‖². fisher is the mean Fisher information of the model's output at the hook, to second order the KL divergence that an error causes; rotated_fisher (its eigenvalues in random directions, drawn from gamma_seed), covariance and uniform (with b_dec started at the mean, as with the others) are its controls; file is your own matrix.
        metric_file (str | None): A safetensors file: what `fisher_metric` wrote, or one tensor `metric` (d_in, d_in), as an export has it. For activations that no language model made it may hold gradients of your own, `gradients` (n, d_in), from which F̄ = E[ggᵀ] is made, and `activations` (m, d_in), which covariance needs. `wsae train` estimates its own where there is none.
        metric_ridge (float): ε in A = (F̄·d/tr F̄ + εI)/(1 + ε): how much every direction counts whatever F̄ says.
        metric_in_loss_only (bool): Whether the SAE stays in the space of x and the metric is in its reconstruction loss alone: a control of what training in the space of xM adds. The loss for dead latents stays unweighted.
        metric_tokens (int): How many activations it is estimated from, where `wsae train` does it.
        finetune_kl (float): The last share of the tokens, on which `wsae train` trains end to end: half on the KL divergence of the language model's output, half on the squared error, on tokens drawn from a few contexts. 1 does so from the beginning.
        finetune_kl_lr (float): What the learning rate is multiplied by meanwhile: a batch of a few contexts says less than one of shuffled activations.
    """  # noqa: E501

    alpha: float = 0.5
    alpha_warm_up_steps: Annotated[int, Ge(0)] = 0
    gamma_proxy: str = "variance"
    gamma_normalization: Normalization = "total_variance"
    gamma_clip: Annotated[float, Ge(1)] | None = None
    gamma_freeze_step: Annotated[int, Ge(1)] | None = 100
    gamma_file: str | None = None
    gamma_seed: Annotated[int, Ge(0)] = 0
    weight_aux_loss: bool = True
    metric: MetricName | None = None
    metric_file: str | None = None
    metric_ridge: Annotated[float, Ge(0)] = 1.0
    metric_tokens: Annotated[int, Ge(1)] = 2000
    metric_in_loss_only: bool = False
    finetune_kl: Annotated[float, Ge(0), Le(1)] = 0.0
    finetune_kl_lr: Annotated[float, Gt(0), Le(1)] = 0.3

    @override
    @classmethod
    def architecture(cls) -> str:
        """The name of SAELens's architecture with `weighted_` in front."""
        parent: Any = super().architecture
        return f"{_PREFIX}{parent()}"

    @override
    def get_inference_config_class(self) -> type[SAEConfig]:
        """SAELens's own: what is published loads without this package."""
        registered = SAE_CLASS_REGISTRY.get(self.architecture().removeprefix(_PREFIX))
        # BatchTopK says itself what it becomes.
        return registered[1] if registered else super().get_inference_config_class()

    @override
    def get_inference_sae_cfg_dict(self) -> dict[str, Any]:
        said = super().get_inference_sae_cfg_dict()
        rescales = "rescale_acts_by_decoder_norm"
        if rescales in said and self.metric is not None and not self.metric_in_loss_only:
            # The norms are those in xM and are folded in; those that the decoder then has are not.
            said[rescales] = False
        return said

    @override
    def __post_init__(self) -> None:
        # Where SAELens loads for inference, it hands over what the file says.
        metadata: Any = self.metadata
        if isinstance(metadata, dict):
            self.metadata = SAEMetadata(**metadata)
        super().__post_init__()
        check_fields(self, WeightedTrainingSAEConfig)
        _check_together(self)


class WeightedTrainingSAE(MetricTrainingSAE):
    """The loss ‖Γ(x − x̂)‖² in place of ‖x − x̂‖², for the SAELens class that stands after it.

    The weight reaches the reconstruction loss, Matryoshka's inner losses (both through SAELens's
    `mse_loss_fn`) and, unless `weight_aux_loss=False`, the auxiliary reconstruction losses.
    In a step's `losses` each of them has `weighted_` before SAELens's name; `mse_loss` stands
    beside them as SAELens has it, unweighted, and takes no part in training.
    """

    gamma_scheduler: GammaScheduler
    run_name: str = ""
    """What it is called in a run of several."""
    has_text: bool = False
    """Whether who trains it can give it text, for `finetune_kl`."""
    is_tied: bool = False
    """Whether encoder and decoder are one, so that latents have the units of the input."""

    def __init__(self, cfg: WeightedTrainingSAEConfig, use_error_term: bool = False) -> None:
        super().__init__(cfg, use_error_term)
        self.gamma_scheduler = GammaScheduler(
            d_in=cfg.d_in,
            d_sae=cfg.d_sae,
            proxy=cfg.gamma_proxy,
            normalization=cfg.gamma_normalization,
            clip=cfg.gamma_clip,
            freeze_step=cfg.gamma_freeze_step,
            alpha_warm_up_steps=cfg.alpha_warm_up_steps,
            file=cfg.gamma_file,
            seed=cfg.gamma_seed,
            dtype=self.dtype,
            device=self.device,
        )
        if self.is_weighted:
            self.mse_loss_fn = self.weighted_mse_loss

    @property
    def is_weighted(self) -> bool:
        """False for α = 0, where every method is SAELens's own."""
        return self.cfg.alpha != 0

    @property
    def gamma(self) -> Tensor:
        """γ, the diagonal of Γ, shape (d_in,)."""
        return self.gamma_scheduler.gamma

    def weighted_mse_loss(self, preds: Tensor, target: Tensor) -> Tensor:
        """γ²(x̂ − x)² elementwise, shape (batch, d_in), activation units²."""
        loss = mse_loss(preds, target)
        return loss * self.gamma.square().to(loss.dtype)

    def aux_mse_loss(self, preds: Tensor, target: Tensor) -> Tensor:
        """The squared error of an auxiliary reconstruction, elementwise, (batch, d_in)."""
        if self.is_weighted and self.cfg.weight_aux_loss:
            return self.weighted_mse_loss(preds, target)
        return mse_loss(preds, target)

    def effective_decoder(self) -> Tensor:
        """What one unit of each latent adds to the reconstruction, shape (d_sae, d_in)."""
        return (
            torch.nn.functional.normalize(self.W_dec, dim=-1)
            if self._acts_are_rescaled
            else self.W_dec
        )

    def _describe(self) -> str:
        """Name, class and hook, as far as they are known."""
        hook = self.cfg.metadata.hook_name
        parts = (self.run_name, type(self).__name__, f"at {hook}" if hook else "")
        return " ".join(filter(None, parts))

    @property
    def _acts_are_rescaled(self) -> bool:
        return getattr(self.cfg, "rescale_acts_by_decoder_norm", False)

    @property
    def _latents_have_units(self) -> bool:
        return self.is_tied or self._acts_are_rescaled

    @override
    def get_coefficients(self) -> dict[str, float | TrainCoefficientConfig]:
        # The first that a trainer asks of an SAE, and nobody who only reads one: that the proxy can
        # be computed matters to training alone.
        load_proxy(self.cfg.gamma_proxy)
        if self.cfg.finetune_kl and not self.has_text:
            raise BadInputError(
                f"finetune_kl = {self.cfg.finetune_kl:g}: takes text and the language model, which "
                "SAELens's runners give no SAE: train with `wsae train`, or leave it out"
            )
        alpha = TrainCoefficientConfig(self.cfg.alpha, self.cfg.alpha_warm_up_steps)
        parent: Any = super().get_coefficients
        return {**parent(), "alpha": alpha}

    @override
    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        if not self.is_weighted:
            return super().training_forward_pass(step_input)
        step = step_input.n_training_steps
        if self.training:
            self.gamma_scheduler.update(
                step,
                step_input.coefficients["alpha"],
                step_input.sae_in,
                self.effective_decoder,
                self._describe,
            )
        output = super().training_forward_pass(step_input)
        if self.training:
            self.gamma_scheduler.observe_latents(step, output.feature_acts)
        output.losses = self._logged_losses(output)
        output.metrics |= {
            "gamma_effective_dimensions": self.gamma_scheduler.effective_dimensions,
            "gamma_max_over_median": partial(max_over_median, self.gamma),
        }
        return output

    def _logged_losses(self, output: TrainStepOutput) -> dict[str, Tensor]:
        """The terms under names that tell what is weighted; `output.loss` is their sum already."""
        with torch.no_grad():
            unweighted = mse_loss(output.sae_out, output.sae_in).sum(dim=-1).mean()
        return {"mse_loss": unweighted} | {
            f"{_PREFIX}{name}" if self._is_weighted_term(name) else name: loss
            for name, loss in output.losses.items()
        }

    def _is_weighted_term(self, name: str) -> bool:
        if name == AUXILIARY_LOSS:
            return self.cfg.weight_aux_loss
        return name == "mse_loss" or name.startswith("inner_mse_loss_")

    @override
    def calculate_aux_loss(
        self,
        step_input: TrainStepInput,
        feature_acts: Tensor,
        hidden_pre: Tensor,
        sae_out: Tensor,
    ) -> dict[str, Tensor]:
        parent: Any = super().calculate_aux_loss
        if self.is_weighted and self.cfg.weight_aux_loss:
            parent = partial(self._weighted_aux_loss, parent)
        losses: dict[str, Tensor] = parent(step_input, feature_acts, hidden_pre, sae_out)
        # What is no reconstruction is a sum over latents.
        return {
            name: loss if name == AUXILIARY_LOSS else self.shards.sum(loss)
            for name, loss in losses.items()
        }

    @not_compiled  # a compiled graph's own squares would be weighted once more as they run
    def _weighted_aux_loss(
        self, aux_loss: Callable[..., dict[str, Tensor]], *args: Any
    ) -> dict[str, Tensor]:
        with WeightedSquares(self.gamma.square()) as squares:
            losses = aux_loss(*args)
        squares.check_reached(losses)
        return losses

    @override
    def log_histograms(self) -> dict[str, Any]:
        return {**super().log_histograms(), "weights/gamma": self.gamma.float().cpu().numpy()}

    @override
    @torch.no_grad()
    def fold_activation_norm_scaling_factor(self, scaling_factor: float) -> None:
        super().fold_activation_norm_scaling_factor(scaling_factor)
        self.gamma_scheduler.fold(
            input_factor=1 / scaling_factor,
            latent_factor=1 / scaling_factor if self._latents_have_units else 1.0,
        )

    @override
    @torch.no_grad()
    def fold_and_get_W_dec_norm(self) -> Tensor:
        norms = super().fold_and_get_W_dec_norm()
        if not self._latents_have_units:
            self.gamma_scheduler.fold(latent_factor=norms.to(torch.float64))
        return norms

    @override
    def process_state_dict_for_loading(self, state_dict: dict[str, Any]) -> None:
        super().process_state_dict_for_loading(state_dict)
        # A checkpoint of a plain SAELens architecture holds no Γ: start with none estimated.
        state_dict.setdefault(f"{_SCHEDULER}.statistics", self.gamma_scheduler.initial_statistics())
        state_dict.setdefault(f"{_SCHEDULER}.gamma", torch.ones(self.cfg.d_in))

    @override
    def process_state_dict_for_saving_inference(self, state_dict: dict[str, Any]) -> None:
        super().process_state_dict_for_saving_inference(state_dict)
        for name in [name for name in state_dict if name.startswith(f"{_SCHEDULER}.")]:
            del state_dict[name]

    @override
    def save_inference_model(self, path: str | Path) -> tuple[Path, Path]:
        """Export a plain SAELens SAE, which loads without this package, and Γ beside it."""
        written = super().save_inference_model(path)
        save_file(self.gamma_scheduler.export(), Path(path) / GAMMA_FILENAME)
        return written


_SCALED_AT_MOST = ("none", "expected_average_only_in")


def _check_together(cfg: WeightedTrainingSAEConfig) -> None:
    """Refuse fields that are impossible together."""
    if cfg.gamma_freeze_step == 1 and "latents" in (needs_of(cfg.gamma_proxy) or ()):
        raise BadInputError(
            f"gamma_freeze_step = 1: gamma_proxy {cfg.gamma_proxy!r} is made from latents, of "
            "which none has been seen at the first step: 2 or more is needed, or None to never "
            "freeze Γ"
        )
    reads_file = cfg.gamma_proxy.removeprefix(SHUFFLED) == "file"
    if reads_file != bool(cfg.gamma_file):
        raise BadInputError(
            f"gamma_file = {cfg.gamma_file!r}: gamma_proxy 'file' needs the path of a safetensors "
            f"file, and no other reads one; gamma_proxy is {cfg.gamma_proxy!r}"
        )
    if cfg.metric is not None and cfg.alpha != 0:
        raise BadInputError(
            f"metric = {cfg.metric!r} with alpha = {cfg.alpha:g}: a metric weighs directions and Γ "
            "dimensions, and nothing says what both together are for: set alpha: 0, or no metric"
        )
    if cfg.metric is not None and cfg.normalize_activations not in _SCALED_AT_MOST:
        raise BadInputError(
            f"metric = {cfg.metric!r} with normalize_activations = {cfg.normalize_activations!r}: "
            f"the metric is one of the model's activations: use {' or '.join(_SCALED_AT_MOST)}"
        )
    if cfg.metric is None and cfg.metric_in_loss_only:
        raise BadInputError(
            "metric_in_loss_only = True: there is no metric; set one, or leave it out"
        )
    if (cfg.metric_file and cfg.metric is None) or (cfg.metric == "file" and not cfg.metric_file):
        raise BadInputError(
            f"metric_file = {cfg.metric_file!r} with metric = {cfg.metric!r}: metric 'file' needs "
            "the path of a safetensors file, and without a metric none is read"
        )
    if cfg.alpha != 0 and cfg.normalize_activations == "covariance_whitening":
        raise BadInputError(
            "normalize_activations = 'covariance_whitening': whitened activations have variance 1 "
            "in every direction and no longer the model's dimensions, so there is nothing for Γ to "
            f"weight: use alpha=0 (got {cfg.alpha}) or another normalization"
        )
