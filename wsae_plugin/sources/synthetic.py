"""Samples of SAELens's synthetic model, whose features are known."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from sae_lens import SAE, TrainingSAE
from sae_lens.synthetic import (
    SyntheticModel,
    SyntheticSAERunnerConfig,
    eval_sae_on_synthetic_data,
)
from sae_lens.synthetic.evals import SyntheticDataEvalResult
from sae_lens.synthetic.synthetic_sae_runner import RUNNER_CONFIG_FILENAME
from sae_lens.synthetic.training import SyntheticActivationIterator
from sae_lens.training.activation_scaler import ActivationScaler
from torch import Tensor
from typing_extensions import override

from wsae_plugin.errors import BadInputError
from wsae_plugin.messages import refusals_as_bad_input
from wsae_plugin.sources.source import Samples, Source

_HOOK = "synthetic_model"


class SyntheticSource(Source):
    """A synthetic model as SAELens's `SyntheticSAERunner` samples it.

    Args:
        cfg: The runner config.

    Raises:
        BadInputError: There is no such model, or `sae.d_in` is not its width.
    """

    runner_configs = {("synthetic_model", "sae"): SyntheticSAERunnerConfig}
    n_samples_field, batch_size_field = "training_samples", "batch_size"
    has_language_model = False
    cfg_filename = RUNNER_CONFIG_FILENAME

    def __init__(self, cfg: SyntheticSAERunnerConfig[Any]) -> None:
        self._cfg = cfg
        with refusals_as_bad_input("synthetic_model"):
            self.model = SyntheticModel.load_from_source(cfg.synthetic_model, device=cfg.device)
        width = self.model.cfg.hidden_dim
        if cfg.sae.d_in != width:
            # SAELens would change the config under an SAE that is already built.
            raise BadInputError(
                f"sae.d_in = {cfg.sae.d_in}: the synthetic model is {width} wide; set it to {width}"
            )
        self.name = f"a synthetic model of {self.model.cfg.num_features} features"
        self.d_in = {_HOOK: width}
        self._batches = SyntheticActivationIterator(
            self.model.feature_dict,
            self.model.activation_generator,
            cfg.batch_size,
            autocast=cfg.autocast_data,
        )
        self._score = partial(
            eval_sae_on_synthetic_data,
            feature_dict=self.model.feature_dict,
            activations_generator=self.model.activation_generator,
            num_samples=cfg.eval_samples,
            batch_size=cfg.batch_size,
        )

    @override
    def __next__(self) -> dict[str, Tensor]:
        return {_HOOK: next(self._batches)}

    @override
    def save(self, folder: Path) -> None:
        """Write nothing: where it is, the state of torch's generator says."""

    @override
    def load(self, folder: Path) -> None:
        """Read nothing, as `save` writes nothing."""

    @override
    def held_out(self, n_samples: int) -> Samples:
        return Samples(self.model.sample(n_samples))

    @override
    def truth(self, sae: SAE[Any], n_samples: int, batch: int) -> SyntheticDataEvalResult:
        return self._score(sae, num_samples=n_samples, batch_size=batch)

    @override
    def evaluate(self, sae: TrainingSAE[Any], scaler: ActivationScaler) -> dict[str, Any]:
        if self._cfg.eval_frequency <= 0:
            return {}
        return self._score(sae, activation_scaler=scaler).to_log_dict(prefix="synthetic/")

    @override
    def finish(self, sae: TrainingSAE[Any], folder: Path) -> dict[str, Any]:
        if self._cfg.save_synthetic_model:
            self.model.save(folder / "synthetic_model")
        if self._cfg.eval_samples <= 0 or not self._cfg.run_final_eval:
            return {}
        scores = self._score(sae)
        (folder / "eval_stats.json").write_text(json.dumps(scores.to_dict(), indent=2))
        return scores.to_log_dict(prefix="final/")
