"""A training checkpoint, read by SAELens as the SAE that would be published from it."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

from sae_lens import SAE, TrainingSAE
from sae_lens.constants import ACTIVATION_SCALER_CFG_FILENAME
from sae_lens.saes.sae import SAEConfig, SAEMetadata
from sae_lens.training.activation_scaler import ActivationScaler

from wsae_plugin.files import folder_written_whole
from wsae_plugin.messages import refusals_as_bad_input


def export(checkpoint: Path, folder: Path, fingerprint: str) -> None:
    """Write what would be published from a checkpoint, with the scale of the activations folded in.

    Args:
        checkpoint: What SAELens's trainer saved of one SAE, of any architecture.
        folder: Where the SAE for inference goes, whole or not at all.
        fingerprint: What says that it is of this checkpoint, kept in its metadata.

    Raises:
        BadInputError: SAELens cannot load the checkpoint, or the scale of its activations is none.
    """
    with refusals_as_bad_input(f"{checkpoint}: SAELens cannot load this checkpoint"):
        sae = TrainingSAE.load_from_disk(checkpoint)
        scaler = ActivationScaler()
        scaler.load(checkpoint / ACTIVATION_SCALER_CFG_FILENAME)
        scale = scaler.scaling_factor
        is_scaled = sae.cfg.normalize_activations == "expected_average_only_in"
        if is_scaled if scale is None else not 0 < scale < float("inf"):
            raise ValueError(f"scaling_factor = {scale} in {ACTIVATION_SCALER_CFG_FILENAME}")
        fold_scale(sae, scaler)
    sae.cfg.metadata.checkpoint = fingerprint
    with folder_written_whole(folder) as partial:
        sae.save_inference_model(partial)


def fold_scale(sae: TrainingSAE[Any], scaler: ActivationScaler) -> None:
    """Build the scale or the whitening of the activations into the weights."""
    if scaler.scaling_factor is not None:
        sae.fold_activation_norm_scaling_factor(scaler.scaling_factor)
        scaler.scaling_factor = None
    if scaler.whitening is not None:
        sae.fold_activation_whitening(
            mean=scaler.whitening.mean,
            whitening_matrix=scaler.whitening.matrix,
            unwhitening_matrix=scaler.whitening.inverse_matrix,
        )
        scaler.whitening = None


def published_class(sae_class: type[TrainingSAE[Any]]) -> type[SAE[Any]]:
    """What `SAE.load_from_disk` is to build from a checkpoint of a training architecture.

    SAELens builds the class that is registered for inference under the architecture's name, from
    the training config, and hands it the checkpoint's weights. This one turns both into what
    `save_inference_model` writes, so that the SAE is one of SAELens's own classes.
    """

    class FromCheckpoint(SAE[Any]):
        def __new__(cls, cfg: Any, use_error_term: bool = False) -> Any:
            trained = sae_class(copy(cfg))
            config: Any = SAEConfig.from_dict(cfg.get_inference_sae_cfg_dict())
            config.device = cfg.device
            published: Any = SAE.from_dict(config.to_dict())
            published.use_error_term = use_error_term

            def export(state_dict: dict[str, Any]) -> None:
                del published.process_state_dict_for_loading
                trained.process_state_dict_for_loading(state_dict)
                trained.load_state_dict(state_dict, assign=True)
                state_dict.clear()
                state_dict.update(trained.state_dict())
                trained.process_state_dict_for_saving_inference(state_dict)
                # An architecture may say there what it has just made of the weights.
                metadata = trained.cfg.get_inference_sae_cfg_dict()["metadata"]
                published.cfg.metadata = SAEMetadata.from_dict(metadata)
                published.process_state_dict_for_loading(state_dict)

            published.process_state_dict_for_loading = export
            return published

    return FromCheckpoint
