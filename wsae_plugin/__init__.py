"""Weighted sparse autoencoders for SAELens. Importing this package registers its architectures.

SAELens and torch take seconds to import, so nothing here imports them by itself: public names are
imported when they are first asked for (`__init__.pyi` lists them, for type checkers too), and the
architectures are registered as soon as SAELens has been imported, before or after this package.
"""

from importlib import import_module
from types import ModuleType

import lazy_loader
from wrapt import when_imported

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


@when_imported("sae_lens")
def _import_architectures(_: ModuleType) -> None:
    import_module("wsae_plugin.saes")


# Not in the hook above: the import of the architectures may be what imports SAELens, and they are
# not all there before it ends.
@when_imported("wsae_plugin.saes")
def _register(_: ModuleType) -> None:
    import_module("wsae_plugin.registration")
