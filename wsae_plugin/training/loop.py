"""The training loop: one SAE or several in lockstep, on the batches of any source.

It drives SAELens's trainers through the methods that SAELens offers to such coordinators (`step`,
`maybe_reset_sparsity`, `set_final_sae_metadata`, `save_checkpoint`) and adds what belongs between
two steps: the progress bar, the metrics, whole checkpoints, and signals.
"""

from __future__ import annotations

import gc
import json
import logging
import math
import time
import warnings
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any
from zlib import crc32

import torch
import wandb
from sae_lens import SAE, TrainingSAE, TrainingSAEConfig
from sae_lens.constants import SAE_CFG_FILENAME, SPARSITY_FILENAME
from sae_lens.saes.sae import TrainStepOutput
from sae_lens.util import temporary_seed
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from wsae_plugin.distributed.parts import Parts
from wsae_plugin.distributed.shards import Shards
from wsae_plugin.errors import RunFailedError
from wsae_plugin.export_check import FIELD, problem_of_export
from wsae_plugin.files import folder_written_whole, write_json_atomic
from wsae_plugin.saes import WeightedTrainingSAE
from wsae_plugin.saes.end_to_end import end_to_end
from wsae_plugin.saes.from_checkpoint import fold_scale
from wsae_plugin.saes.metric import MetricTrainingSAE
from wsae_plugin.sources import Source
from wsae_plugin.sources.model_run import ModelRun
from wsae_plugin.training.checkpoints import (
    is_complete,
    keep_newest,
    restore_random_state,
    save_checkpoint,
)
from wsae_plugin.training.config import RunConfig
from wsae_plugin.training.interruption import Interruption
from wsae_plugin.training.run_folder import RunFolder
from wsae_plugin.training.trainer import WeightedSAETrainer, learning_rate_times
from wsae_plugin.validation import read_json

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_DESCRIPTIONS = 0.5
_BATCHES_OF_CHECK, _SAMPLES_OF_BATCH = 8, 1024
"""What exports are measured on: few enough that dense activations take no room to speak of."""
_CHECKED = ("explained_variance", "l0")
_LOSSES_SHOWN = 3
_NOT_FINITE = (
    "lower lr or alpha; or the activations are not finite themselves, as may happen in float16. "
    "No checkpoint holds such values"
)


class TrainingInterruptedError(RunFailedError):
    """A signal ended the training; everything needed to go on is in the run's folder."""


class TrainingLoop:
    """Trains SAEs on one source, from the start or from a checkpoint, and exports them.

    Args:
        config: What the run is.
        saes: SAE name → the SAE.
        source: Where the batches come from.
        folder: Where metrics, checkpoints and exports go.
        resume_command: What an interrupted user is told to run.
        keep_checkpoints: How many of the newest checkpoints stay; None for all.
        shards: SAE name → the processes that share its latents, of several; by default there is
            one process. Then `saes` are whole on the first process, and the others' are not read.

    Attributes:
        cfg: SAELens's config of every trainer.
        trainers: SAE name → its trainer, of those that this process has a part of. All have made
            the same number of steps.
        last_metrics: SAE name → its newest metrics, on the first process.
        kernels: SAE name → what carried out its last training step, where it has a choice.
    """

    def __init__(
        self,
        config: RunConfig,
        saes: Mapping[str, TrainingSAE[Any]],
        source: Source,
        folder: RunFolder,
        resume_command: str = "",
        keep_checkpoints: int | None = None,
        shards: Mapping[str, Shards] | None = None,
    ) -> None:
        self.source = source
        self.last_metrics: dict[str, dict[str, float | None]] = {}
        self._config = config
        self._folder = folder
        self._resume_command = resume_command
        self._keep_checkpoints = keep_checkpoints
        self._described_at = 0.0
        self._runner_config = config.runner_config(folder.export(config), folder.checkpoints)
        self.kernels: dict[str, str] = {}
        self._shards = shards or dict.fromkeys(saes, Shards())
        self._cfgs = config.sae_configs()
        self._world = next(iter(self._shards.values())).world
        self._logger = self._runner_config.logger
        if not self._world.is_first:
            self._logger.log_to_wandb = False
        # SAELens tells an SAE only of steps that go to W&B that it is to compute what is costly.
        # With a logger of their own, the trainers are told of every step that is written down.
        self._told = replace(self._logger, log_to_wandb=False, wandb_log_frequency=1)
        self.cfg = replace(self._runner_config.to_sae_trainer_config(), logger=self._told)
        # One SAE alone reads the one hook that there is.
        one = {"sae": next(iter(source.d_in))}
        self._hooks: dict[str, str] = getattr(self._runner_config, "hook_names_per_sae", one)
        self._parts: dict[str, Parts] = {}
        self._whole_saes: dict[str, TrainingSAE[Any]] = {}
        if self._world.size > 1:
            self._whole_saes = dict(saes) if self._world.is_first else {}
            self._parts = {
                name: Parts(self._world, shards, self._cfgs[name])
                for name, shards in self._shards.items()
            }
            saes = {name: parts.part() for name, parts in self._parts.items() if parts.is_mine}
        self.trainers = {name: self._trainer(name, sae) for name, sae in saes.items()}
        self._compile()

    def _trainer(
        self, name: str, sae: TrainingSAE[Any], device: str | None = None
    ) -> WeightedSAETrainer:
        for key, value in self.source.metadata(self._hooks[name]).items():
            sae.cfg.metadata[key] = value
        if isinstance(sae, WeightedTrainingSAE):
            sae.run_name = name if self._config.is_multi else ""
            sae.has_text = self.source.has_language_model
            evidence = cache(partial(self.source.label_evidence, self._hooks[name]))
            sae.gamma_scheduler.labels = evidence
            sae.gamma_scheduler.shuffled_labels = partial(evidence, shuffled=True)
        cfg = self.cfg if device is None else replace(self.cfg, device=device)
        sae.to(cfg.device)
        return WeightedSAETrainer(cfg, sae, data_provider=iter(()))

    @property
    def n_steps(self) -> int:
        """Steps made."""
        return next(iter(self.trainers.values())).n_training_steps

    @property
    def n_samples(self) -> int:
        """Activation vectors seen."""
        return next(iter(self.trainers.values())).n_training_samples

    def run(self, checkpoint: Path | None = None) -> None:
        """Train from the start, or from a checkpoint, and export.

        Raises:
            TrainingInterruptedError: A signal came; a checkpoint was saved after the step, or what
                was known of a metric.
            RunFailedError: A loss or a weight is no longer finite; no checkpoint has it.
        """
        if self._logger.log_to_wandb:
            wandb.init(
                project=self._logger.wandb_project,
                entity=self._logger.wandb_entity,
                config=self._runner_config.to_dict(),
                name=self._logger.run_name,
                id=self._logger.wandb_id,
            )
        torch.manual_seed(self._config.seed)
        try:
            if checkpoint is not None:
                self._load(checkpoint)
            elif self._parts:
                self._deal()
            self.fit()
            if self.cfg.save_final_checkpoint:
                self.source.gather()
            if self._world.is_first:
                self._finish()
            batches = self._batches_of_check()
            if self._world.is_first:
                self._export(batches)
        finally:
            self.source.close()
        if self._logger.log_to_wandb:
            wandb.finish()

    def fit(self) -> None:
        """Make all steps that are left, as SAELens's `fit` makes them."""
        total = self.cfg.total_training_samples
        if self._world.is_first:
            self._folder.keep_metrics_up_to(self.n_steps)
        thresholds = next(iter(self.trainers.values())).checkpoint_thresholds
        thresholds = [samples for samples in thresholds if samples >= self.n_samples]
        with Interruption(counts_again=self._world.size == 1) as interruption:
            self._estimate_metrics(interruption)
            self._estimate_norms()
            with tqdm(desc="Training", total=total, initial=self.n_samples) as bar:
                while self.n_samples < total:
                    self._move(bar, self._step())
                    signal_name = self._world.first_signal(interruption.signal_name)
                    is_due = bool(thresholds) and self.n_samples > thresholds[0]
                    is_last = self.n_samples >= total
                    if is_last or is_due or signal_name is not None:
                        self._check_weights()
                    if is_due and not is_last:
                        thresholds.pop(0)
                        self._save()
                    if signal_name is not None and not is_last:
                        checkpoint = self._save()
                        raise TrainingInterruptedError(
                            f"stopped by {signal_name} after {self.n_samples:,} samples, saved in "
                            f"{checkpoint}; go on with: {self._resume_command}"
                        )
        self._gather()

    def _finish(self) -> None:
        """Build into the SAEs what belongs to their activations."""
        self._send({n: part.full_sparsity_window_log() for n, part in self.trainers.items()})
        for part in self.trainers.values():
            fold_scale(part.sae, part.activation_scaler)
            part.set_final_sae_metadata()
        if self.cfg.save_final_checkpoint:
            self._write_checkpoint(self._folder.checkpoints / f"final_{self.n_samples}")

    def _step(self) -> dict[str, TrainStepOutput]:
        sparsity = {name: part.maybe_reset_sparsity() for name, part in self.trainers.items()}
        if not self._parts:  # of this process's latents alone
            self._send(sparsity)
        step, frequency = self.n_steps + 1, self._logger.wandb_log_frequency
        is_last = (
            self.n_samples + self.cfg.train_batch_size_samples >= self.cfg.total_training_samples
        )
        self._told.log_to_wandb = is_last or step % frequency == 0
        # Every process reads what any of them needs, and each makes the steps of its own SAEs.
        ends = [name for name in self._cfgs if self._is_end_to_end(self._cfgs[name])]
        outputs: dict[str, TrainStepOutput] = {}
        if len(ends) < len(self._cfgs):
            batch = next(self.source)
            rest = [name for name in self.trainers if name not in ends]
            outputs |= {name: self.trainers[name].step(batch[self._hooks[name]]) for name in rest}
        if ends:
            hooks = list(dict.fromkeys(self._hooks[name] for name in ends))
            run = self.source.contexts(self.cfg.train_batch_size_samples, hooks)
            mine = [name for name in ends if name in self.trainers]
            outputs |= {name: self._end_to_end_step(name, run) for name in mine}
        if self._told.log_to_wandb:
            self._log(step, outputs)
        evaluated = step % (frequency * self._logger.eval_every_n_wandb_logs) == 0
        if evaluated and self._logger.log_to_wandb and not self._parts:
            self._evaluate()
        for part in self.trainers.values():
            part.n_training_steps += 1
        return outputs

    def _is_end_to_end(self, cfg: TrainingSAEConfig) -> bool:
        share: float = getattr(cfg, "finetune_kl", 0.0)
        if not share:
            return False
        n_steps, n_left = (
            -(-samples // self.cfg.train_batch_size_samples)
            for samples in (
                self.cfg.total_training_samples,
                self.cfg.total_training_samples - self.n_samples,
            )
        )
        # However small the share, one step is.
        return n_left <= max(1, round(share * n_steps))

    def _end_to_end_step(self, name: str, run: ModelRun) -> TrainStepOutput:
        part = self.trainers[name]
        (place,) = [place for place in run.activations if place[0] == self._hooks[name]]
        divergence = partial(run.divergence, place)
        rate: float = part.sae.cfg.finetune_kl_lr
        with (
            end_to_end(part.sae, part.activation_scaler.unscale, divergence) as found,
            learning_rate_times(rate, part.optimizer),
        ):
            output = part.step(run.samples(place).to(part.sae.dtype))
        output.metrics["kl_divergence"] = found[0]
        return output

    def _move(self, bar: tqdm[Any], outputs: Mapping[str, TrainStepOutput]) -> None:
        now = time.monotonic()
        if now - self._described_at > _SECONDS_BETWEEN_DESCRIPTIONS and not bar.disable:
            self._described_at = now
            shown = list(outputs.items())[:_LOSSES_SHOWN]
            losses = " ".join(f"{name} {out.loss.item():.4g}" for name, out in shown)
            losses += " …" if len(outputs) > len(shown) else ""
            bar.set_description(f"step {self.n_steps} loss {losses}", False)
        bar.update(min(self.n_samples, bar.total) - bar.n)

    def _log(self, step: int, outputs: Mapping[str, TrainStepOutput]) -> None:
        raw = {
            name: part.build_train_step_log_dict(outputs[name], self.n_samples)
            | part.over_all_latents(outputs[name])
            for name, part in self.trainers.items()
        }
        drawn = crc32(torch.get_rng_state().numpy().tobytes())
        everyones = self._world.collect((drawn, raw))
        if any(other != everyones[0][0] for other, _ in everyones):
            raise RunFailedError(
                f"after step {step} the processes draw other random numbers, and so other batches; "
                "give all the same data; if they have, this is an error of wsae-plugin"
            )
        # Every process of a group knows the same of its SAEs.
        raw = {name: log for _, logs in everyones for name, log in logs.items()}
        raw = {name: raw[name] for name in self._shards}
        if self._world.is_first:
            self._write_metrics(step, raw)
        self._send(raw)
        for name, log in raw.items():
            if not math.isfinite(log["losses/overall_loss"]):
                raise RunFailedError(
                    f"{name}: the loss is not finite after step {step}; {_NOT_FINITE}"
                )

    def _write_metrics(self, step: int, raw: Mapping[str, Mapping[str, Any]]) -> None:
        with self._folder.metrics_file.open("a", encoding="utf-8") as file:
            for name in raw:
                # JSON has no NaN; the spread of a batch of one, say, is null.
                metrics = {key: v if math.isfinite(v) else None for key, v in raw[name].items()}
                self.last_metrics[name] = metrics
                line = {"step": step, "sae": name, **metrics}
                file.write(json.dumps(line, allow_nan=False) + "\n")

    @torch.no_grad()
    def _evaluate(self) -> None:
        for name, part in self.trainers.items():
            part.sae.eval()
            scores = self.source.evaluate(part.sae, part.activation_scaler)
            for key, values in part.sae.log_histograms().items():
                scores[key] = wandb.Histogram(values)
            self._send({name: scores})
            part.sae.train()

    def _send(self, logs: Mapping[str, Mapping[str, Any]]) -> None:
        """Log to W&B, if asked to, under the names that SAELens's runners use."""
        if self._logger.log_to_wandb and any(logs.values()):
            prefixed = {
                f"{name}/{key}" if self._config.is_multi else key: value
                for name, log in logs.items()
                for key, value in log.items()
            }
            samples = {"details/n_training_samples": self.n_samples}
            wandb.log(samples | prefixed, step=self.n_steps)

    def _estimate_metrics(self, interruption: Interruption) -> None:
        lacking = [
            name
            for name, part in self.trainers.items()
            if isinstance(part.sae, MetricTrainingSAE) and part.sae.lacks_metric
        ]
        for name in sorted({name for names in self._world.collect(lacking) for name in names}):
            metric = self._estimate_metric(name, interruption)
            if name in lacking:
                self.trainers[name].sae.set_metric(metric)

    def _estimate_metric(self, name: str, interruption: Interruption) -> Tensor:
        """What the first process estimates, while the others wait for its next pass."""
        cfg: Any = self._cfgs[name]
        hook = self._hooks[name]
        file = self._folder.metric(hook, cfg.metric_tokens)

        def pass_on(found: Tensor | None = None) -> Tensor | None:
            said = self._world.collect((found, interruption.signal_name))
            signals = [signal_name for _, signal_name in said if signal_name is not None]
            if signals and said[0][0] is None:
                raise TrainingInterruptedError(
                    f"stopped by {signals[0]} while a metric was estimated, kept as far as it is "
                    f"in {file}; go on with: {self._resume_command}"
                )
            return said[0][0]

        metric: Tensor | None = None
        if self._world.is_first:
            file.parent.mkdir(exist_ok=True)
            found = self.source.sensitivity(hook, file, cfg.metric_tokens, pass_on)
            metric = pass_on(found.information(cfg.metric, cfg.gamma_seed))
        while metric is None:
            metric = pass_on()
        return metric

    def _estimate_norms(self) -> None:
        """Estimate scales and whitenings, once: the weights are trained against them."""
        n = self.cfg.n_batches_for_norm_estimate
        estimates: list[tuple[str, Any]] = []
        for name, part in self.trainers.items():
            kind, scaler = part.sae.cfg.normalize_activations, part.activation_scaler
            if kind == "expected_average_only_in" and scaler.scaling_factor is None:
                estimates.append((name, scaler.estimate_scaling_factor))
            elif kind == "covariance_whitening" and scaler.whitening is None:
                estimates.append((name, scaler.estimate_whitening))
        # What one process needs all of them read.
        if any(self._world.collect(bool(estimates))):
            batches: Iterable[Mapping[str, Tensor]] = islice(self.source, n)
            # Several estimate from the same batches; one alone need not keep them.
            if not estimates:
                deque(batches, maxlen=0)
            elif self._config.is_multi:
                batches = list(batches)
            for name, estimate in estimates:
                activations = (batch[self._hooks[name]] for batch in batches)
                estimate(self.trainers[name].sae.cfg.d_in, activations, n)

    def _check_weights(self) -> None:
        for name, part in self.trainers.items():
            for parameter, weights in part.sae.named_parameters():
                if not torch.isfinite(weights).all():
                    raise RunFailedError(
                        f"{name}: {parameter} is not finite after step {self.n_steps}; "
                        f"{_NOT_FINITE}"
                    )

    def _compile(self) -> None:
        cfg = self._runner_config
        if getattr(cfg, "compile_sae", False):
            for part in self.trainers.values():
                part.sae.training_forward_pass = torch.compile(  # type: ignore[method-assign]
                    part.sae.training_forward_pass,
                    mode=cfg.sae_compilation_mode,
                    backend="aot_eager" if cfg.device == "mps" else "inductor",
                )

    def _folders(self, folder: Path) -> dict[str, Path]:
        """SAE name → where its files are in a checkpoint or an export, as SAELens has them."""
        return {name: folder / name if self._config.is_multi else folder for name in self._shards}

    def _load(self, checkpoint: Path) -> None:
        if self._parts:
            self._deal(checkpoint)
        else:
            for name, folder in self._folders(checkpoint).items():
                _load_trainer(self.trainers[name], folder)
        self.source.load(checkpoint)
        restore_random_state(checkpoint)

    def _deal(self, checkpoint: Path | None = None) -> None:
        """Give every process its part of what the first has: a checkpoint, or SAEs as built."""
        folders = {} if checkpoint is None else self._folders(checkpoint)
        for name, parts in self._parts.items():
            whole = None
            if self._world.is_first:
                whole = self._trainer(name, self._whole_saes.pop(name), device="cpu")
                if name in folders:
                    _load_trainer(whole, folders[name])
            if whole is not None or parts.is_mine:
                parts.deal(self.trainers.get(name), whole)
            del whole
            gc.collect()  # SAEs and trainers hold each other

    def _whole(self, name: str) -> WeightedSAETrainer | None:
        """A trainer with its whole state, on the first process; the others give theirs."""
        if not self._parts:
            return self.trainers[name]
        parts, whole = self._parts[name], None
        if self._world.is_first:
            cfg = parts.cfg.to_dict() | {"device": "cpu"}
            # What is drawn here the others do not draw.
            with temporary_seed(self._config.seed):
                whole = self._trainer(name, TrainingSAE.from_dict(cfg), device="cpu")
        if whole is not None or parts.is_mine:
            parts.gather(self.trainers.get(name), whole)
        return whole

    def _gather(self) -> None:
        """Leave the first process with whole trainers."""
        for name, part in self.trainers.items():
            if (kernel := getattr(part.sae, "kernel_in_use", None)) is not None:
                self.kernels[name] = kernel
        wholes = {name: self._whole(name) for name in self._shards}
        self.trainers = {name: part for name, part in wholes.items() if part is not None}
        self._parts = {}

    def _save(self) -> Path:
        checkpoint = self._folder.checkpoints / str(self.n_samples)
        if not self._world.tell(is_complete(checkpoint)):
            self.source.gather()
            self._write_checkpoint(checkpoint)
        return checkpoint

    def _write_checkpoint(self, checkpoint: Path) -> None:
        if not self._world.is_first:
            for name in self._shards:
                self._whole(name)
            return
        self._told.log_to_wandb = self._logger.log_to_wandb
        save_checkpoint(checkpoint, self._write)
        if self._keep_checkpoints is not None:
            keep_newest(self._folder.checkpoints, self._keep_checkpoints)

    def _write(self, checkpoint: Path) -> None:
        for name, folder in self._folders(checkpoint).items():
            whole = self._whole(name)
            assert whole is not None
            whole.save_checkpoint(folder.name, base_path=folder.parent)
            del whole
            if self._parts:
                gc.collect()
        self.source.save(checkpoint)
        self._write_config(checkpoint)

    def _write_config(self, folder: Path) -> None:
        write_json_atomic(folder / self.source.cfg_filename, self._runner_config.to_dict())

    def _export(self, batches: Sequence[Mapping[str, Tensor]]) -> None:
        """Write the SAEs as plain SAELens loads them, all or nothing."""
        with folder_written_whole(self._folder.export(self._config)) as unfinished:
            for name, folder in self._folders(unfinished).items():
                part = self.trainers[name]
                files = part.sae.save_inference_model(folder)
                if batches:
                    self._check_export(
                        name, folder, [batch[self._hooks[name]] for batch in batches]
                    )
                sparsity = folder / SPARSITY_FILENAME
                save_file({"sparsity": part.log_feature_sparsity}, sparsity)
                self._send({name: self.source.finish(part.sae, folder)})
                if self._logger.log_to_wandb:
                    self._logger.log(part, *files, sparsity, wandb_aliases=["final_model"])
            self._write_config(unfinished)

    def _batches_of_check(self) -> list[Mapping[str, Tensor]]:
        """The batches after the last, which leave no trace in what is drawn later."""
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where the text begins again, so do the samples
            try:
                return list(islice(self.source, _BATCHES_OF_CHECK))
            except Exception as error:  # of any kind: what was trained must not be lost for it
                logger.warning("The export is not measured: no more batches: %s", error)
                return []

    @torch.no_grad()
    def _check_export(self, name: str, folder: Path, batches: Sequence[Tensor]) -> None:
        """Measure an export, and the SAE that was trained, and write both into its metadata."""
        part, file = self.trainers[name], folder / SAE_CFG_FILENAME
        batches = [batch[:_SAMPLES_OF_BATCH].to(part.sae.device) for batch in batches]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of how the model is to be loaded
            exported = SAE.load_from_disk(folder, device=str(part.sae.device))
        # Batches are as the training reads them, with the heads side by side.
        exported.turn_off_forward_pass_hook_z_reshaping()
        check = {
            "samples": sum(map(len, batches)),
            "trained": mean_scores(part, part.sae.eval(), batches),
            "exported": mean_scores(part, exported.eval(), batches),
        }
        part.sae.cfg.metadata[FIELD] = check
        cfg = read_json(file, made_by="wsae train")
        cfg["metadata"][FIELD] = check
        write_json_atomic(file, cfg)
        if (problem := problem_of_export(cfg["metadata"])) is not None:
            logger.warning("%s: %s", name, problem)


def _load_trainer(trainer: WeightedSAETrainer, folder: Path) -> None:
    trainer.load_trainer_state(folder)
    trainer.sae.load_weights_from_checkpoint(folder)


def mean_scores(
    trainer: WeightedSAETrainer, sae: SAE[Any], batches: Sequence[Tensor]
) -> dict[str, float | None]:
    """Means over batches of what SAELens says of a training step."""
    logs: list[dict[str, Any]] = []
    for x in batches:
        acts = sae.encode(x)
        output = TrainStepOutput(x, sae.decode(acts), acts, acts, x.new_zeros(()), {})
        logs.append(trainer.build_train_step_log_dict(output, len(x)))
    found = {name: fmean(log[f"metrics/{name}"] for log in logs) for name in _CHECKED}
    return {name: value if math.isfinite(value) else None for name, value in found.items()}
