"""A tied SAE whose features have unit length, whose latents jump, and whose biases adapt."""

from __future__ import annotations

from typing import Any

import torch
from sae_lens.saes.sae import TrainCoefficientConfig, TrainStepInput, TrainStepOutput
from torch import Tensor, nn
from torch.nn.functional import normalize
from typing_extensions import override

from wsae_plugin.compilation import not_compiled
from wsae_plugin.distributed.sae import SharedTrainingSAE
from wsae_plugin.saes.gba_counters import FiringCounters
from wsae_plugin.saes.gba_directions import direction_loss
from wsae_plugin.saes.gba_rule import adapted_bias, groups_of_latents, target_frequencies
from wsae_plugin.saes.metric import start_at_the_mean


class BiasAdaptedSAE(SharedTrainingSAE):
    """x̂ = b_pre + Σ_m a_m z_m w_m with z_m = y_m · 1[y_m + b_m > 0] and y_m = w_mᵀ(x − b_pre).

    Trained are a (`output_scale`), w through `directions`, whose lengths do not matter, and b_pre
    (SAELens's `b_dec`). `bias` is a buffer that only the rule of arXiv 2506.14002 moves.
    """

    directions: nn.Parameter
    output_scale: nn.Parameter
    bias: Tensor
    lowest_bias: Tensor
    counters: FiringCounters

    @override
    def initialize_weights(self) -> None:
        d_in, d_sae = self.cfg.d_in, self.cfg.d_sae
        scale = 1.0 if self.cfg.decoder_init_norm is None else self.cfg.decoder_init_norm
        self.b_dec = nn.Parameter(self._filled(0.0, d_in))
        self.directions = nn.Parameter(self._random_directions())
        self.output_scale = nn.Parameter(self._filled(scale, d_sae))
        # float32 whatever the dtype, in which a step of a hundredth could round away.
        self.register_buffer("bias", torch.zeros(d_sae, device=self.device))
        self.register_buffer("lowest_bias", torch.tensor(-self._bias_limit(), device=self.device))
        self.counters = FiringCounters(d_sae, self.device)

    def _random_directions(self) -> Tensor:
        # A stream of its own: in the global one a dictionary that was drawn under the same seed has
        # the same numbers, and the SAE of a synthetic world would start at the truth.
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        shape = (self.cfg.d_sae, self.cfg.d_in)
        directions = normalize(torch.randn(shape, generator=generator), dim=-1)
        return directions.to(self.device, self.dtype)

    def _filled(self, value: float, *shape: int) -> Tensor:
        return torch.full(shape, value, dtype=self.dtype, device=self.device)

    def _bias_limit(self) -> float:
        if self.cfg.bias_limit is not None:
            return float(self.cfg.bias_limit)
        return 1.0 if self.cfg.normalize_activations == "none" else self.cfg.d_in**0.5

    @property
    def feature_directions(self) -> Tensor:
        """w, unit rows, shape (d_sae, d_in)."""
        return normalize(self.directions, dim=-1)

    @property
    @override
    def W_enc(self) -> Tensor:  # type: ignore[override]
        """wᵀ, shape (d_in, d_sae)."""
        return self._reconstructing_directions.T

    @property
    @override
    def W_dec(self) -> Tensor:  # type: ignore[override]
        """a w, shape (d_sae, d_in)."""
        return self.output_scale.unsqueeze(-1) * self._reconstructing_directions

    @property
    def _reconstructing_directions(self) -> Tensor:
        """w, which reconstruction trains only where directions have no loss of their own."""
        directions = self.feature_directions
        return directions if self.cfg.direction_scale is None else directions.detach()

    @override
    def get_coefficients(self) -> dict[str, float | TrainCoefficientConfig]:
        return {}

    @override
    def encode_with_hidden_pre(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden_pre = self.hook_sae_acts_pre(self.encoder_input(x) @ self.W_enc)
        is_active = hidden_pre > (-self.bias).to(hidden_pre.dtype)
        return self.hook_sae_acts_post(hidden_pre * is_active), hidden_pre

    def encoder_input(self, x: Tensor) -> Tensor:
        """What the directions are multiplied with, shape (..., d_in)."""
        sae_in = self.process_sae_in(x)
        if self.cfg.direction_scale is not None and not x.requires_grad:
            # b_pre learns as an output alone, which saves two of a step's eight products.
            return sae_in.detach()
        return sae_in

    @override
    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        if self.training and step_input.n_training_steps == 0:
            start_at_the_mean(self.b_dec, self._in_units_of_b_dec(step_input.sae_in))
        output = super().training_forward_pass(step_input)
        if self.training:
            self._adapt(step_input.n_training_steps, output)
        return output

    @override
    def calculate_aux_loss(
        self,
        step_input: TrainStepInput,
        feature_acts: Tensor,
        hidden_pre: Tensor,
        sae_out: Tensor,
    ) -> dict[str, Tensor]:
        if self.cfg.direction_scale is None:
            return {}
        directions, scale = self.feature_directions, self.cfg.direction_scale
        with torch.no_grad():
            decoded = self.shards.sum(feature_acts @ directions)
            small = scale * self.cfg.d_in / self.whole_cfg.d_sae * decoded
            left = self._in_units_of_b_dec(step_input.sae_in) - self.b_dec - small
        loss = direction_loss(directions, feature_acts, left)
        return {"direction_loss": self.shards.sum(loss)}

    def _in_units_of_b_dec(self, sae_in: Tensor) -> Tensor:
        return self.run_time_activation_norm_fn_in(sae_in.to(self.dtype))

    @not_compiled
    @torch.no_grad()
    def _adapt(self, step: int, output: TrainStepOutput) -> None:
        self.counters.observe(output.hidden_pre, output.feature_acts)
        if (step + 1) % self.cfg.bias_update_steps == 0:
            self.update_bias()

    @torch.no_grad()
    def update_bias(self) -> None:
        """Move the biases by what was counted since the last update, and start to count anew."""
        # In float32 where the trainer multiplies in bfloat16 too.
        with torch.autocast(self.bias.device.type, enabled=False):
            self._update_bias()

    def _update_bias(self) -> None:
        cfg = self.cfg
        targets = target_frequencies(
            cfg.n_groups, cfg.highest_target_frequency, cfg.lowest_target_frequency
        )
        latents = self.shards.latents(self.whole_cfg.d_sae)
        # Another tensor, not another value: the backward pass may still need the old one.
        self.bias = adapted_bias(
            self.bias,
            self.counters.firings,
            self.counters.n_samples,
            self.counters.largest,
            groups_of_latents(self.whole_cfg.d_sae, cfg.n_groups)[latents].to(self.bias.device),
            targets.to(self.bias),
            cfg.bias_step_size,
            self.lowest_bias,
            self.shards.sum_of_counts,
        )
        self.counters.reset()

    @override
    def _apply(self, *args: Any, **kwargs: Any) -> BiasAdaptedSAE:
        super()._apply(*args, **kwargs)
        self.bias, self.lowest_bias = self.bias.float(), self.lowest_bias.float()
        return self

    @override
    @torch.no_grad()
    def fold_activation_norm_scaling_factor(self, scaling_factor: float) -> None:
        # Of what is learned only b_pre and the biases have a length: w and a stay as they are.
        self.b_dec.div_(scaling_factor)
        self.bias.div_(scaling_factor)
        self.lowest_bias.div_(scaling_factor)
        self.counters.fold(1 / scaling_factor)
        self.cfg.normalize_activations = "none"

    @override
    def fold_and_get_W_dec_norm(self) -> Tensor:
        raise NotImplementedError(
            "a tied SAE's encoder cannot take the decoder's norms: export it with "
            "save_inference_model and fold the exported SAE, SAE.load_from_disk(path, "
            "fold_W_dec_norm=True)"
        )

    @override
    def process_state_dict_for_saving_inference(self, state_dict: dict[str, Any]) -> None:
        super().process_state_dict_for_saving_inference(state_dict)
        for name in ("directions", "output_scale", "bias", "lowest_bias", "counters.packed"):
            del state_dict[name]
        with torch.no_grad():
            state_dict["W_enc"] = self.W_enc.contiguous()
            state_dict["W_dec"] = self.W_dec
            state_dict["b_enc"] = torch.zeros_like(self.output_scale)
            state_dict["threshold"] = (-self.bias).to(self.dtype)
