"""A runner config of SAELens or of another source, with every field known, as plain values.

The sections of the file say which: `sae:` makes it a `LanguageModelSAERunnerConfig`, `saes:` a
`MultiSAETrainingRunnerConfig`, `synthetic_model:` a `SyntheticSAERunnerConfig`, `activations:` a
`TableSAERunnerConfig`; a source of another kind names its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae_lens import LoggingConfig, TrainingSAEConfig
from sae_lens.registry import SAE_TRAINING_CLASS_REGISTRY

from wsae_plugin.distributed.layout import Distributed
from wsae_plugin.errors import BadInputError
from wsae_plugin.messages import naming, nearest, refusals_as_bad_input
from wsae_plugin.saelens_fields import Seed
from wsae_plugin.saved_run import one_of_several
from wsae_plugin.sources import Source, runner_config_of, source_of
from wsae_plugin.sources.opening import published_model_name
from wsae_plugin.training.checks import check
from wsae_plugin.validation import convert, hints_of, resolve
from wsae_plugin.yaml_file import read_config

_DEFAULT_SEED = 42
"""Where SAELens's config has no seed, as its synthetic one."""


@dataclass(frozen=True)
class RunConfig:
    """A config in which every field is known, filled in and checked.

    Args:
        values: All of its fields as plain values, as they stand in the run folder's config.yaml.
            There is a `seed` also where SAELens's class has none, as for synthetic data.
        file: The file, and what was set on top of it, for messages.
    """

    values: dict[str, Any]
    file: str

    @property
    def cls(self) -> type[Any]:
        """The class of its runner config."""
        return runner_config_of(self.values)

    @property
    def source(self) -> type[Source]:
        """What the activations come from."""
        return source_of(self.cls)

    @property
    def has_language_model(self) -> bool:
        """Whether a language model computes the activations."""
        return self.source.has_language_model

    @property
    def is_multi(self) -> bool:
        return "saes" in self.values

    @property
    def seed(self) -> int:
        return self.values["seed"]

    @property
    def n_samples(self) -> int:
        """Activation vectors to train on: tokens, or samples of a synthetic model."""
        return self.values[self.source.n_samples_field]

    @property
    def batch_size(self) -> int:
        """Activation vectors a step."""
        return self.values[self.source.batch_size_field]

    @property
    def n_steps(self) -> int:
        """Steps that are made: SAELens finishes the batch in which the last sample lies."""
        return -(-self.n_samples // self.batch_size)

    @property
    def distributed(self) -> Distributed:
        """Which of several processes trains what; the section is about this run, not its result."""
        return Distributed(**self.values.get("distributed", {}))

    @property
    def sae_sections(self) -> dict[str, dict[str, Any]]:
        """Dotted path of every SAE's section → the section."""
        if not self.is_multi:
            return {"sae": self.values["sae"]}
        return {f"saes.{name}": section for name, section in self.values["saes"].items()}

    def alone(self, name: str | None = None) -> RunConfig:
        """One SAE of several, on its own hook, as a config of its own; a config of one as it is.

        Args:
            name: Which of `saes`; None for the first.

        Raises:
            BadInputError: There is no such SAE.
        """
        if not self.is_multi:
            if name is not None:
                raise BadInputError(f"--sae {name}: the config has one SAE only; leave it out")
            return self
        saes = self.values["saes"]
        name = next(iter(saes)) if name is None else name
        if name not in saes:
            raise BadInputError(f"--sae {name}: no such SAE; {nearest(name, saes)}")
        values = one_of_several(self.values, name)
        resolved = resolve(runner_config_of(values), values, others_allowed=True)
        return RunConfig(resolved, self.file)

    def sae_configs(self) -> dict[str, TrainingSAEConfig]:
        """SAE name (`sae` where there is one only) → a new SAELens config for it.

        Raises:
            BadInputError: SAELens or the plugin refuses the values.
        """
        configs: dict[str, TrainingSAEConfig] = {}
        for path, section in self.sae_sections.items():
            with naming(path), refusals_as_bad_input():
                configs[path.removeprefix("saes.")] = TrainingSAEConfig.from_dict(section)
        return configs

    def runner_config(self, output: Path | None = None, checkpoints: Path | None = None) -> Any:
        """A new SAELens runner config, of the class `cls`.

        Args:
            output: Where SAELens exports the trained SAE to; None for nowhere.
            checkpoints: Where SAELens keeps its checkpoints; None for nowhere.

        Raises:
            BadInputError: SAELens or the plugin refuses the values.
        """
        saes = self.sae_configs()
        # `verbose` only makes a constructor log a summary, and we construct more than once.
        values = {name: v for name, v in self.values.items() if name != "distributed"}
        values["output_path"] = None if output is None else str(output)
        if "seed" not in hints_of(self.cls):
            del values["seed"]
        if self.has_language_model:
            values["seqpos_slice"] = tuple(values["seqpos_slice"])
            values["model_name"] = published_model_name(values["model_name"])
        with refusals_as_bad_input():
            if self.is_multi:
                values |= {"saes": saes, "logger": LoggingConfig(**values["logger"])}
                config = self.cls(**values)
            else:
                quiet = {"verbose": False} if "verbose" in values else {}
                config = self.cls.from_dict(values | quiet)
        # Afterwards, since SAELens's constructors append a random name to it.
        config.checkpoint_path = None if checkpoints is None else str(checkpoints)
        return config


def load_run_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read, resolve and check a config file.

    Args:
        path: The YAML file.
        overrides: What `--set` gives, such as `sae.alpha=0.5`.

    Returns:
        The config. SAELens's classes accept it; no model and no data set has been opened.

    Raises:
        BadInputError: Whatever the file and the overrides alone show to be wrong.
    """
    values, file = read_config(path, overrides)
    with naming(file):
        config = RunConfig(resolve_run(values), file)
        check(config)
        config.runner_config()
    return config


def config_as_found(values: Mapping[str, Any], where: str) -> RunConfig:
    """What is known of a training elsewhere, to open what it read from; see `read_training`.

    What is not known has SAELens's default, and whether it could be trained here is not looked at.

    Args:
        values: What is known.
        where: For messages.

    Raises:
        BadInputError: A value is of another type than SAELens's.
    """
    section: dict[str, Any] = dict(values.get("sae") or {})
    if section.get("architecture") not in SAE_TRAINING_CLASS_REGISTRY:
        # Of another package: what is published of it says how wide it is.
        section = {n: section.get(n) for n in ("d_in", "d_sae")} | {"architecture": "standard"}
    with naming(where):
        config = RunConfig(resolve_run({**values, "sae": section}, others_allowed=True), where)
        config.runner_config()
    return config


def resolve_run(written: Mapping[str, Any], others_allowed: bool = False) -> dict[str, Any]:
    """All values of a run, from those that are written: of its runner config, and ours beside it.

    Raises:
        BadInputError: An unknown field, unless allowed, or a wrong type.
    """
    values = {**written}
    cls, ours = runner_config_of(values), dict[str, Any]()
    if "distributed" in values:
        ours["distributed"] = convert(values.pop("distributed"), Distributed, "distributed")
    if "seed" not in hints_of(cls):
        ours["seed"] = convert(values.pop("seed", _DEFAULT_SEED), Seed, "seed")
    return resolve(cls, values, others_allowed=others_allowed) | ours
