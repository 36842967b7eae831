"""YAML → SAELens runner configs, and the runs they describe."""

from wsae_plugin.sources import activations_of
from wsae_plugin.training.config import RunConfig
from wsae_plugin.training.estimate import Estimate, MemoryEstimate, estimate
from wsae_plugin.training.load import load_run_config
from wsae_plugin.training.loop import TrainingInterruptedError
from wsae_plugin.training.matched.config import ComparisonConfig
from wsae_plugin.training.matched.plan import load_comparison_config
from wsae_plugin.training.matched.run import run_comparison
from wsae_plugin.training.run_folder import RunFolder
from wsae_plugin.training.train import TrainedRun, train

__all__ = [
    "ComparisonConfig",
    "Estimate",
    "MemoryEstimate",
    "RunConfig",
    "RunFolder",
    "TrainedRun",
    "TrainingInterruptedError",
    "activations_of",
    "estimate",
    "load_comparison_config",
    "load_run_config",
    "run_comparison",
    "train",
]
