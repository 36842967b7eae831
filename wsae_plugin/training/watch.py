"""What happens after every finished training step: the bar, the metrics, checkpoints, signals.

SAELens's trainers call `_update_pbar(step_output, pbar)` once a step, as its very last act. That is
the only place that sees every step whole, so `TrainingWatch` takes it over on the trainer instance.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from sae_lens.saes.sae import TrainStepOutput
from sae_lens.training.multi_sae_trainer import MultiSAETrainer
from sae_lens.training.sae_trainer import SAETrainer
from tqdm.auto import tqdm

from wsae_plugin.errors import RunFailedError
from wsae_plugin.training.checkpoints import keep_newest, save_checkpoint
from wsae_plugin.training.interruption import Interruption
from wsae_plugin.training.run_folder import RunFolder

Trainer = SAETrainer[Any, Any] | MultiSAETrainer
T = TypeVar("T")

_SECONDS_BETWEEN_DESCRIPTIONS = 0.5
_LOSSES_SHOWN = 3
_NOT_FINITE = (
    "lower lr, or alpha; or the activations are not, in float16 for one. No checkpoint has it"
)


class TrainingInterruptedError(RunFailedError):
    """A signal ended the training; everything needed to go on is in a checkpoint."""


@dataclass
class TrainingWatch:
    """Carries a trainer's `fit` through: progress, metrics, whole checkpoints, interruption.

    Args:
        folder: Where metrics and checkpoints go.
        resume_command: What to run to go on after an interruption.
        keep_checkpoints: How many of the newest checkpoints stay; None for all.
        last_metrics: SAE name → its newest metrics, filled while training.
    """

    folder: RunFolder
    resume_command: str
    keep_checkpoints: int | None = None
    last_metrics: dict[str, dict[str, float | None]] = field(default_factory=dict)

    def fit(self, trainer: Trainer, fit: Callable[[], T]) -> T:
        """Run `fit`, the trainer's own, and return its result.

        Raises:
            TrainingInterruptedError: A signal came; a checkpoint was saved after the step.
            RunFailedError: A loss or a weight is no longer finite; no checkpoint has it.
        """
        self._trainer = trainer
        self._parts = _parts(trainer)
        self._described_at = 0.0
        self.folder.keep_metrics_up_to(trainer.n_training_steps)
        # SAELens would save these in the middle of the step, and again those passed long ago.
        self._checkpoint_thresholds = [
            samples
            for samples in trainer.checkpoint_thresholds
            if samples >= trainer.n_training_samples
        ]
        trainer.checkpoint_thresholds = []
        trainer._update_pbar = self._after_step  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
        for part in self._parts.values():
            # Without W&B SAELens never calls a step a logging step, and SAEs skip what is costly.
            part._is_logging_step = _LoggingSteps(part)  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
        with Interruption() as self._interruption:
            return fit()

    def _after_step(
        self, output: TrainStepOutput | Mapping[str, TrainStepOutput], pbar: tqdm[Any]
    ) -> None:
        outputs = {"sae": output} if isinstance(output, TrainStepOutput) else output
        trainer = self._trainer
        is_last = trainer.n_training_samples >= trainer.cfg.total_training_samples
        self._move(pbar, outputs)
        if is_last or trainer.n_training_steps % trainer.cfg.logger.wandb_log_frequency == 0:
            self._log(outputs)
        is_due = bool(
            self._checkpoint_thresholds
            and trainer.n_training_samples > self._checkpoint_thresholds[0]
        )
        if is_last or is_due or self._interruption.signal_name is not None:
            self._check_weights()
        if is_last:
            return
        if is_due:
            self._checkpoint_thresholds.pop(0)
            self._save()
        if self._interruption.signal_name is not None:
            pbar.close()
            checkpoint = self._save()
            raise TrainingInterruptedError(
                f"stopped by {self._interruption.signal_name} after "
                f"{trainer.n_training_samples:,} samples, saved in {checkpoint}; "
                f"go on with: {self.resume_command}"
            )

    def _save(self) -> Path:
        checkpoint = save_checkpoint(self._trainer, self.folder.checkpoints)
        if self.keep_checkpoints is not None:
            keep_newest(self.folder.checkpoints, self.keep_checkpoints)
        return checkpoint

    def _check_weights(self) -> None:
        for name, part in self._parts.items():
            for parameter, weights in part.sae.named_parameters():
                if not torch.isfinite(weights).all():
                    raise RunFailedError(
                        f"{name}: {parameter} is not finite after step "
                        f"{self._trainer.n_training_steps}; {_NOT_FINITE}"
                    )

    def _move(self, pbar: tqdm[Any], outputs: Mapping[str, TrainStepOutput]) -> None:
        now = time.monotonic()
        if now - self._described_at > _SECONDS_BETWEEN_DESCRIPTIONS and not pbar.disable:
            self._described_at = now
            shown = list(outputs.items())[:_LOSSES_SHOWN]
            losses = " ".join(f"{name} {out.loss.item():.4g}" for name, out in shown)
            losses += " …" if len(outputs) > len(shown) else ""
            pbar.set_description(f"step {self._trainer.n_training_steps} loss {losses}", False)
        pbar.update(min(self._trainer.n_training_samples, pbar.total) - pbar.n)

    def _log(self, outputs: Mapping[str, TrainStepOutput]) -> None:
        step = self._trainer.n_training_steps
        lines: list[str] = []
        for name, part in self._parts.items():
            raw = part.build_train_step_log_dict(
                output=outputs[name], n_training_samples=part.n_training_samples
            )
            # JSON has no NaN; the spread of a batch of one, say, is null.
            metrics = {key: value if math.isfinite(value) else None for key, value in raw.items()}
            self.last_metrics[name] = metrics
            lines.append(json.dumps({"step": step, "sae": name, **metrics}, allow_nan=False) + "\n")
        with self.folder.metrics_file.open("a", encoding="utf-8") as file:
            file.write("".join(lines))
        for name, metrics in self.last_metrics.items():
            if metrics["losses/overall_loss"] is None:
                raise RunFailedError(
                    f"{name}: the loss is not finite after step {step}; {_NOT_FINITE}"
                )


@dataclass
class _LoggingSteps:
    """Whether the step that `trainer` is about to make is one whose metrics are written down."""

    trainer: SAETrainer[Any, Any]

    def __call__(self) -> bool:
        cfg, step = self.trainer.cfg, self.trainer.n_training_steps + 1
        # SAELens counts a step's samples before it asks.
        is_last = self.trainer.n_training_samples >= cfg.total_training_samples
        return is_last or step % cfg.logger.wandb_log_frequency == 0


def _parts(trainer: Trainer) -> dict[str, SAETrainer[Any, Any]]:
    return trainer.trainers if isinstance(trainer, MultiSAETrainer) else {"sae": trainer}
