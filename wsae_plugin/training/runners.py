"""SAELens's three runners, with our trainer, and `TrainingWatch` in charge of the training loop.

What they export is a whole folder or none.

SAELens's runners build their trainers inside `run`, and their activation stores inside `__init__`,
out of reach; both are given other classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sae_lens.llm_sae_training_runner as language_model_module
import sae_lens.multi_sae_training_runner as multi_module
import sae_lens.synthetic.synthetic_sae_runner as synthetic_module
import sae_lens.training.multi_sae_trainer as multi_trainer_module
from sae_lens import TrainingSAE
from sae_lens.constants import RUNNER_CFG_FILENAME
from sae_lens.llm_sae_training_runner import LanguageModelSAETrainingRunner
from sae_lens.multi_sae_training_runner import MultiSAETrainingRunner
from sae_lens.synthetic.synthetic_sae_runner import SyntheticSAERunner
from sae_lens.training.multi_sae_trainer import MultiSAETrainer
from sae_lens.training.sae_trainer import SAETrainer
from torch import Tensor
from typing_extensions import override

from wsae_plugin.files import folder_written_whole, write_json_atomic
from wsae_plugin.replaced import replaced
from wsae_plugin.training.data_position import ResumableActivationsStore
from wsae_plugin.training.trainer import WeightedSAETrainer
from wsae_plugin.training.watch import TrainingWatch


class WatchedLanguageModelRunner(LanguageModelSAETrainingRunner):
    """SAELens's runner; on a signal it saves everything, between two steps, or it would neither.

    Args:
        watch: What carries the training loop through.
        kwargs: As SAELens's runner takes them.
    """

    def __init__(self, watch: TrainingWatch, **kwargs: Any) -> None:
        with replaced(language_model_module, ActivationsStore=ResumableActivationsStore):
            super().__init__(**kwargs)
        _tell_whether_prefetched(self)
        self._watch = watch

    @override
    def run(self) -> TrainingSAE[Any]:
        with replaced(language_model_module, SAETrainer=WeightedSAETrainer):
            return super().run()

    @override
    def run_trainer_with_interruption_handling(
        self, trainer: SAETrainer[Any, Any]
    ) -> TrainingSAE[Any]:
        return self._watch.fit(trainer, trainer.fit)

    @override
    def save_final_sae(
        self,
        sae: TrainingSAE[Any],
        output_path: str,
        log_feature_sparsity: Tensor | None = None,
    ) -> None:
        with folder_written_whole(Path(output_path)) as partial:
            super().save_final_sae(sae, str(partial), log_feature_sparsity)


class WatchedMultiRunner(MultiSAETrainingRunner):
    """SAELens's runner of several SAEs in one pass, watched as `WatchedLanguageModelRunner` is."""

    def __init__(self, watch: TrainingWatch, **kwargs: Any) -> None:
        with replaced(multi_module, ActivationsStore=ResumableActivationsStore):
            super().__init__(**kwargs)
        _tell_whether_prefetched(self)
        self._watch = watch

    @override
    def run(self) -> dict[str, TrainingSAE[Any]]:
        with replaced(multi_trainer_module, SAETrainer=WeightedSAETrainer):
            return super().run()

    @override
    def _run_with_interruption_handling(
        self, trainer: MultiSAETrainer
    ) -> dict[str, TrainingSAE[Any]]:
        return self._watch.fit(trainer, trainer.fit)

    @override
    def _save_final_outputs(
        self, saes: dict[str, TrainingSAE[Any]], trainer: MultiSAETrainer
    ) -> None:
        output_path = str(self.cfg.output_path)
        with folder_written_whole(Path(output_path)) as partial:
            self.cfg.output_path = str(partial)
            try:
                super()._save_final_outputs(saes, trainer)
            finally:
                self.cfg.output_path = output_path
            # SAELens wrote the path it wrote to.
            write_json_atomic(partial / RUNNER_CFG_FILENAME, self.cfg.to_dict())


class WatchedSyntheticRunner(SyntheticSAERunner[Any]):
    """SAELens's runner on a synthetic model, watched, and resumable.

    Args:
        watch: What carries the training loop through.
        checkpoint: Where to go on from, which SAELens's runner cannot.
        kwargs: As SAELens's runner takes them.
    """

    def __init__(self, watch: TrainingWatch, checkpoint: Path | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._watch = watch
        self._checkpoint = checkpoint

    @override
    def run(self) -> Any:
        watch, checkpoint = self._watch, self._checkpoint

        class WatchedTrainer(WeightedSAETrainer):
            @override
            def fit(self) -> TrainingSAE[Any]:
                if checkpoint is not None:
                    self.load_trainer_state(checkpoint)
                    self.sae.load_weights_from_checkpoint(checkpoint)
                return watch.fit(self, super().fit)

        with replaced(synthetic_module, SAETrainer=WatchedTrainer):
            return super().run()

    @override
    def _save_outputs(
        self,
        output_path: Path,
        sae: TrainingSAE[Any],
        log_feature_sparsity: Tensor | None,
        eval_stats: Any,
    ) -> None:
        with folder_written_whole(output_path) as partial:
            super()._save_outputs(partial, sae, log_feature_sparsity, eval_stats)


def _tell_whether_prefetched(
    runner: LanguageModelSAETrainingRunner | MultiSAETrainingRunner,
) -> None:
    store: Any = runner.activations_store
    store.prefetched = bool(runner.cfg.prefetch_llm_batches)
