"""What any dictionary optimum must satisfy, measured on any SAE: so far, the best codes."""

from wsae_plugin.optimality.lasso import Codes, nonnegative_lasso
from wsae_plugin.optimality.support import Support, best_support

__all__ = ["Codes", "Support", "best_support", "nonnegative_lasso"]
