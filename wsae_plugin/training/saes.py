"""The SAEs a config asks for, built from its seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sae_lens import TrainingSAE
from sae_lens.util import temporary_seed

from wsae_plugin.messages import naming, refusals_as_bad_input
from wsae_plugin.training.config import RunConfig


def build_saes(config: RunConfig) -> dict[str, TrainingSAE[Any]]:
    """SAE name → the SAE, initialised.

    Every SAE is initialised from the same seed, so that SAEs of one shape start from the same
    weights, whatever their architecture, alpha or company. With `from_pretrained_path` the SAE that
    the config names gets the checkpoint's weights; SAELens would build whatever class the
    *checkpoint* names, and a `topk` checkpoint would stay unweighted without a word.

    Raises:
        BadInputError: SAELens or the plugin refuses a config, or the checkpoint does not fit.
    """
    saes: dict[str, TrainingSAE[Any]] = {}
    for name, sae_config in config.sae_configs().items():
        with naming(name), refusals_as_bad_input(), temporary_seed(config.seed):
            saes[name] = TrainingSAE.from_dict(sae_config.to_dict())
    pretrained = config.values.get("from_pretrained_path")
    if pretrained is not None:
        _load(saes["sae"], Path(pretrained))
    return saes


def _load(sae: TrainingSAE[Any], pretrained: Path) -> None:
    architecture = sae.cfg.architecture()
    with refusals_as_bad_input(
        f"from_pretrained_path = {str(pretrained)!r}: does not fit the config's {architecture!r} "
        f"with d_in = {sae.cfg.d_in} and d_sae = {sae.cfg.d_sae}"
    ):
        sae.load_weights_from_checkpoint(pretrained)
