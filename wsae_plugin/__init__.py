"""Weighted sparse autoencoders for SAELens. Importing this package registers its architectures."""

from wsae_plugin.gamma import GammaScheduler, gamma_from_proxy, register_proxy
from wsae_plugin.registration import register_all
from wsae_plugin.saes import (
    PRINTED_GBA,
    GBATrainingSAE,
    GBATrainingSAEConfig,
    WeightedBatchTopKTrainingSAE,
    WeightedBatchTopKTrainingSAEConfig,
    WeightedGatedTrainingSAE,
    WeightedGatedTrainingSAEConfig,
    WeightedJumpReLUTrainingSAE,
    WeightedJumpReLUTrainingSAEConfig,
    WeightedMatryoshkaBatchTopKTrainingSAE,
    WeightedMatryoshkaBatchTopKTrainingSAEConfig,
    WeightedStandardTrainingSAE,
    WeightedStandardTrainingSAEConfig,
    WeightedTopKTrainingSAE,
    WeightedTopKTrainingSAEConfig,
)
from wsae_plugin.training.trainer import WeightedSAETrainer

__version__ = "0.1.0"

__all__ = [
    "PRINTED_GBA",
    "GBATrainingSAE",
    "GBATrainingSAEConfig",
    "GammaScheduler",
    "WeightedBatchTopKTrainingSAE",
    "WeightedBatchTopKTrainingSAEConfig",
    "WeightedGatedTrainingSAE",
    "WeightedGatedTrainingSAEConfig",
    "WeightedJumpReLUTrainingSAE",
    "WeightedJumpReLUTrainingSAEConfig",
    "WeightedMatryoshkaBatchTopKTrainingSAE",
    "WeightedMatryoshkaBatchTopKTrainingSAEConfig",
    "WeightedSAETrainer",
    "WeightedStandardTrainingSAE",
    "WeightedStandardTrainingSAEConfig",
    "WeightedTopKTrainingSAE",
    "WeightedTopKTrainingSAEConfig",
    "gamma_from_proxy",
    "register_all",
    "register_proxy",
]

register_all()
