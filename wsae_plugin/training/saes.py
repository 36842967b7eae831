"""The SAEs a config asks for, built from its seed."""

from __future__ import annotations

from typing import Any

import torch
from sae_lens import TrainingSAE
from sae_lens.util import temporary_seed

from wsae_plugin.gamma.proxies import load_proxy
from wsae_plugin.messages import naming, refusals_as_bad_input
from wsae_plugin.saes import WeightedTrainingSAEConfig
from wsae_plugin.training.config import RunConfig


def build_saes(
    config: RunConfig, device: str | None = None, kept_on: str | None = None
) -> dict[str, TrainingSAE[Any]]:
    """SAE name → the SAE, initialised.

    Every SAE is initialised from the same seed, so that SAEs of one shape start from the same
    weights, whatever their architecture, alpha or company. With `from_pretrained_path` the SAE that
    the config names gets the checkpoint's weights; SAELens would build whatever class the
    *checkpoint* names, and a `topk` checkpoint would stay unweighted without a word.

    Args:
        config: What the run is.
        device: Where they are built; `meta` for their shapes alone. None for where the config says.
        kept_on: Where each is put when it is built, and is built itself where there is no room for
            it: a GPU draws other weights than a processor.

    Raises:
        BadInputError: SAELens or the plugin refuses a config, or the checkpoint does not fit.
    """
    placed = {} if device is None else {"device": device}
    saes: dict[str, TrainingSAE[Any]] = {}
    for name, cfg in config.sae_configs().items():
        with naming(name), refusals_as_bad_input(), temporary_seed(config.seed):
            saes[name] = _built(cfg.to_dict() | placed, kept_on)
            if isinstance(cfg, WeightedTrainingSAEConfig):
                load_proxy(cfg.gamma_proxy)
    pretrained = config.values.get("from_pretrained_path")
    if pretrained is not None and device != "meta":
        cfg = saes["sae"].cfg
        with refusals_as_bad_input(
            f"from_pretrained_path = {pretrained!r}: does not fit the config's "
            f"{cfg.architecture()!r} with d_in = {cfg.d_in} and d_sae = {cfg.d_sae}"
        ):
            saes["sae"].load_weights_from_checkpoint(pretrained)
    return saes


def _built(cfg: dict[str, Any], kept_on: str | None) -> TrainingSAE[Any]:
    if kept_on is None:
        return TrainingSAE.from_dict(cfg)
    try:
        return TrainingSAE.from_dict(cfg).to(kept_on)
    except torch.OutOfMemoryError:
        return TrainingSAE.from_dict(cfg | {"device": kept_on})
