"""What a stack of SAEs found of the features that it could not see: one number for each SAE."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import normalize

from wsae_plugin.toy.batched.data import WorldStack
from wsae_plugin.toy.batched.stack import SAEStack

ACTIVE_SHARE = 0.1
"""A latent counts a feature that activates it with more than this share of the strongest one."""

_SAMPLES_AT_A_TIME = 1024
_MAGNITUDES = 16


@dataclass(frozen=True)
class Codes:
    """Sums over held-out samples, of n SAEs; z are the codes, x the features, both per sample.

    Attributes:
        n_samples: how many.
        xx: Σ x_i², shape (n, n_features).
        xz: Σ x_i z_j, shape (n, n_features, d_sae).
        zz: Σ z_j², shape (n, d_sae).
        zz_on: Σ z_j² over the samples in which feature i is not 0, shape (n, n_features, d_sae).
        z: Σ z_j, shape (n, d_sae).
        firings: samples in which z_j is not 0, shape (n, d_sae).
        error: Σ‖x_p − x̂_p‖², shape (n,).
        total: Σ‖x_p − mean x_p‖², shape (n,).
    """

    n_samples: int
    xx: Tensor
    xz: Tensor
    zz: Tensor
    zz_on: Tensor
    z: Tensor
    firings: Tensor
    error: Tensor
    total: Tensor


def measure(
    stack: SAEStack, worlds: WorldStack, world_of: Tensor, n_samples: int, *, unit_decoder: bool
) -> dict[str, Tensor]:
    """All measures, on samples that no training stream has seen.

    Args:
        stack: n SAEs, as functions of x_p.
        worlds: where the SAEs were trained.
        world_of: which world each SAE belongs to, shape (n,).
        n_samples: held-out samples.
        unit_decoder: whether a code is z_j times the norm of its decoder row (SAELens's units,
            since an untied SAE may move scale from one to the other), or z_j as the theory has it.

    Returns:
        Name → one value for each SAE, shape (n,), float64. All are without a unit:
        `l_gt` E‖x − z‖² (arXiv 2506.15963, eq. 12) after the Hungarian assignment that makes it
        smallest, in units of E‖x‖²: 1 is what z = 0 scores, and more is possible;
        `l_gt_nonzero` the same over the entries x_i ≠ 0 only, with the same assignment;
        `l_gt_scaled` with the best factor for each latent, at most 1, with its own assignment;
        `reconstruction_error` E‖x_p − x̂_p‖² in units of the variance of x_p;
        `latent_variance` Var(z_j), meaned over the latents;
        `activated_features` see `activated_features`, and `activated_features_live` over the
        latents with one feature or more;
        `recovered` the largest cosine of a decoder row with each feature, meaned over features;
        `l0` active latents on a sample; `dead` the share of latents that never fired.
    """
    codes = _sums(stack, worlds, world_of, n_samples, unit_decoder)
    l_gt, l_gt_nonzero = _l_gt(codes)
    mean_z = codes.z / codes.n_samples
    activated = activated_features(stack, worlds.feature_vectors[world_of])
    features = normalize(worlds.feature_vectors[world_of], dim=-1)
    cosines = torch.bmm(normalize(stack.W_dec, dim=-1), features.transpose(1, 2))
    measures = {
        "l_gt": l_gt,
        "l_gt_nonzero": l_gt_nonzero,
        "l_gt_scaled": _l_gt_scaled(codes),
        "reconstruction_error": codes.error / codes.total,
        "latent_variance": (codes.zz / codes.n_samples - mean_z.square()).mean(dim=-1),
        "activated_features": activated.double().mean(dim=-1),
        "activated_features_live": activated.sum(dim=-1) / (activated > 0).sum(dim=-1).clamp(min=1),
        "recovered": cosines.amax(dim=1).mean(dim=-1),
        "l0": codes.firings.sum(dim=-1) / codes.n_samples,
        "dead": (codes.firings == 0).double().mean(dim=-1),
    }
    return {name: values.double() for name, values in measures.items()}


@torch.no_grad()
def activated_features(stack: SAEStack, feature_vectors: Tensor) -> Tensor:
    """Figure 2's metric: how many features activate each latent when each is alone.

    M^i_j is the mean activation of latent j over the samples in which feature i is not 0 and all
    others are removed. Latent j counts feature i if M^i_j > 0.1 · max_i M^i_j (the paper prints no
    threshold; this one does not depend on the number of samples or on a latent's scale). The mean
    over x_i, uniform on [0, 1], is taken at 16 midpoints. A bias-free SAE has it exactly.

    Args:
        stack: n SAEs.
        feature_vectors: shape (n, n_features, d_in).

    Returns:
        The number of features for each latent, shape (n, d_sae); 0 for one that none activates.
    """
    n, n_features, d_in = feature_vectors.shape
    magnitudes = (torch.arange(_MAGNITUDES) + 0.5) / _MAGNITUDES
    alone = feature_vectors.unsqueeze(2) * magnitudes.view(1, 1, -1, 1).to(feature_vectors)
    counts: list[Tensor] = []
    for number in range(n):
        one = _select(stack, slice(number, number + 1))
        feature_acts = one.encode(alone[number].view(1, -1, d_in))
        response = feature_acts.view(n_features, _MAGNITUDES, -1).mean(dim=1)
        strongest = response.amax(dim=0)
        counts.append(((response > ACTIVE_SHARE * strongest) & (response > 0)).sum(dim=0))
    return torch.stack(counts)


@torch.no_grad()
def _sums(
    stack: SAEStack, worlds: WorldStack, world_of: Tensor, n_samples: int, unit_decoder: bool
) -> Codes:
    features = worlds.stream("held out")
    scale = stack.W_dec.norm(dim=-1) if unit_decoder else torch.ones_like(stack.b_enc)
    sums: list[Tensor] = []
    squares = torch.zeros(()), torch.zeros(())
    for start in range(0, n_samples, _SAMPLES_AT_A_TIME):
        x = features.sample(min(_SAMPLES_AT_A_TIME, n_samples - start)).to(stack.W_dec)
        x_p = worlds.activations(x.to(worlds.feature_vectors)).to(x)[world_of]
        x = x[world_of]
        z = stack.encode(x_p)
        error = (stack.decode(z) - x_p).square().sum(dim=(1, 2))
        z = z * scale.unsqueeze(1)
        xt = x.transpose(1, 2)
        batch = [
            x.square().sum(dim=1),
            torch.bmm(xt, z),
            z.square().sum(dim=1),
            torch.bmm((xt > 0).to(z), z.square()),
            z.sum(dim=1),
            (z != 0).sum(dim=1),
            error,
        ]
        sums = [a.double() + b for a, b in zip(sums, batch, strict=True)] if sums else batch
        squares = (squares[0] + x_p.sum(dim=1).double(), squares[1] + x_p.square().sum(dim=(1, 2)))
    xx, xz, zz, zz_on, z_sum, firings, error = (value.double() for value in sums)
    total = squares[1] - squares[0].square().sum(dim=-1) / n_samples
    return Codes(n_samples, xx, xz, zz, zz_on, z_sum, firings, error, total)


def _l_gt(codes: Codes) -> tuple[Tensor, Tensor]:
    change = codes.zz.unsqueeze(1) - 2 * codes.xz
    change_nonzero = codes.zz_on - 2 * codes.xz
    totals = codes.xx.sum(dim=-1)
    both: list[Tensor] = []
    for number in range(len(totals)):
        match = linear_sum_assignment(change[number].numpy())
        both.append(torch.stack([change[number][match].sum(), change_nonzero[number][match].sum()]))
    l_gt, nonzero = (1 + torch.stack(both) / totals.unsqueeze(1)).unbind(dim=1)
    return l_gt, nonzero


def _l_gt_scaled(codes: Codes) -> Tensor:
    gain = codes.xz.clamp(min=0).square() / codes.zz.unsqueeze(1).clamp(min=1e-30)
    found = [one[linear_sum_assignment(-one.numpy())].sum() for one in gain]
    return 1 - torch.stack(found) / codes.xx.sum(dim=-1)


def _select(stack: SAEStack, which: slice) -> SAEStack:
    return SAEStack(
        W_enc=stack.W_enc[which],
        b_enc=stack.b_enc[which],
        W_dec=stack.W_dec[which],
        b_dec=stack.b_dec[which],
        score_scale=stack.score_scale[which],
        activation=stack.activation,
    )
