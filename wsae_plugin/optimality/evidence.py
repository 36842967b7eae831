"""What is known of an SAE on held-out samples before any line of its optimality is drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from wsae_plugin.errors import BadInputError
from wsae_plugin.measures.sums import Found, over_batches
from wsae_plugin.optimality.coded import Coded, matched_penalty
from wsae_plugin.optimality.lasso import Codes, nonnegative_lasso, unit
from wsae_plugin.optimality.pairs import AbsorbedPair, absorbed_pairs, twins
from wsae_plugin.optimality.refit import best_prior, refitted
from wsae_plugin.optimality.support import Support, best_support

_N_OF_CONTROL = 1000
"""Samples that the control is measured on."""

_CLEAR = 3
"""A code is one of a feature if it is larger than so many standard deviations of the noise."""


@dataclass(frozen=True)
class OptimalityEvidence:
    """Samples, what an SAE makes of them, and the best that its dictionary allows.

    Args:
        own: The SAE's codes.
        batch: Of which held-out batch each sample is, shape (n,), int64, ascending from 0.
        penalty: λ of the optimal codes, see `matched_penalty`.
        seed: Of the controls.
    """

    own: Coded
    batch: Tensor
    penalty: float
    seed: int = 0

    @cached_property
    def optimal(self) -> Codes:
        """The optimal codes under the L1 penalty."""
        return nonnegative_lasso(self.own.x, self.own.atoms, self.penalty, self.own.latents)

    @cached_property
    def on_own_support(self) -> Support:
        """The best codes of the very latents that are active."""
        own = self.own
        return best_support(own.x, own.atoms, own.l0, own.latents, own.latents[:, :0])

    @cached_property
    def best(self) -> Coded:
        """The best codes that were found with as few latents active on each sample."""
        own = self.own
        found = best_support(own.x, own.atoms, own.l0, own.latents, self.optimal.latents)
        return replace(own, latents=found.latents, values=found.values)

    @property
    def halves(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """The samples of every other batch and the rest, to fit on the one and try on the other,
        and the other way round; flags, each of shape (n,)."""
        even = self.batch % 2 == 0
        return (even, ~even), (~even, even)

    @cached_property
    def after_refit(self) -> Tensor:
        """What the best codes leave after the dictionary was fitted to them once more, on the other
        half of the samples each, shape (n, d_in)."""
        left = torch.zeros_like(self.best.x)
        for fits, tries in self.halves:
            inside = self.best.of(fits)
            prior = best_prior(inside, self.batch[fits] % 4 < 2)
            atoms = refitted(inside, prior)
            left[tries] = replace(self.best.of(tries), atoms=atoms).residual
        return left

    @cached_property
    def if_right(self) -> OptimalityEvidence:
        """The same where the dictionary is right: samples that are made of the best codes and of
        noise as large as the residual, in all directions alike.

        Codes that noise alone could have are left out, and what they explain counts as noise.
        """
        best = self.best
        clear = best.values > _CLEAR * _noise_of(best)
        signal = replace(best, values=best.values * clear, latents=best.latents.where(clear, -1))
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(best.x.shape, generator=generator, dtype=torch.float64).to(best.x)
        x = signal.x - signal.residual + _noise_of(signal) * noise
        return replace(self, own=replace(best, x=x))

    @cached_property
    def absorbed(self) -> list[AbsorbedPair]:
        """Pairs of latents of which one took over a part of the other."""
        return absorbed_pairs(self.own, self.penalty)

    @cached_property
    def twins(self) -> list[tuple[int, int]]:
        """Pairs of latents that one could stand for."""
        return [*twins(self.best)]

    @cached_property
    def of_random_atoms(self) -> OptimalityEvidence:
        """The same of random atoms, of which about as many are active as the SAE has, those that
        correlate with a sample most."""
        every = -(-len(self.batch) // _N_OF_CONTROL)
        which = torch.arange(0, len(self.batch), every, device=self.own.x.device)
        own, generator = self.own.of(which), torch.Generator().manual_seed(self.seed)
        atoms = torch.randn(own.atoms.shape, generator=generator, dtype=torch.float64)
        atoms = unit(atoms, dim=1).to(own.x)
        values, latents = (own.x @ atoms.T).topk(own.latents.shape[1], dim=1)
        within = torch.arange(latents.shape[1], device=latents.device) < own.l0.unsqueeze(1)
        latents = latents.where(within & (values > 0), -1)
        chosen = best_support(own.x, atoms, own.l0, latents, latents[:, :0])
        of = Coded(own.x, atoms, chosen.latents, chosen.values)
        batch = self.batch[which.cpu()]
        try:
            penalty = matched_penalty(of)
        except BadInputError:
            # Random atoms may be no match where the SAE's are, or where a penalty was given.
            penalty = self.penalty
        return replace(self, own=of, batch=batch, penalty=penalty)

    @property
    def tokens(self) -> Tensor:
        """Samples of each batch, shape (n_batches,), float64."""
        return self.batch.cpu().bincount().double()

    def share(self, part: Tensor, whole: Tensor, of: Tensor | None = None) -> Found:
        """Σ part / Σ whole, with half its 95 % interval over batches.

        Args:
            part: Of each sample, shape (n,).
            whole: The same.
            of: Which samples count, shape (n,), bool; None for all.
        """
        n_batches = len(self.tokens)
        sums: list[Tensor] = []
        for each in (part, whole):
            counted = each.double() if of is None else each.double() * of
            total = torch.zeros(n_batches, dtype=torch.float64)
            sums.append(total.index_add_(0, self.batch.cpu(), counted.cpu()))
        return over_batches(lambda _, counts: (counts @ sums[0]) / (counts @ sums[1]), self, {})


def _noise_of(coded: Coded) -> Tensor:
    """The standard deviation in each direction, if the residual is noise alone: codes took their
    share of it with them."""
    n_free = max(coded.x.numel() - int(coded.l0.sum()), 1)
    return (coded.residual.square().sum() / n_free).sqrt()
