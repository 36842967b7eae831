"""Where activations come from: a language model's hooks, a table, or a synthetic world.

A new source is a new module here with a subclass of `Source`, which names its own config class.
"""

from importlib import import_module
from pkgutil import iter_modules

from wsae_plugin.sources.language_model import LanguageModelSource, activations_of
from wsae_plugin.sources.source import (
    Classes,
    Samples,
    Source,
    open_source,
    runner_config_of,
    source_of,
)

__all__ = [
    "Classes",
    "LanguageModelSource",
    "Samples",
    "Source",
    "activations_of",
    "open_source",
    "runner_config_of",
    "source_of",
]

for _module in iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)
