"""What a stack of SAEs found of the features that it could not see: one number for each SAE."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from wsae_plugin.toy.batched.data import WorldStack
from wsae_plugin.toy.batched.stack import SAEStack
from wsae_plugin.toy.metrics import CodeSums, activated_features, code_sums

_SAMPLES_AT_A_TIME = 1024


@torch.no_grad()
def measure(
    stack: SAEStack, worlds: WorldStack, world_of: Tensor, n_samples: int, *, unit_decoder: bool
) -> dict[str, Tensor]:
    """Take all measures, on samples that no training stream has seen.

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
        `activated_features` see there, and `activated_features_live` over the latents with one
        feature or more;
        `recovered` the largest cosine of a decoder row with each feature, meaned over features;
        `l0` active latents on a sample; `dead` the share of latents that never fired.
    """
    sums, reconstruction_error = _held_out(stack, worlds, world_of, n_samples, unit_decoder)
    l_gt, l_gt_nonzero = sums.ground_truth_loss()
    vectors = worlds.feature_vectors[world_of]
    # One by one: 16 samples of every feature, for all SAEs at once, may not fit into memory.
    one_by_one = zip(stack.each(), vectors.split(1), strict=True)
    activated = torch.cat([activated_features(sae.encode, truth) for sae, truth in one_by_one])
    cosines = torch.bmm(normalize(stack.W_dec, dim=-1), normalize(vectors, dim=-1).transpose(1, 2))
    measures = {
        "l_gt": l_gt,
        "l_gt_nonzero": l_gt_nonzero,
        "l_gt_scaled": sums.scaled_loss,
        "reconstruction_error": reconstruction_error,
        "latent_variance": sums.latent_variance.mean(dim=-1),
        "activated_features": activated.double().mean(dim=-1),
        "activated_features_live": activated.sum(dim=-1) / (activated > 0).sum(dim=-1).clamp(min=1),
        "recovered": cosines.amax(dim=1).mean(dim=-1),
        "l0": sums.l0,
        "dead": sums.dead,
    }
    return {name: values.double() for name, values in measures.items()}


def _held_out(
    stack: SAEStack, worlds: WorldStack, world_of: Tensor, n_samples: int, unit_decoder: bool
) -> tuple[CodeSums, Tensor]:
    """The sums of the codes, and E‖x_p − x̂_p‖² in units of the variance of x_p, shape (n,)."""
    features = worlds.stream("held out")
    scale = stack.W_dec.norm(dim=-1) if unit_decoder else torch.ones_like(stack.b_enc)
    held: list[Any] = []
    for start in range(0, n_samples, _SAMPLES_AT_A_TIME):
        x = features.sample(min(_SAMPLES_AT_A_TIME, n_samples - start)).to(stack.W_dec)
        x_p = worlds.activations(x.to(worlds.feature_vectors)).to(x)[world_of]
        z = stack.encode(x_p)
        more = [
            code_sums(z * scale.unsqueeze(1), x[world_of]),
            (stack.decode(z) - x_p).square().sum(dim=(1, 2)).double(),
            x_p.sum(dim=1).double(),
            x_p.square().sum(dim=(1, 2)),
        ]
        held = [a + b for a, b in zip(held, more, strict=True)] if held else more
    sums, error, total, squares = held
    return sums, error / (squares.double() - total.square().sum(dim=-1) / n_samples)
