"""SAEBench itself: imported when first needed, and refused with the way out when it cannot be."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from wsae_plugin.errors import BadInputError

SUPPORTED = "0.6.0"

_INSTALL = (
    "SAEBench needs an environment of its own (numpy<2, datasets<4): make a virtual environment "
    "with Python 3.10 to 3.12, then\n"
    "  pip install -c constraints-saebench.txt -r requirements-saebench.txt\n"
    f"  pip install --no-deps sae-bench=={SUPPORTED}\n"
    "or `make saebench` in a checkout. --no-deps keeps out torchvision, which breaks the import."
)


def require() -> None:
    """Refuse to go on without a SAEBench that works.

    Raises:
        BadInputError: It is missing, of another version, or beside a library that breaks it.
    """
    if importlib.util.find_spec("sae_bench") is None:
        raise BadInputError(f"sae-bench is not installed. {_INSTALL}")
    found = version("sae-bench")
    if found != SUPPORTED:
        raise BadInputError(f"sae-bench {found} is installed; wsae bench drives {SUPPORTED} only")
    # From 0.18 on its checks fail on SAEBench's own sparse probing.
    beartype = tuple(map(int, version("beartype").split(".")[:2]))
    if beartype >= (0, 18) and os.environ.get("JAXTYPING_DISABLE") != "1":
        raise BadInputError(
            f"beartype {version('beartype')} breaks SAEBench's sparse_probing; "
            "pip install 'beartype<0.18', or set JAXTYPING_DISABLE=1"
        )
    try:
        module("sae_bench_utils.general_utils")
    except (ImportError, RuntimeError) as error:
        cause = " ".join(str(error).split())
        raise BadInputError(f"sae-bench cannot be imported: {cause}. {_INSTALL}") from error


def module(name: str) -> Any:
    """The module `sae_bench.<name>`; SAEBench has no types to lose."""
    with warnings.catch_warnings():
        # Its classes are declared in pydantic's old way.
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module(f"sae_bench.{name}")


def versions() -> dict[str, str | None]:
    """Of what the scores depend on; None where a library is not installed."""
    found: dict[str, str | None] = dict.fromkeys(_LIBRARIES)
    for name in _LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


_LIBRARIES = (
    "wsae-plugin",
    "sae-bench",
    "sae-lens",
    "sae-probes",
    "transformer-lens",
    "torch",
    "scikit-learn",
    "numpy",
    "datasets",
)
