# What `wsae_plugin` exports: read by type checkers, and by lazy_loader when a name is asked for.
from .gamma import GammaScheduler, gamma_from_proxy, register_proxy
from .registration import register_all
from .saes import (
    PRINTED_GBA,
    GBATrainingSAE,
    GBATrainingSAEConfig,
    WeightedAbsTopKTrainingSAE,
    WeightedAbsTopKTrainingSAEConfig,
    WeightedBatchTopKTrainingSAE,
    WeightedBatchTopKTrainingSAEConfig,
    WeightedGatedTrainingSAE,
    WeightedGatedTrainingSAEConfig,
    WeightedJumpReLUTrainingSAE,
    WeightedJumpReLUTrainingSAEConfig,
    WeightedMatchingPursuitTrainingSAE,
    WeightedMatchingPursuitTrainingSAEConfig,
    WeightedMatryoshkaBatchTopKTrainingSAE,
    WeightedMatryoshkaBatchTopKTrainingSAEConfig,
    WeightedStandardTrainingSAE,
    WeightedStandardTrainingSAEConfig,
    WeightedTopKTrainingSAE,
    WeightedTopKTrainingSAEConfig,
)
from .sources.sensitivity import fisher_metric
from .training.trainer import WeightedSAETrainer

__version__: str

__all__ = [
    "PRINTED_GBA",
    "GBATrainingSAE",
    "GBATrainingSAEConfig",
    "GammaScheduler",
    "WeightedAbsTopKTrainingSAE",
    "WeightedAbsTopKTrainingSAEConfig",
    "WeightedBatchTopKTrainingSAE",
    "WeightedBatchTopKTrainingSAEConfig",
    "WeightedGatedTrainingSAE",
    "WeightedGatedTrainingSAEConfig",
    "WeightedJumpReLUTrainingSAE",
    "WeightedJumpReLUTrainingSAEConfig",
    "WeightedMatchingPursuitTrainingSAE",
    "WeightedMatchingPursuitTrainingSAEConfig",
    "WeightedMatryoshkaBatchTopKTrainingSAE",
    "WeightedMatryoshkaBatchTopKTrainingSAEConfig",
    "WeightedSAETrainer",
    "WeightedStandardTrainingSAE",
    "WeightedStandardTrainingSAEConfig",
    "WeightedTopKTrainingSAE",
    "WeightedTopKTrainingSAEConfig",
    "fisher_metric",
    "gamma_from_proxy",
    "register_all",
    "register_proxy",
]
