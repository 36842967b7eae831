"""Training under a metric: an ordinary SAE on xM, M = A^½, so that ‖(x − x̂)M‖² = (x − x̂)A(x − x̂)ᵀ.

M reaches more than the loss. Latents are chosen, scaled and started in xM: at fixed codes the best
decoder does not depend on M at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE
from sae_lens.constants import SAE_CFG_FILENAME
from sae_lens.saes.sae import (
    TrainCoefficientConfig,
    TrainStepInput,
    TrainStepOutput,
    mse_loss,
)
from safetensors.torch import save_file
from torch import Tensor
from typing_extensions import override

from wsae_plugin.distributed.sae import SharedTrainingSAE
from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma.metric import metric_from, square_roots
from wsae_plugin.gamma.sensitivity import information_for, stated_as
from wsae_plugin.saes.weighted_squares import AUXILIARY_LOSS
from wsae_plugin.validation import read_json

METRIC_FILENAME = "metric.safetensors"
_BUFFERS = ("metric_root", "metric_root_inverse")
_FIELDS = ("metric", "metric_ridge", "metric_in_loss_only")


class MetricTrainingSAE(SharedTrainingSAE):
    """Weights live in the space of xM; what goes in and comes out elsewhere is x.

    The losses of a training step are those in xM. An export has M folded in.
    """

    metric_root: Tensor
    metric_root_inverse: Tensor
    _is_inside: bool = False

    def __init__(self, cfg: Any, use_error_term: bool = False) -> None:
        super().__init__(cfg, use_error_term)
        if cfg.metric is None:
            return
        dtype = torch.promote_types(self.dtype, torch.float32)
        for name in _BUFFERS:
            none_yet = torch.zeros(cfg.d_in, cfg.d_in, dtype=dtype, device=self.device)
            self.register_buffer(name, none_yet)
        if cfg.metric_in_loss_only:
            self.mse_loss_fn = self._metric_loss
        else:
            self.run_time_activation_norm_fn_in = self._into
            self.run_time_activation_norm_fn_out = self._out_of

    @override
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        before = {name: self._buffers[name] for name in _BUFFERS if name in self._buffers}
        super()._apply(fn, recurse)
        for name, matrix in before.items():
            now = self._buffers[name]
            assert matrix is not None and now is not None
            # In half precision M and M⁻¹ would be rounded apart, and no longer be inverses.
            if now.dtype.itemsize < torch.float32.itemsize:
                self._buffers[name] = matrix.to(now.device, torch.float32)
        return self

    @property
    def is_in_metric_space(self) -> bool:
        """Whether the weights are those of an SAE on xM."""
        return self.cfg.metric is not None and not self.cfg.metric_in_loss_only

    @property
    def lacks_metric(self) -> bool:
        """Whether the metric that the config names is still to be estimated."""
        return self.cfg.metric is not None and not self.metric_root.any()

    @torch.no_grad()
    def set_metric(self, information: Tensor) -> None:
        """Take a metric, before the first step.

        Args:
            information: F̄ or its like, shape (d_in, d_in).

        Raises:
            BadInputError: see `metric_from` and `square_roots`.
        """
        if information.shape != (d := self.cfg.d_in, d):
            raise BadInputError(
                f"metric: a matrix of shape {tuple(information.shape)} for activations of width {d}"
            )
        roots = square_roots(metric_from(information, self.cfg.metric_ridge))
        for name, root in zip(_BUFFERS, roots, strict=True):
            getattr(self, name).copy_(root)

    @override
    def get_coefficients(self) -> dict[str, float | TrainCoefficientConfig]:
        # The first that a trainer asks of an SAE, and nobody who only reads one.
        cfg = self.cfg
        if cfg.metric is not None:
            known = information_for(cfg.metric, cfg.metric_file, cfg.d_in, cfg.gamma_seed)
            if known is not None:
                trained_under = None if self.lacks_metric else self.metric_root.clone()
                self.set_metric(known)
                if trained_under is not None and not _is_same(trained_under, self.metric_root):
                    raise BadInputError(
                        f"metric = {cfg.metric!r} with metric_file = {cfg.metric_file!r}: is "
                        "another metric than the one that the loaded weights were trained under; "
                        f"give that one, {METRIC_FILENAME} of its export"
                    )
        parent: Any = super().get_coefficients
        return parent()

    def out_of_metric_space(self, reconstructions: Tensor) -> Tensor:
        """x̂ from what a training step compares with its input, shape (batch, d_in)."""
        if not self.is_in_metric_space:
            return reconstructions
        return _times(reconstructions, self.metric_root_inverse)

    def _metric_loss(self, preds: Tensor, target: Tensor) -> Tensor:
        """((x̂ − x)M)², shape (batch, d_in), whose sum over d_in is (x̂ − x)A(x̂ − x)ᵀ."""
        return _times(preds - target, self.metric_root).square()

    def _into(self, x: Tensor) -> Tensor:
        return x if self._is_inside else _times(x, self.metric_root)

    def _out_of(self, z: Tensor) -> Tensor:
        return z if self._is_inside else _times(z, self.metric_root_inverse)

    @override
    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        if self.cfg.metric is None:
            return super().training_forward_pass(step_input)
        inside = step_input
        if self.is_in_metric_space:
            sae_in = step_input.sae_in.to(self.dtype)
            inside = replace(step_input, sae_in=_times(sae_in, self.metric_root))
        if self.training and step_input.n_training_steps == 0:
            if self.lacks_metric:
                raise BadInputError(
                    f"metric = {self.cfg.metric!r}: has not been estimated: `wsae train` does so; "
                    "in a script of your own give metric_file what `fisher_metric` writes"
                )
            start_at_the_mean(self.b_dec, inside.sae_in)
        self._is_inside = True
        try:
            output = super().training_forward_pass(inside)
        finally:
            self._is_inside = False
        if step_input.is_logging_step:
            with torch.no_grad():
                if self.is_in_metric_space:
                    output.sae_in = step_input.sae_in
                    output.sae_out = self.out_of_metric_space(output.sae_out)
                unweighted = mse_loss(output.sae_out, output.sae_in).sum(dim=-1).mean()
            # The loss for dead latents is one in xM, too.
            aux = (AUXILIARY_LOSS,) if self.is_in_metric_space else ()
            output.losses = {"mse_loss": unweighted} | {
                f"weighted_{name}" if "mse_loss" in name or name in aux else name: loss
                for name, loss in output.losses.items()
            }
        return output

    @override
    def load_weights_from_checkpoint(self, checkpoint_path: Path | str) -> None:
        cfg, file = self.cfg.to_dict(), Path(checkpoint_path) / SAE_CFG_FILENAME
        # Weights alone, and those that were trained without a metric, say enough by what they hold.
        said = read_json(file, made_by="SAELens") if file.is_file() else {}
        drawn = ("gamma_seed",) if said.get("metric") == "rotated_fisher" else ()
        for name in (*_FIELDS, *drawn) if said.get("metric") is not None else ():
            if (its_own := said.get(name)) != cfg[name]:
                raise BadInputError(
                    f"{name} = {cfg[name]!r}: the checkpoint was trained with {its_own!r}, and its "
                    "weights are those of another space; say the same, or start anew"
                )
        super().load_weights_from_checkpoint(checkpoint_path)

    @override
    def process_state_dict_for_loading(self, state_dict: dict[str, Any]) -> None:
        super().process_state_dict_for_loading(state_dict)
        if self.cfg.metric is not None and _BUFFERS[0] not in state_dict:
            raise BadInputError(
                f"metric = {self.cfg.metric!r}: the checkpoint was trained without a metric, and "
                "its weights are those of another space; start anew, or go on without one"
            )
        root = state_dict.get(_BUFFERS[0])
        if root is not None and root.dtype.itemsize < torch.float32.itemsize and root.any():
            # SAELens rounds all that it reads into the SAE's precision: what is left of M again
            # needs the inverse that it has.
            matrices = root.float(), root.double().inverse().float()
            state_dict.update(zip(_BUFFERS, matrices, strict=True))

    @override
    def process_state_dict_for_saving_inference(self, state_dict: dict[str, Any]) -> None:
        super().process_state_dict_for_saving_inference(state_dict)
        root, inverse = (state_dict.pop(name, None) for name in _BUFFERS)
        if not self.is_in_metric_space:
            return
        # M is built into what is published, which then takes and gives x.
        device = str(state_dict["W_dec"].device)
        cfg = self.cfg.get_inference_sae_cfg_dict() | {"device": device, "metadata": {}}
        published = SAE.from_dict(cfg)
        published.load_state_dict({name: state_dict[name] for name in published.state_dict()})
        published.fold_activation_whitening(
            mean=torch.zeros(self.cfg.d_in, dtype=torch.float64),
            whitening_matrix=root.double(),
            unwhitening_matrix=inverse.double(),
        )
        state_dict.update(published.state_dict())

    @override
    def save_inference_model(self, path: str | Path) -> tuple[Path, Path]:
        """Export a plain SAELens SAE, and beside it what its metric is made from."""
        written = super().save_inference_model(path)
        if self.cfg.metric is not None:
            root, ridge = self.metric_root.double().cpu(), self.cfg.metric_ridge
            made_from = (1 + ridge) * root @ root - ridge * torch.eye(len(root)).double()
            about = {"metric": stated_as(self.cfg.metric, self.cfg.gamma_seed)}
            save_file({"metric": made_from}, Path(path) / METRIC_FILENAME, about)
        return written


def _times(x: Tensor, matrix: Tensor) -> Tensor:
    """The product, rounded once, to x's own precision.

    Under autocast, too: x itself, the target, would be rounded.
    """
    dtype = torch.promote_types(x.dtype, matrix.dtype)
    with torch.autocast(x.device.type, enabled=False):
        return (x.to(dtype) @ matrix.to(dtype)).to(x.dtype)


def _is_same(root: Tensor, other: Tensor) -> bool:
    """But for rounding, and for what an export's matrix lost of it."""
    return float((root - other).norm()) <= 1e-2 * float(root.norm())


@torch.no_grad()
def start_at_the_mean(b_dec: Tensor, x: Tensor) -> None:
    """Start b_dec at the mean of a batch, but where training goes on from weights that have one."""
    if not b_dec.any():
        b_dec.copy_(x.flatten(0, -2).mean(dim=0))
