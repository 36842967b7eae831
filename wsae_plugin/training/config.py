"""One of SAELens's three runner configs, with every field known, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sae_lens import LanguageModelSAERunnerConfig, LoggingConfig, TrainingSAEConfig
from sae_lens.multi_sae_training_runner import MultiSAETrainingRunnerConfig
from sae_lens.synthetic import SyntheticSAERunnerConfig

from wsae_plugin.errors import BadInputError
from wsae_plugin.sources.opening import published_model_name
from wsae_plugin.training.fields import resolve_section
from wsae_plugin.training.messages import naming, nearest, refusals_as_bad_input


@dataclass(frozen=True)
class RunConfig:
    """A config in which every field is known, filled in and checked.

    Args:
        cls: SAELens's class for it.
        values: All of its fields as plain values, as they stand in the run folder's config.yaml.
            A synthetic run has a `seed` here too, which SAELens's class lacks.
        source: The file, and what was set on top of it, for messages.
    """

    cls: type[Any]
    values: dict[str, Any]
    source: str

    @property
    def is_synthetic(self) -> bool:
        return self.cls is SyntheticSAERunnerConfig

    @property
    def is_multi(self) -> bool:
        return self.cls is MultiSAETrainingRunnerConfig

    @property
    def seed(self) -> int:
        return self.values["seed"]

    @property
    def n_samples(self) -> int:
        """Activation vectors to train on: tokens, or samples of a synthetic model."""
        return self.values["training_samples" if self.is_synthetic else "training_tokens"]

    @property
    def batch_size(self) -> int:
        """Activation vectors a step."""
        return self.values["batch_size" if self.is_synthetic else "train_batch_size_tokens"]

    @property
    def n_steps(self) -> int:
        """Steps that are made: SAELens finishes the batch in which the last sample lies."""
        return -(-self.n_samples // self.batch_size)

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
        saes, hooks = self.values["saes"], self.values["hook_names"]
        name = next(iter(saes)) if name is None else name
        if name not in saes:
            raise BadInputError(f"--sae {name}: no such SAE; {nearest(name, saes)}")
        heads = self.values["hook_head_indices"]
        known = {field.name for field in fields(LanguageModelSAERunnerConfig)}
        values = {key: value for key, value in self.values.items() if key in known} | {
            "sae": saes[name],
            "hook_name": hooks[name] if isinstance(hooks, dict) else hooks,
            "hook_head_index": heads.get(name) if isinstance(heads, dict) else heads,
        }
        resolved = resolve_section(LanguageModelSAERunnerConfig, values)
        return RunConfig(LanguageModelSAERunnerConfig, resolved, source=self.source)

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
        values = self.values | {"output_path": None if output is None else str(output)}
        with refusals_as_bad_input():
            config = self._construct(values, saes)
        # Afterwards, since SAELens's constructors append a random name to it.
        config.checkpoint_path = None if checkpoints is None else str(checkpoints)
        return config

    def _construct(self, values: dict[str, Any], saes: dict[str, TrainingSAEConfig]) -> Any:
        if self.is_synthetic:
            return SyntheticSAERunnerConfig.from_dict(
                {name: value for name, value in values.items() if name != "seed"}
            )
        values["seqpos_slice"] = tuple(values["seqpos_slice"])
        values["model_name"] = published_model_name(values["model_name"])
        if self.is_multi:
            values |= {"saes": saes, "logger": LoggingConfig(**values["logger"])}
            return MultiSAETrainingRunnerConfig(**values)
        # `verbose` only makes the constructor log a summary, and we construct more than once.
        return LanguageModelSAERunnerConfig.from_dict(values | {"verbose": False})
