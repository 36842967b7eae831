"""What every source of activations can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from sae_lens import TrainingSAE
from sae_lens.training.activation_scaler import ActivationScaler
from torch import Tensor
from typing_extensions import override


class Source(Iterator[Mapping[str, Tensor]], ABC):
    """Endless batches of activations, which a resumed run continues with the very next one.

    A batch maps every hook to activations of shape (batch, d_in) on the same samples in the same
    order. Whatever is drawn at random is drawn from torch's global generator, whose state is not
    saved here: seed or restore it for an order that repeats.

    A subclass is opened by `open_source` from the SAELens runner configs that it lists.

    Args:
        cfg: The runner config.

    Attributes:
        name: What it is, in a few words.
        d_in: Hook → width of its activations. A source without hooks has one entry.
    """

    opened_from: ClassVar[tuple[type[Any], ...]]
    """Classes of the runner configs that describe such a source."""
    cannot_give: ClassVar[frozenset[str]]
    """What a measure may ask for and not get: `language_model`, `ground_truth`."""
    cfg_filename: ClassVar[str]
    """What SAELens calls the file of the runner config in a checkpoint and beside an SAE."""

    name: str
    d_in: Mapping[str, int]

    @abstractmethod
    def __init__(self, cfg: Any) -> None: ...

    @override
    @abstractmethod
    def __next__(self) -> Mapping[str, Tensor]: ...

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the exact position between two batches into an existing folder."""

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Continue from a position that `save` wrote, with the batch after it.

        Raises:
            ValueError: The files do not hold a position.
        """

    def metadata(self, hook: str) -> dict[str, Any]:  # noqa: ARG002
        """Where activations of `hook` come from, for the metadata of an SAE trained on them."""
        return {}

    def evaluate(self, sae: TrainingSAE[Any], scaler: ActivationScaler) -> dict[str, Any]:  # noqa: ARG002
        """Measure an SAE during training as SAELens does for W&B; name → value."""
        return {}

    def finish(self, sae: TrainingSAE[Any], folder: Path) -> dict[str, Any]:  # noqa: ARG002
        """Write what belongs beside an exported SAE into its folder.

        Returns:
            Final scores for W&B, name → value.
        """
        return {}

    def close(self) -> None:  # noqa: B027 - few sources hold anything
        """Stop whatever runs in the background."""


def open_source(cfg: Any) -> Source:
    """Open the source that a SAELens runner config describes.

    Raises:
        BadInputError: It cannot be opened, or is not as the config says.
    """
    return next(kind for kind in Source.__subclasses__() if isinstance(cfg, kind.opened_from))(cfg)
