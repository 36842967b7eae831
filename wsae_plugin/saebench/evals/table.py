"""The evals there are, one file each beside this one, and those there cannot be."""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from importlib import import_module

from wsae_plugin.errors import BadInputError
from wsae_plugin.messages import nearest
from wsae_plugin.saebench import evals
from wsae_plugin.saebench.evals.base import Eval

REFUSED = {
    "ravel": "SAEBench 0.6.0's RAVEL fails with transformers 5: it takes a layer's output for a "
    "tuple, and asks huggingface_hub for an option that is gone",
    "unlearning": "SAEBench 0.6.0's unlearning takes Gemma's instruction-tuned models only, and "
    "needs a gated corpus and question files that its package does not hold",
    "mdl": "SAEBench 0.6.0's MDL cannot be called: it reads a variable that only its own command "
    "sets, and writes no result in SAEBench's format",
}
"""Evals of SAEBench 0.6.0 that do not work, with the reason."""


def evals_named(names: Sequence[str]) -> list[Eval]:
    """The evals with these names, in the order given; each module here may have some in `EVALS`.

    Raises:
        BadInputError: A name is unknown or given twice, or the eval does not work.
    """
    files = [
        import_module(f"{evals.__name__}.{m.name}") for m in pkgutil.iter_modules(evals.__path__)
    ]
    known: dict[str, Eval] = {e.name: e for file in files for e in getattr(file, "EVALS", ())}
    for name in names:
        if name in REFUSED:
            raise BadInputError(f"--evals {name}: {REFUSED[name]}")
        if name not in known:
            raise BadInputError(f"--evals {name}: unknown; {nearest(name, known)}")
    if not names:
        raise BadInputError(f"--evals: is empty; there is {', '.join(known)}")
    if len(set(names)) < len(names):
        raise BadInputError(f"--evals {','.join(names)}: names an eval twice")
    return [known[name] for name in names]
