"""What a config says of a training on a table, with the fields and methods of SAELens's configs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from annotated_types import Gt, Lt
from sae_lens import LoggingConfig, TrainingSAEConfig, __version__
from sae_lens.config import SAETrainerConfig
from sae_lens.registry import get_sae_training_class
from typing_extensions import Self, override

from wsae_plugin.saelens_fields import Seed
from wsae_plugin.sources.table_files import ONLY


@dataclass(kw_only=True)
class _OnTable:
    """What SAEs on a table have in common.

    Attributes:
        activations: The table, see `columns_of`.
        labels: The class of each row: a column of the table, or a file with one a row.
        images: What the rows look like: a file of pictures (n, height, width) or (n, height, width,
            3), uint8, or of paths, one a line; one for each row, or for as many rows each.
        held_out: What training leaves out for measures: a share of the rows, or of the images where
            `rows_per_image` says which rows are of one; or another table.
        held_out_labels: Of another table, if `labels` is a file.
        held_out_images: Of another table, if there are `images`.
        split_seed: Of the share that is held out.
        rows_per_image: How many rows in a row are of one image; None for what the table says, or
            as many as each of `images` has, or 1. Rows of one image are held out together.
        model_name: What computed the activations, for the card; None for what the table says.
        dataset_path: From what, for the card; None for what the table says.
        training_samples: Rows to train on, counted as often as they are seen.
        batch_size: Rows of a step.
        n_batches_in_buffer: Batches to shuffle among.
        activations_mixing_fraction: Share of the buffer that is kept, see SAELens.
        act_store_device: Where the buffer is; None for `device`.
        dtype: Of the activations in the buffer.
    """

    activations: str
    labels: str | None = None
    images: str | None = None
    held_out: Annotated[float, Gt(0), Lt(1)] | str = 0.1
    held_out_labels: str | None = None
    held_out_images: str | None = None
    split_seed: Seed = 0
    rows_per_image: Annotated[int, Gt(0)] | None = None
    model_name: str | None = None
    dataset_path: str | None = None

    training_samples: int = 2_000_000
    batch_size: int = 4096
    n_batches_in_buffer: int = 20
    activations_mixing_fraction: float = 0.5
    act_store_device: str | None = None
    dtype: str = "float32"

    device: str = "cpu"
    seed: int = 42
    autocast: bool = False
    lr: float = 3e-4
    lr_end: float | None = None
    lr_scheduler_name: str = "constant"
    lr_warm_up_steps: int = 0
    lr_decay_steps: int = 0
    n_restart_cycles: int = 1
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    dead_feature_window: int = 1000
    feature_sampling_window: int = 2000
    n_batches_for_norm_estimate: int = 1000

    n_checkpoints: int = 0
    checkpoint_path: str | None = "checkpoints"
    save_final_checkpoint: bool = False
    output_path: str | None = "output"
    sae_lens_version: str = field(default_factory=lambda: __version__)
    logger: LoggingConfig = field(default_factory=LoggingConfig)

    def __post_init__(self) -> None:
        self.lr_end = self.lr / 10 if self.lr_end is None else self.lr_end
        if self.act_store_device in (None, "with_model"):
            self.act_store_device = self.device

    @property
    def hook_names_per_sae(self) -> dict[str, str]:
        """SAE → the column that it reads."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def to_sae_trainer_config(self) -> SAETrainerConfig:
        """What SAELens's trainer takes."""
        same = (name for name in SAETrainerConfig.__dataclass_fields__ if hasattr(self, name))
        return SAETrainerConfig(
            **{name: getattr(self, name) for name in same},
            total_training_samples=self.training_samples,
            train_batch_size_samples=self.batch_size,
        )


@dataclass(kw_only=True)
class TableSAERunnerConfig(_OnTable):
    """One SAE on one column of a table.

    Attributes:
        sae: The SAE.
        hook_name: The column; a file with one array has no other than `activations`.
    """

    sae: TrainingSAEConfig
    hook_name: str = ONLY

    @property
    @override
    def hook_names_per_sae(self) -> dict[str, str]:
        return {"sae": self.hook_name}

    @override
    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"sae": self.sae.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make one of the plain values of a config file."""
        sae: dict[str, Any] = values["sae"]
        logger = LoggingConfig(**values.get("logger") or {})
        made = get_sae_training_class(sae["architecture"])[1].from_dict(sae)
        fields: dict[str, Any] = {**values, "sae": made, "logger": logger}
        return cls(**fields)


@dataclass(kw_only=True)
class MultiTableSAERunnerConfig(_OnTable):
    """Several SAEs, each on a column of one table, in one pass.

    Attributes:
        saes: SAE name → the SAE.
        hook_names: SAE name → its column, or one for all.
    """

    saes: Mapping[str, TrainingSAEConfig]
    hook_names: Mapping[str, str] | str = ONLY

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.saes:
            raise ValueError("saes must contain at least one entry")

    @property
    @override
    def hook_names_per_sae(self) -> dict[str, str]:
        names = self.hook_names
        return dict.fromkeys(self.saes, names) if isinstance(names, str) else {**names}

    @override
    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"saes": {n: sae.to_dict() for n, sae in self.saes.items()}}
