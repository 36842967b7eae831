"""Γ, as pure functions: proxy → weights, or a control of them → schedule."""

from wsae_plugin.gamma.moments import Moments, merge, moments_of, no_samples
from wsae_plugin.gamma.proxies import PROXIES, Proxy, ProxyEvidence, register_proxy
from wsae_plugin.gamma.scheduler import GammaScheduler
from wsae_plugin.gamma.weights import (
    constant,
    effective_dimensions,
    gamma_from_proxy,
    max_over_median,
    shuffled,
)

__all__ = [
    "PROXIES",
    "GammaScheduler",
    "Moments",
    "Proxy",
    "ProxyEvidence",
    "constant",
    "effective_dimensions",
    "gamma_from_proxy",
    "max_over_median",
    "merge",
    "moments_of",
    "no_samples",
    "register_proxy",
    "shuffled",
]
