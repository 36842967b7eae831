"""SAELens's three runners, with our trainer, and `TrainingWatch` in charge of the training loop.

SAELens's runners build their trainers inside `run`, out of reach; `run` is given another class.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sae_lens.llm_sae_training_runner as language_model_module
import sae_lens.synthetic.synthetic_sae_runner as synthetic_module
import sae_lens.training.multi_sae_trainer as multi_module
from sae_lens import TrainingSAE
from sae_lens.llm_sae_training_runner import LanguageModelSAETrainingRunner
from sae_lens.multi_sae_training_runner import MultiSAETrainingRunner
from sae_lens.synthetic.synthetic_sae_runner import SyntheticSAERunner
from sae_lens.training.multi_sae_trainer import MultiSAETrainer
from sae_lens.training.sae_trainer import SAETrainer
from typing_extensions import override

from wsae_plugin.training.trainer import WeightedSAETrainer
from wsae_plugin.training.watch import TrainingWatch


class WatchedLanguageModelRunner(LanguageModelSAETrainingRunner):
    """SAELens's runner; on a signal it saves everything, between two steps, or it would neither.

    Args:
        watch: What carries the training loop through.
        kwargs: As SAELens's runner takes them.
    """

    def __init__(self, watch: TrainingWatch, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._watch = watch

    @override
    def run(self) -> TrainingSAE[Any]:
        with _trainer_class(language_model_module, WeightedSAETrainer):
            return super().run()

    @override
    def run_trainer_with_interruption_handling(
        self, trainer: SAETrainer[Any, Any]
    ) -> TrainingSAE[Any]:
        return self._watch.fit(trainer, trainer.fit)


class WatchedMultiRunner(MultiSAETrainingRunner):
    """SAELens's runner of several SAEs in one pass, watched as `WatchedLanguageModelRunner` is."""

    def __init__(self, watch: TrainingWatch, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._watch = watch

    @override
    def run(self) -> dict[str, TrainingSAE[Any]]:
        with _trainer_class(multi_module, WeightedSAETrainer):
            return super().run()

    @override
    def _run_with_interruption_handling(
        self, trainer: MultiSAETrainer
    ) -> dict[str, TrainingSAE[Any]]:
        return self._watch.fit(trainer, trainer.fit)


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

        with _trainer_class(synthetic_module, WatchedTrainer):
            return super().run()


@contextmanager
def _trainer_class(module: Any, trainer_class: type[SAETrainer[Any, Any]]) -> Generator[None]:
    original = module.SAETrainer
    module.SAETrainer = trainer_class
    try:
        yield
    finally:
        module.SAETrainer = original
