"""A YAML file as one of SAELens's three runner configs.

The file says which: `sae:` makes it a `LanguageModelSAERunnerConfig`, `saes:` a
`MultiSAETrainingRunnerConfig`, `synthetic_model:` a `SyntheticSAERunnerConfig`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sae_lens import LanguageModelSAERunnerConfig
from sae_lens.multi_sae_training_runner import MultiSAETrainingRunnerConfig
from sae_lens.synthetic import SyntheticSAERunnerConfig

from wsae_plugin.errors import BadInputError
from wsae_plugin.training.checks import check
from wsae_plugin.training.config import RunConfig
from wsae_plugin.training.fields import convert, resolve_section
from wsae_plugin.training.messages import naming
from wsae_plugin.training.yaml_file import read_yaml, with_overrides

_DEFAULT_SYNTHETIC_SEED = 42


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
    values = with_overrides(read_yaml(path), overrides)
    source = f"{path} (--set {', '.join(overrides)})" if overrides else str(path)
    with naming(source):
        config = RunConfig(*_resolve(values), source=source)
        check(config)
        config.runner_config()
    return config


def _resolve(values: dict[str, Any]) -> tuple[type[Any], dict[str, Any]]:
    if "synthetic_model" in values:
        rest = dict(values)
        seed = convert(rest.pop("seed", _DEFAULT_SYNTHETIC_SEED), int, "seed")
        return SyntheticSAERunnerConfig, {
            **resolve_section(SyntheticSAERunnerConfig, rest),
            "seed": seed,
        }
    if "sae" in values and "saes" in values:
        raise BadInputError("sae and saes: a run has one or the other; leave one out")
    if "saes" in values:
        return MultiSAETrainingRunnerConfig, resolve_section(MultiSAETrainingRunnerConfig, values)
    if "sae" in values:
        return LanguageModelSAERunnerConfig, resolve_section(LanguageModelSAERunnerConfig, values)
    raise BadInputError(
        "sae: missing; give 'sae:' for one SAE, 'saes:' and 'hook_names:' for several in one pass, "
        "or 'sae:' and 'synthetic_model:' for a toy world"
    )
