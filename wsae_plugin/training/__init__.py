"""YAML → SAELens runner configs, and the runs they describe."""

from wsae_plugin.sources import activations_of
from wsae_plugin.training.config import RunConfig, load_run_config
from wsae_plugin.training.estimate import Estimate, MemoryEstimate, estimate
from wsae_plugin.training.loop import TrainingInterruptedError
from wsae_plugin.training.run_folder import RunFolder
from wsae_plugin.training.train import TrainedRun, train

__all__ = [
    "Estimate",
    "MemoryEstimate",
    "RunConfig",
    "RunFolder",
    "TrainedRun",
    "TrainingInterruptedError",
    "activations_of",
    "estimate",
    "load_run_config",
    "train",
]
