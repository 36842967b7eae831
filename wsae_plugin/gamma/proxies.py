"""Proxies s of how monosemantic each input dimension is: one pure function each, and their table.

arXiv 2506.15963 sets γ_q = s_q^α with s_q the variance of the q-th input dimension. For
independent features that variance is the energy of a row of W_p, so a dimension that carries two
features has *twice* the variance of one that carries one: the other proxies are there to be
compared with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from scipy.optimize import nnls
from torch import Tensor

from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma.consistency import LabelEvidence
from wsae_plugin.gamma.consistency import semantic_consistency as consistency_of
from wsae_plugin.gamma.moments import Moments
from wsae_plugin.gamma.weights import check_proxy, shuffled
from wsae_plugin.messages import naming, one_line
from wsae_plugin.remote_code import FLAG, is_trusted


def no_labels() -> LabelEvidence:
    """The labels in the evidence of a proxy where samples have none.

    Raises:
        BadInputError: Always.
    """
    raise BadInputError(
        "labels: missing: this gamma_proxy is made from the classes of the samples, and the data "
        "have none; give `labels:` in a config with `activations:`, or use another gamma_proxy"
    )


@dataclass(frozen=True)
class ProxyEvidence:
    """All that a proxy may look at.

    Attributes:
        activations: moments of the SAE's input, d_in dimensions.
        latents: moments of the SAE's feature activations, d_sae dimensions; of none unless the
            proxy was registered with needs=("latents",).
        decoder: gives what one unit of each latent adds to the reconstruction, shape
            (d_sae, d_in), float64; a function, since the largest tensor here is the least used.
            Before an SAE is trained it is `no_decoder`.
        file: the config's `gamma_file`.
        seed: the config's `gamma_seed`, of the shuffles.
        labels: gives of which classes the samples are that excite each input dimension, over the
            whole training data; a function, since it takes a pass over them.
        shuffled_labels: the same with the labels permuted over all samples.
    """

    activations: Moments
    latents: Moments
    decoder: Callable[[], Tensor]
    file: str | None
    seed: int
    labels: Callable[[], LabelEvidence] = no_labels
    shuffled_labels: Callable[[], LabelEvidence] = no_labels


ProxyFunction = Callable[[ProxyEvidence], Tensor]
Need = Literal["decoder", "latents", "labels"]


@dataclass(frozen=True)
class Proxy:
    """A row of the table.

    Attributes:
        compute: evidence → s, shape (d_in,), float64, finite and not negative.
        refresh: when s is recomputed while Γ is estimated: at every step, at the steps
            0, 1, 2, 4, 8, … and the last (for what is expensive), or at step 0 only.
        needs: what it looks at beside the activations; nothing, or the labels of the samples,
            means that it is known before any SAE is trained.
    """

    compute: ProxyFunction
    refresh: Literal["every_step", "doubling", "once"]
    needs: tuple[Need, ...]


def no_decoder() -> Tensor:
    """The decoder in the evidence of a proxy that is computed before there is an SAE.

    Raises:
        BadInputError: Always.
    """
    raise BadInputError(
        "this proxy reads the SAE's decoder, so it does not exist before one is trained; register "
        'it with needs=("decoder",)'
    )


def variance(evidence: ProxyEvidence) -> Tensor:
    """s_q = Var(x_q), the proxy of arXiv 2506.15963 (Section 5.2); activation units²."""
    return evidence.activations.variance


def kurtosis(evidence: ProxyEvidence) -> Tensor:
    """s_q = excess kurtosis of x_q, and 0 where it is negative.

    For independent features it is κ_x Σ_i W_qi⁴ / (Σ_i W_qi²)², an inverse participation ratio:
    it falls as more features share the dimension. 0 means: no peakier than a Gaussian.
    """
    return evidence.activations.excess_kurtosis.clamp(min=0)


def latent_variance(evidence: ProxyEvidence) -> Tensor:
    """s_q = Σ_j Var(z_j) D_jq², the latents' variances pulled back through the decoder D.

    The first version of arXiv 2506.15963 speaks of the variance of "latent dimension i"; this is
    what that becomes in input space, correlations between latents left out. Activation units².
    """
    return evidence.latents.variance @ evidence.decoder().square()


def interference(evidence: ProxyEvidence) -> Tensor:
    """s = √g of the g = γ² ≥ 0 that minimises ‖Ŵᵀ diag(g) Ŵ − I‖_F², so that α = 1 is Γ*.

    This is the gap between the SAE's loss and the loss on the true features
    (arXiv 2506.15963, eq. 15, last term), with the current decoder's unit-norm directions as the
    estimate Ŵ (d_in, d_sae) of W_p. With K = ŴŴᵀ the objective is gᵀ(K∘K)g − 2gᵀdiag(K) + const,
    a non-negative least squares problem in d_in unknowns.
    """
    directions = torch.nn.functional.normalize(evidence.decoder(), dim=-1)
    gram = directions.T @ directions
    eigenvalues, eigenvectors = torch.linalg.eigh(gram.square())
    root = eigenvalues.clamp(min=0).sqrt()
    inverse_root = torch.where(root > 1e-7 * root.max(), 1 / root, torch.zeros_like(root))
    target = inverse_root * (eigenvectors.T @ gram.diagonal())
    design = root.unsqueeze(1) * eigenvectors.T
    solution, _ = nnls(design.cpu().numpy(), target.cpu().numpy(), maxiter=30 * len(target))
    return torch.from_numpy(solution).to(gram).sqrt()


def semantic_consistency(evidence: ProxyEvidence) -> Tensor:
    """s_q = β_q, the share of the modal class among the samples with the largest x_q.

    It is arXiv 2506.15963's for vision (Section 5.2.2). A dimension that is positive on too few
    samples to have one is given 0, and so by `gamma_from_proxy` the smallest of those measured:
    nothing says that it is consistent, and it is not left out of the loss.
    """
    return _consistency(evidence, evidence.labels().top)


def semantic_consistency_of_active(evidence: ProxyEvidence) -> Tensor:
    """s_q = the share of the modal class among all samples with x_q > 0, as NCL's code has it."""
    return _consistency(evidence, evidence.labels().active)


def semantic_consistency_of_shuffled_labels(evidence: ProxyEvidence) -> Tensor:
    """s_q = β_q of labels that were permuted over all samples, so that no dimension knows them.

    What is left is what the finite number of samples makes of nothing.
    """
    return _consistency(evidence, evidence.shuffled_labels().top)


def _consistency(evidence: ProxyEvidence, counts: Tensor) -> Tensor:
    return consistency_of(counts).nan_to_num(0.0).to(evidence.activations.mean)


def uniform(evidence: ProxyEvidence) -> Tensor:
    """s = 1: Γ = I at every α, through the same code as any other Γ."""
    return torch.ones_like(evidence.activations.mean)


def from_file(evidence: ProxyEvidence) -> Tensor:
    """s from a safetensors file, e.g. the semantic consistency of each dimension."""
    if evidence.file is None:
        raise BadInputError("gamma_file is None, but gamma_proxy 'file' reads s from it.")
    s = read_proxy_file(evidence.file, d_in=len(evidence.activations.mean))
    return s.to(evidence.activations.mean.device)


def read_proxy_file(path: str | Path, d_in: int) -> Tensor:
    """The one tensor of a safetensors file, shape (d_in,), as float64.

    Raises:
        BadInputError: the file cannot be read, holds more than one tensor, has another shape, or
            holds values that are negative or not finite.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise BadInputError(
            f"gamma_file {str(path)!r} cannot be read as safetensors ({error}). Write one with "
            f"safetensors.torch.save_file({{'proxy': s}}, path), s of shape ({d_in},)."
        ) from error
    if len(tensors) != 1:
        raise BadInputError(
            f"gamma_file {str(path)!r} holds {len(tensors)} tensors ({', '.join(sorted(tensors))});"
            f" exactly one of shape ({d_in},) is allowed."
        )
    (s,) = tensors.values()
    s = s.to(torch.float64)
    check_proxy(s, f"gamma_file {str(path)!r}", d_in)
    if not s.any():
        raise BadInputError(f"gamma_file {str(path)!r} is all zero: a proxy is above 0 somewhere")
    return s


SHUFFLED = "shuffled_"
"""Before a proxy's name, the control that gives its values to the wrong dimensions."""

PROXIES: dict[str, Proxy] = {}


def register_proxy(
    name: str,
    compute: ProxyFunction,
    *,
    refresh: Literal["every_step", "doubling", "once"] = "every_step",
    needs: tuple[Need, ...] = (),
) -> None:
    """Make `gamma_proxy=name` mean `compute`, and `shuffled_` before it the control.

    The control hands the same s to the wrong dimensions, by a permutation that `gamma_seed` sets.

    Args:
        name: the name for configs; it is published in `cfg.json`.
        compute: evidence → s of shape (d_in,), float64, finite and not negative.
        refresh: see `Proxy`.
        needs: see `Proxy`.

    Raises:
        ValueError: the name already means another function, or s is to be computed once, from
            latents that have not been seen by then.

    Example:
        >>> from wsae_plugin import register_proxy
        >>> register_proxy("standard_deviation", lambda e: e.activations.variance.sqrt())
    """
    if refresh == "once" and "latents" in needs:
        raise ValueError(
            f"proxy {name!r}: refresh='once' computes it before the first step, when no latent has "
            "been seen; use 'every_step' or 'doubling'."
        )
    if name in PROXIES and PROXIES[name].compute is not compute:
        raise ValueError(
            f"proxy {name!r} is already registered as {PROXIES[name].compute!r}; {compute!r} needs "
            "another name."
        )

    def compute_shuffled(evidence: ProxyEvidence) -> Tensor:
        return shuffled(compute(evidence), torch.Generator().manual_seed(evidence.seed))

    PROXIES[name] = Proxy(compute, refresh, needs)
    PROXIES[f"{SHUFFLED}{name}"] = Proxy(compute_shuffled, refresh, needs)


_PLACE = re.compile(r"\w+(\.\w+)*:\w+")


@dataclass(frozen=True)
class ImportedProxy:
    """The function that `module:function` names, imported when it is first computed.

    Whoever only reads a config, perhaps a stranger's, so runs none of its code.
    """

    place: str

    def __call__(self, evidence: ProxyEvidence) -> Tensor:
        return self.load()(evidence)

    def load(self) -> ProxyFunction:
        """Import it, which may run any code of its module.

        Raises:
            BadInputError: The user does not trust it, it cannot be imported, or is no function.
        """
        told = f"gamma_proxy = {self.place!r}"
        if not is_trusted():
            raise BadInputError(
                f"{told}: would run code of that module; give {FLAG} on the command line as well "
                "if you trust it, or in a script register the function with register_proxy"
            )
        module, _, function = self.place.partition(":")
        try:
            found = getattr(import_module(module), function)
        except Exception as error:
            raise BadInputError(
                f"{told}: cannot be imported ({type(error).__name__}: {one_line(error)}); the "
                "module has to be installed or in a folder of PYTHONPATH, and define the function"
            ) from error
        if not callable(found):
            raise BadInputError(
                f"{told}: is of type {type(found).__name__} and no function; one that takes the "
                "evidence and returns s, shape (d_in,), is needed"
            )
        return cast("ProxyFunction", found)


def proxy_named(name: str) -> Proxy:
    """The row of the table that a config's `gamma_proxy` means.

    A name such as `mypackage.mymodule:my_proxy` becomes a row as well, and so does its control: a
    function of activations and decoder that is computed at every step while Γ is estimated.
    `register_proxy` allows the rest.

    Raises:
        BadInputError: there is no such proxy.
    """
    place = name.removeprefix(SHUFFLED)
    if name not in PROXIES:
        if not _PLACE.fullmatch(place):
            raise BadInputError(
                f"the proxies are {', '.join(sorted(PROXIES))}; a function of yours is "
                "package.module:function, or see register_proxy"
            )
        register_proxy(place, ImportedProxy(place))
    return PROXIES[name]


def needs_of(name: str) -> tuple[Need, ...] | None:
    """What a proxy looks at beside the activations; None for a name that is not registered here.

    An SAE may have been trained where somebody had: reading it takes its Γ, and not the proxy.
    """
    try:
        return proxy_named(name).needs
    except BadInputError:
        return None


def needs_sae(name: str) -> bool:
    """Whether a proxy looks at an SAE's decoder or latents; not for a name that is unknown here."""
    return not {"decoder", "latents"}.isdisjoint(needs_of(name) or ())


def load_proxy(name: str) -> None:
    """Import what a config's `gamma_proxy` needs, before anything is trained.

    Raises:
        BadInputError: there is no such proxy, or see `ImportedProxy.load`.
    """
    with naming(f"gamma_proxy = {name!r}"):
        compute = proxy_named(name.removeprefix(SHUFFLED)).compute
    if isinstance(compute, ImportedProxy):
        compute.load()


register_proxy("variance", variance)
register_proxy("kurtosis", kurtosis)
register_proxy("latent_variance", latent_variance, needs=("decoder", "latents"))
register_proxy("interference", interference, refresh="doubling", needs=("decoder",))
register_proxy("uniform", uniform)
register_proxy("file", from_file, refresh="once")
register_proxy("semantic_consistency", semantic_consistency, refresh="once", needs=("labels",))
register_proxy(
    "semantic_consistency_of_active",
    semantic_consistency_of_active,
    refresh="once",
    needs=("labels",),
)
register_proxy(
    "semantic_consistency_of_shuffled_labels",
    semantic_consistency_of_shuffled_labels,
    refresh="once",
    needs=("labels",),
)
