"""SAEBench itself: imported when first needed, and refused with the way out when it cannot be."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import shlex
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from wsae_plugin.errors import BadInputError

SUPPORTED = "0.6.0"

_OWN_FILES = Path(__file__).parent


def how_to_install(files: Path = _OWN_FILES) -> str:
    """What to do to have SAEBench; the README says it word for word.

    No extra of this package can: what sae-bench and sae-probes ask for breaks imports, so the two
    are installed without it, and what they need beside what they work with.

    Args:
        files: The folder of requirements-saebench.txt and constraints-saebench.txt.
    """
    requirements, constraints = (
        shlex.quote(str(files / f"{name}-saebench.txt")) for name in ("requirements", "constraints")
    )
    lines = (
        "python3.12 -m venv .venv-saebench && . .venv-saebench/bin/activate",
        f"pip install -c {constraints} torch",
        f"pip install -r {requirements}",
        f'pip install --no-deps "sae-bench=={SUPPORTED}" "sae-probes>=0.4,<0.5"',
        f"pip install -c {constraints} wsae-plugin",
    )
    return (
        "SAEBench needs older libraries than the rest and so an environment of its own, Python "
        "3.10 to 3.12: `make saebench` in a checkout, or by hand\n\n"
        + "".join(f"    {line}\n" for line in lines)
        + "\nThe first pip line may name another build of torch for your machine. Then run `wsae "
        "bench` there."
    )


def require() -> None:
    """Refuse to go on without a SAEBench that works.

    Raises:
        BadInputError: It is missing, of another version, or beside a library that breaks it.
    """
    if importlib.util.find_spec("sae_bench") is None:
        raise BadInputError(f"sae-bench is not installed. {how_to_install()}")
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
        raise BadInputError(f"sae-bench cannot be imported: {cause}. {how_to_install()}") from error


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
