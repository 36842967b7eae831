"""Where activations come from: a language model's hooks, or a synthetic world.

A new source is a new module here with a subclass of `Source`.
"""

from importlib import import_module
from pkgutil import iter_modules

from wsae_plugin.sources.language_model import LanguageModelSource, activations_of
from wsae_plugin.sources.source import Source, open_source

__all__ = ["LanguageModelSource", "Source", "activations_of", "open_source"]

for _module in iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)
