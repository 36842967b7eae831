"""What every source of activations can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sae_lens import SAE, TrainingSAE
from sae_lens.synthetic.evals import SyntheticDataEvalResult
from sae_lens.training.activation_scaler import ActivationScaler
from torch import Tensor
from typing_extensions import override

from wsae_plugin.distributed.world import World
from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma.consistency import LabelEvidence
from wsae_plugin.gamma.proxies import no_labels
from wsae_plugin.gamma.sensitivity import Sensitivity
from wsae_plugin.sources.model_run import ModelRun
from wsae_plugin.sources.pictures import Pictures

GIVE_GRADIENTS = (
    "give metric_file, a safetensors file with one tensor gradients (n, d_in) of your own"
)


@dataclass(frozen=True)
class Classes:
    """Which classes samples are of.

    Args:
        labels: The class of each, shape (n,), int64; −1 for one that has none.
        shuffled: The same after the images have got each other's labels.
        images: Of which image each is, shape (n,), int64.
        names: What the classes are called.
    """

    labels: Tensor
    shuffled: Tensor
    images: Tensor
    names: tuple[str, ...]


@dataclass(frozen=True)
class Samples:
    """Samples that no training has seen.

    Args:
        x: Activations, shape (n, d_in).
        rows: Which rows of a table they are, shape (n,), int64; None where there are none.
        classes: What is known of their classes; None where nobody says.
    """

    x: Tensor
    rows: Tensor | None = None
    classes: Classes | None = None


class Source(Iterator[Mapping[str, Tensor]], ABC):
    """Endless batches of activations, which a resumed run continues with the very next one.

    A batch maps every hook to activations of shape (batch, d_in) on the same samples in the same
    order. Whatever is drawn at random is drawn from torch's global generator, whose state is not
    saved here: seed or restore it for an order that repeats.

    A subclass names the sections of a config file that ask for it, and is opened by `open_source`
    from the runner configs that they make: of SAELens, or others with the same fields and methods
    for all that is not about where activations come from (a subclass of
    `SyntheticSAERunnerConfig`, say).

    Args:
        cfg: The runner config.

    Attributes:
        name: What it is, in a few words.
        d_in: Hook → width of its activations. A source without hooks has one entry.
        pictures: What the rows that `held_out` gives look like; None where nobody knows.
    """

    runner_configs: ClassVar[Mapping[tuple[str, ...], type[Any]]]
    """Sections that together ask for this source → the class of the runner config."""
    n_samples_field: ClassVar[str]
    """The field that says on how many activation vectors to train."""
    batch_size_field: ClassVar[str]
    """The field that says how many of them a step takes."""
    has_language_model: ClassVar[bool]
    """Whether a language model computes the activations, so that measures can ask it."""
    cfg_filename: ClassVar[str]
    """What SAELens calls the file of the runner config in a checkpoint and beside an SAE."""
    held_out_fields: ClassVar[tuple[str, ...] | None] = None
    """The fields that decide which held-out samples SAEs are measured on; None for all."""

    name: str
    d_in: Mapping[str, int]
    pictures: Pictures | None = None

    @abstractmethod
    def __init__(self, cfg: Any) -> None: ...

    @classmethod
    def problems(cls, values: Mapping[str, Any]) -> Iterator[str]:  # noqa: ARG003
        """What the fields of a config make impossible together; each names a field and says why."""
        return iter(())

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

    @classmethod
    def measured_on(
        cls, values: Mapping[str, Any], dataset: str | None
    ) -> tuple[dict[str, Any], str, str | None]:
        """What SAEs of a config are measured on, of a source without a language model.

        Args:
            values: Of the config.
            dataset: What was asked for; None for what `held_out` gives.

        Returns:
            The values of a config whose source gives it, what it is called, and its split if any.

        Raises:
            BadInputError: Nothing else can be asked for.
        """
        section = next(sections[0] for sections in cls.runner_configs if sections[0] in values)
        name = section.replace("_", " ")
        if dataset is not None:
            raise BadInputError(
                f"--dataset {dataset}: this is a run on a {name}, which is measured on samples of "
                "it; leave it out"
            )
        return {**values}, name, None

    @classmethod
    def contents(cls, values: Mapping[str, Any], hook: str) -> Mapping[str, str]:  # noqa: ARG003
        """Fingerprints of what the files hold that a config names, and that may have changed.

        Args:
            values: Of the config, see `measured_on`.
            hook: What the SAE reads.

        Returns:
            `rows`, of the samples, as `metadata` has it of those that were trained on, and others;
            empty where the config says all.

        Raises:
            BadInputError: They cannot be read.
        """
        return {}

    @property
    def n_held_out(self) -> int | None:
        """How many samples `held_out` has; None for as many as are wanted."""
        return None

    @property
    def rows_per_image(self) -> int | None:
        """How many of what `held_out` gives in a row are of one image; None where none has any."""
        return None

    def held_out(self, n_samples: int) -> Samples:  # noqa: ARG002
        """The next samples that no training has seen, to measure SAEs of the first hook on.

        What is drawn at random is drawn under a seed that no training has.

        Raises:
            BadInputError: There are none.
        """
        raise BadInputError(
            f"{self.name}: has no samples that a training leaves out, so SAEs cannot be measured"
        )

    def truth(self, sae: SAE[Any], n_samples: int, batch: int) -> SyntheticDataEvalResult | None:  # noqa: ARG002
        """What SAELens measures against the features behind the samples; None where unknown.

        Args:
            sae: The SAE, for inference.
            n_samples: How many to draw.
            batch: How many at a time.
        """
        return None

    def sensitivity(
        self,
        hook: str,  # noqa: ARG002
        file: Path,  # noqa: ARG002
        n_tokens: int,  # noqa: ARG002
        after_batch: Callable[[], object] = lambda: None,  # noqa: ARG002
    ) -> Sensitivity:
        """What the output of the model behind `hook` feels of an error there, see `fisher_metric`.

        Args:
            hook: Of `d_in`.
            file: Where it is kept, and read from where it is there already.
            n_tokens: From how many activations at least; of the training's, which are drawn again.
            after_batch: Called after each pass of the model; what it raises stops the estimate.

        Raises:
            BadInputError: There is no such model, or too little text.
        """
        raise BadInputError(
            f"metric: {self.name} has no output that would feel an error: {GIVE_GRADIENTS}"
        )

    def contexts(self, n_samples: int, hooks: Collection[str]) -> ModelRun:  # noqa: ARG002
        """The next contexts of the text, which is read apart from the batches, from its beginning,
        so that what an SAE does to the model's output can train it.

        Args:
            n_samples: How many activations count in them, drawn at random.
            hooks: Of `d_in`.

        Raises:
            BadInputError: There is no such model.
        """
        raise BadInputError(f"finetune_kl: {self.name} has no output to compare: leave it out")

    def label_evidence(self, hook: str, shuffled: bool = False) -> LabelEvidence:  # noqa: ARG002
        """Of which classes the samples of the training are that excite each dimension.

        Args:
            hook: Of `d_in`.
            shuffled: After the images have got each other's labels.

        Raises:
            BadInputError: The samples have no labels.
        """
        return no_labels()

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

    def share(self, world: World) -> None:
        """Do only a part of the work, and give every process of a world the same batches.

        By default each does all.
        """

    def gather(self) -> None:  # noqa: B027 - few sources are shared
        """Bring what `save` writes to the first process, which saves next; all call it."""

    def close(self) -> None:  # noqa: B027 - few sources hold anything
        """Stop whatever runs in the background."""


def runner_config_of(values: Mapping[str, Any]) -> type[Any]:
    """The class of the runner config that a config file describes, by its sections.

    Raises:
        BadInputError: None has such sections.
    """
    if "sae" in values and "saes" in values:
        raise BadInputError("sae and saes: a run has one or the other; leave one out")
    known = {
        sections: cls
        for kind in Source.__subclasses__()
        for sections, cls in kind.runner_configs.items()
        if set(sections) <= set(values)
    }
    if not known:
        raise BadInputError(
            "sae: missing; give 'sae:' for one SAE, 'saes:' and 'hook_names:' for several in one "
            "pass; beside it 'activations:' for a table, or 'synthetic_model:' for a toy world"
        )
    # A config class that is made from another one has the sections of both.
    return max(known.items(), key=lambda found: (len(found[0]), len(found[1].__mro__)))[1]


def source_of(runner_config: type[Any]) -> type[Source]:
    """The source that a class of runner configs is for."""
    kinds = Source.__subclasses__()
    opened_from = {cls: kind for kind in kinds for cls in kind.runner_configs.values()}
    return next(opened_from[cls] for cls in runner_config.__mro__ if cls in opened_from)


def open_source(cfg: Any) -> Source:
    """Open the source that a runner config describes.

    Raises:
        BadInputError: It cannot be opened, or is not as the config says.
    """
    return source_of(type(cfg))(cfg)
