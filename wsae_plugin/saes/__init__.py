"""The weighted architectures, one a file."""

from __future__ import annotations

from wsae_plugin.saes.abstopk import (
    WeightedAbsTopKTrainingSAE,
    WeightedAbsTopKTrainingSAEConfig,
)
from wsae_plugin.saes.batchtopk import (
    WeightedBatchTopKTrainingSAE,
    WeightedBatchTopKTrainingSAEConfig,
)
from wsae_plugin.saes.gated import WeightedGatedTrainingSAE, WeightedGatedTrainingSAEConfig
from wsae_plugin.saes.gba import PRINTED_GBA, GBATrainingSAE, GBATrainingSAEConfig
from wsae_plugin.saes.jumprelu import (
    WeightedJumpReLUTrainingSAE,
    WeightedJumpReLUTrainingSAEConfig,
)
from wsae_plugin.saes.matching_pursuit import (
    WeightedMatchingPursuitTrainingSAE,
    WeightedMatchingPursuitTrainingSAEConfig,
)
from wsae_plugin.saes.matryoshka_batchtopk import (
    WeightedMatryoshkaBatchTopKTrainingSAE,
    WeightedMatryoshkaBatchTopKTrainingSAEConfig,
)
from wsae_plugin.saes.standard import (
    WeightedStandardTrainingSAE,
    WeightedStandardTrainingSAEConfig,
)
from wsae_plugin.saes.topk import WeightedTopKTrainingSAE, WeightedTopKTrainingSAEConfig
from wsae_plugin.saes.weighted import (
    GAMMA_FILENAME,
    WeightedTrainingSAE,
    WeightedTrainingSAEConfig,
)

WEIGHTED_ARCHITECTURES: tuple[
    tuple[type[WeightedTrainingSAE], type[WeightedTrainingSAEConfig]], ...
] = (
    (WeightedStandardTrainingSAE, WeightedStandardTrainingSAEConfig),
    (WeightedGatedTrainingSAE, WeightedGatedTrainingSAEConfig),
    (WeightedJumpReLUTrainingSAE, WeightedJumpReLUTrainingSAEConfig),
    (WeightedTopKTrainingSAE, WeightedTopKTrainingSAEConfig),
    (WeightedBatchTopKTrainingSAE, WeightedBatchTopKTrainingSAEConfig),
    (WeightedMatryoshkaBatchTopKTrainingSAE, WeightedMatryoshkaBatchTopKTrainingSAEConfig),
    (WeightedAbsTopKTrainingSAE, WeightedAbsTopKTrainingSAEConfig),
    (WeightedMatchingPursuitTrainingSAE, WeightedMatchingPursuitTrainingSAEConfig),
    (GBATrainingSAE, GBATrainingSAEConfig),
)

__all__ = [
    "PRINTED_GBA",
    "GAMMA_FILENAME",
    "GBATrainingSAE",
    "GBATrainingSAEConfig",
    "WEIGHTED_ARCHITECTURES",
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
    "WeightedStandardTrainingSAE",
    "WeightedStandardTrainingSAEConfig",
    "WeightedTopKTrainingSAE",
    "WeightedTopKTrainingSAEConfig",
    "WeightedTrainingSAE",
    "WeightedTrainingSAEConfig",
]
