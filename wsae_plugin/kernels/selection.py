"""Which latents are active: the top k of every row, or of the whole batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from wsae_plugin.kernels.backend import Backend
from wsae_plugin.kernels.blocks import row_blocks
from wsae_plugin.kernels.encoder import Encoder
from wsae_plugin.kernels.pattern import Pattern
from wsae_plugin.kernels.screen import screen

Product = Literal["exact", "screened", "bfloat16"]
"""How the encoder's product is taken, which alone is dense.

exact: in the dtype of the weights. screened: in bfloat16 first, with a bound that proves what may
have been missed; the choice is that of float32. bfloat16: in bfloat16 only, as under autocast.
"""

_SCREENED_PER_LATENT = 2
_BATCH_CANDIDATES_PER_LATENT = 4  # rows differ in how many latents they get


@torch.no_grad()
def top_k(x: Tensor, encoder: Encoder, k: int, backend: Backend, product: Product) -> Pattern:
    """The k latents of every row with the highest scores, (batch, d_sae).

    Args:
        x: What the encoder reads, (batch, d_in).
        product: `screened` is for float32 only.
    """
    return Pattern.of_latents(top_k_scores(x, encoder, k, backend, product)[1], encoder.d_sae)


@torch.no_grad()
def top_k_scores(
    x: Tensor, encoder: Encoder, k: int, backend: Backend, product: Product
) -> tuple[Tensor, Tensor]:
    """The same as scores and latents (batch, k), in any order."""
    if product == "bfloat16":
        x, encoder = x.bfloat16(), encoder.to_bfloat16()
    m = min(_SCREENED_PER_LATENT * k, encoder.d_sae)
    if product != "screened" or m == encoder.d_sae:
        return _dense_top_k(x, encoder, k, backend)
    candidates, ceiling = screen(x, encoder, m, backend)
    scores, latents = _scores(x, encoder, candidates, backend)
    best, places = scores.topk(k, dim=-1, sorted=False)
    latents = latents.gather(1, places)
    uncertain = _not_below(ceiling, best.amin(dim=-1))
    if len(uncertain):
        dense = _dense_top_k(x[uncertain], encoder, k, backend)
        best[uncertain], latents[uncertain] = dense
    return best, latents


@torch.no_grad()
def batch_top_k(
    x: Tensor, encoder: Encoder, total: int, backend: Backend, product: Product
) -> Pattern:
    """The latents with the `total` highest positive scores of the whole batch, (batch, d_sae).

    Args:
        x: What the encoder reads, (batch, d_in).
        total: How many, 0 or more; fewer if fewer scores are positive.
        product: `screened` is for float32 only.
    """
    rows, columns, _ = batch_top_k_scores(x, encoder, total, backend, product)
    return Pattern.of_entries(rows, columns, len(x), encoder.d_sae)


@torch.no_grad()
def batch_top_k_scores(
    x: Tensor, encoder: Encoder, total: int, backend: Backend, product: Product
) -> tuple[Tensor, Tensor, Tensor]:
    """The same as rows, latents and scores (n,), in any order."""
    if total == 0:
        nothing = x.new_empty(0, dtype=torch.int64)
        return nothing, nothing, x.new_empty(0)
    if product == "bfloat16":
        x, encoder = x.bfloat16(), encoder.to_bfloat16()
    m = min(_BATCH_CANDIDATES_PER_LATENT * -(-total // len(x)), encoder.d_sae)
    if product == "screened":
        candidates, ceiling = screen(x, encoder, m, backend)
        scores, latents = _scores(x, encoder, candidates, backend)
    else:
        scores, latents = _dense_top_k(x, encoder, m, backend)
        ceiling = scores.amin(dim=-1)
    rows = torch.arange(len(x), device=x.device).repeat_interleave(m)
    columns, values = latents.flatten(), scores.flatten()
    if m < encoder.d_sae:
        # All that is still to be found scores above what `total` candidates reach already.
        enough = _lowest_of_highest(values, total)
        unfinished = _not_below(ceiling, enough)
        late = _dense_above(x[unfinished], encoder, enough, latents[unfinished])
        rows = torch.cat([rows, unfinished[late[0]]])
        columns, values = torch.cat([columns, late[1]]), torch.cat([values, late[2]])
    chosen = values.topk(min(total, len(values)), sorted=False).indices
    chosen = chosen[values[chosen] > 0]
    return rows[chosen], columns[chosen], values[chosen]


def _scores(
    x: Tensor, encoder: Encoder, latents: Tensor, backend: Backend
) -> tuple[Tensor, Tensor]:
    """Scores of the given latents of every row, and the latents in their order, (batch, m)."""
    pattern = Pattern.of_latents(latents, encoder.d_sae)
    pre_activations = backend.sddmm(pattern, x, encoder.weight) + encoder.bias[pattern.columns]
    scores = encoder.scaled(pre_activations, pattern.columns)
    return scores.view_as(latents), pattern.columns.view_as(latents)


def _not_below(ceiling: Tensor, threshold: Tensor) -> Tensor:
    """Rows in which a latent may have been missed; a NaN counts as such."""
    return (~(ceiling < threshold)).nonzero().flatten()


def _lowest_of_highest(scores: Tensor, total: int) -> Tensor:
    return scores.topk(min(total, len(scores)), sorted=False).values.amin().clamp(min=0)


def _dense_scores(x: Tensor, encoder: Encoder) -> Iterator[tuple[slice, Tensor]]:
    """Rows and all their scores (n, d_sae), which the next block overwrites."""
    for rows, scores in row_blocks(x, encoder.weight):
        scores += encoder.bias
        if encoder.scale is not None:
            scores *= encoder.scale
        yield rows, scores


def _dense_top_k(x: Tensor, encoder: Encoder, k: int, backend: Backend) -> tuple[Tensor, Tensor]:
    """Scores and latents of the top k of every row, (batch, k)."""
    values = x.new_empty(len(x), k)
    latents = torch.empty(len(x), k, dtype=torch.int64, device=x.device)
    for rows, scores in _dense_scores(x, encoder):
        values[rows], latents[rows] = backend.row_top_k(scores, k)
    return values, latents


def _dense_above(
    x: Tensor, encoder: Encoder, threshold: Tensor, known: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, latents and scores, (n,), of all scores not below the threshold, but for `known`.

    Known latents (batch, m) keep the score that they have: this product rounds otherwise, and would
    take the one at the boundary for too low.
    """
    found = [(x.new_empty(0, 2, dtype=torch.int64), x.new_empty(0))]
    for rows, scores in _dense_scores(x, encoder):
        scores.scatter_(1, known[rows], -torch.inf)
        places = (scores >= threshold).nonzero()
        values = scores[places[:, 0], places[:, 1]]
        places[:, 0] += rows.start
        found.append((places, values))
    places, values = (torch.cat(parts) for parts in zip(*found, strict=True))
    return places[:, 0], places[:, 1], values
