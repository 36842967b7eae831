"""The evals there are, and those there cannot be."""

from __future__ import annotations

from collections.abc import Sequence

from wsae_plugin.errors import BadInputError
from wsae_plugin.messages import nearest
from wsae_plugin.saebench.evals.ablation import SCR, TPP
from wsae_plugin.saebench.evals.absorption import ABSORPTION
from wsae_plugin.saebench.evals.autointerp import autointerp
from wsae_plugin.saebench.evals.base import Eval
from wsae_plugin.saebench.evals.core import CORE
from wsae_plugin.saebench.evals.meta_structure import META_STRUCTURE
from wsae_plugin.saebench.evals.probing import SPARSE_PROBING
from wsae_plugin.saebench.evals.sae_probes import SAE_PROBES
from wsae_plugin.saebench.judge import Judge

_EVALS = (CORE, SPARSE_PROBING, SAE_PROBES, ABSORPTION, SCR, TPP, META_STRUCTURE)
NAMES = (*(evaluation.name for evaluation in _EVALS), "autointerp")

REFUSED = {
    "ravel": "SAEBench 0.6.0's RAVEL fails with transformers 5: it takes a layer's output for a "
    "tuple, and asks huggingface_hub for an option that is gone",
    "unlearning": "SAEBench 0.6.0's unlearning takes Gemma's instruction-tuned models only, and "
    "needs a gated corpus and question files that its package does not hold",
    "mdl": "SAEBench 0.6.0's MDL cannot be called: it reads a variable that only its own command "
    "sets, and writes no result in SAEBench's format",
}
"""Evals of SAEBench 0.6.0 that do not work, with the reason."""


def evals_named(names: Sequence[str], judge: Judge | None = None) -> list[Eval]:
    """The evals with these names, in the order given.

    Args:
        names: Names.
        judge: For autointerp.

    Raises:
        BadInputError: A name is unknown or given twice, or the eval does not work.
    """
    known = {evaluation.name: evaluation for evaluation in (*_EVALS, autointerp(judge))}
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
