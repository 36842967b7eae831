"""What the SAE gives back of its input, by SAELens's calculators."""

from __future__ import annotations

from sae_lens.evals import ExplainedVarianceCalculator
from sae_lens.synthetic import ShrinkageCalculator
from torch import Tensor


def explained_variance(sae_out: Tensor, sae_in: Tensor) -> float:
    """1 − E‖x − x̂‖² / Var(x), Var being the sum over the dimensions.

    At most 1, higher is better; predicting the mean gives 0, predicting worse is negative. Source:
    `sae_lens.evals.ExplainedVarianceCalculator`.

    Args:
        sae_out: x̂, shape (n_samples, d_in).
        sae_in: x, shape (n_samples, d_in).
    """
    calculator = ExplainedVarianceCalculator()
    calculator.add_batch(sae_out.detach(), sae_in.detach())
    return calculator.compute()


def shrinkage(sae_out: Tensor, sae_in: Tensor) -> float:
    """Mean of ‖x̂‖ / ‖x‖ over the samples with ‖x‖ > 1e-6.

    ≥ 0, best at 1: below, reconstructions are too small, as an L1 penalty makes them. Blind to
    direction: a rotated input scores 1. Source: `sae_lens.synthetic.ShrinkageCalculator`.

    Args:
        sae_out: x̂, shape (n_samples, d_in).
        sae_in: x, shape (n_samples, d_in).
    """
    calculator = ShrinkageCalculator()
    calculator.add_batch(sae_out.detach(), sae_in.detach())
    return calculator.compute()
