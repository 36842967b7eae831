"""The best codes that a dictionary allows, to hold an SAE's own codes against them."""

from wsae_plugin.optimality.coded import Coded, coded, matched_penalty
from wsae_plugin.optimality.lasso import Codes, nonnegative_lasso
from wsae_plugin.optimality.support import Support, best_support

__all__ = [
    "Coded",
    "Codes",
    "Support",
    "best_support",
    "coded",
    "matched_penalty",
    "nonnegative_lasso",
]
