"""Which kernel runs a training step: what the config says, the environment, or what is fastest."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from math import inf, prod

import torch

from wsae_plugin.errors import BadInputError
from wsae_plugin.kernels.backend import Backend
from wsae_plugin.kernels.cpu import CPUBackend
from wsae_plugin.kernels.reference import ReferenceBackend
from wsae_plugin.kernels.screen import WIDEST
from wsae_plugin.kernels.selection import Product

logger = logging.getLogger(__name__)

KERNELS = ("auto", "eager", "reference", "cpu", "triton")
ENVIRONMENT_VARIABLE = "WSAE_KERNEL"

# Below this many multiplications of the encoder a step, SAELens's dense products are faster than
# the bookkeeping of sparse ones: on processors measured, on GPUs estimated from launch times.
_WORTHWHILE = {"cpu": 2**26, "cuda": 2**32}
_LEAST_LATENTS_PER_K = 16
_WORTH_SCREENING = 2**28  # the same, below which the float32 product is over before the screen


@dataclass(frozen=True)
class Kernel:
    """What carries out the products of a step.

    Args:
        backend: Its sparse products.
        product: Its dense one.
    """

    backend: Backend
    product: Product

    def __str__(self) -> str:
        how = {"exact": "", "screened": ", top k screened in bfloat16", "bfloat16": ", bfloat16"}
        return self.backend.name + how[self.product]


def kernel_name(configured: str) -> str:
    """What is asked for: `configured`, or the environment variable WSAE_KERNEL if that is set.

    Raises:
        BadInputError: Either is none of `KERNELS`, or it needs a package that is not there.
    """
    name = configured
    asked = os.environ.get(ENVIRONMENT_VARIABLE)
    for source, value in (("kernel", configured), (ENVIRONMENT_VARIABLE, asked)):
        if value and value not in KERNELS:
            raise BadInputError(f"{source} is {value!r}; it is one of {', '.join(KERNELS)}.")
        name = value or name
    if name == "triton" and not _has_triton():
        raise BadInputError("kernel is 'triton', whose package is missing: install it, or use auto")
    return name


def choose_kernel(
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    shape: tuple[int, int, int],
    k: float,
    autocast: bool = False,
) -> Kernel | None:
    """The kernel for a training step, or None for SAELens's own dense one.

    Args:
        name: From `kernel_name`.
        dtype: Of the parameters.
        shape: (batch, d_in, d_sae).
        k: Active latents a row.
        autocast: Whether products are to be taken in bfloat16.

    Raises:
        BadInputError: The kernel cannot run on this device.
    """
    if name == "auto":
        name = _fastest(device, dtype, shape, k)
    if name == "eager":
        return None
    backend = _backend(name, device)
    if autocast:
        return Kernel(backend, "bfloat16")
    can_screen = name != "reference" and dtype == torch.float32 and shape[1] <= WIDEST
    is_worth_it = prod(shape) >= _WORTH_SCREENING and has_fast_bfloat16(device)
    return Kernel(backend, "screened" if can_screen and is_worth_it else "exact")


def _fastest(
    device: torch.device, dtype: torch.dtype, shape: tuple[int, int, int], k: float
) -> str:
    if shape[2] < _LEAST_LATENTS_PER_K * k:
        return "eager"
    if prod(shape) < _WORTHWHILE.get(device.type, inf):
        return "eager"
    if device.type == "cuda":
        if _has_triton():
            return "triton"
        _warn_of_missing_triton()
        return "eager"
    return "cpu" if dtype in (torch.float32, torch.float64) else "eager"


def _backend(name: str, device: torch.device) -> Backend:
    if name == "reference":
        return ReferenceBackend()
    if name == "cpu":
        if device.type != "cpu":
            raise BadInputError(f"kernel is 'cpu', and the SAE is on {device}: use auto")
        return CPUBackend()
    if device.type != "cuda" and not os.environ.get("TRITON_INTERPRET"):
        raise BadInputError(f"kernel is 'triton', and the SAE is on {device}: use auto")
    from wsae_plugin.kernels.triton_backend import TritonBackend

    return TritonBackend()


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


@cache  # once, not at every step
def _warn_of_missing_triton() -> None:
    logger.warning(
        "kernel 'auto' takes SAELens's dense training step, since the package triton is missing: "
        "install it for the sparse step, or set kernel to 'eager' to keep the dense one"
    )


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether a bfloat16 product is far faster than a float32 one, and adds up in float32."""
    if device.type == "cuda":
        if not torch.cuda.is_available() or _allows_tf32():
            return False
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and _processor_has_bfloat16()


def _allows_tf32() -> bool:
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):  # torch 2.9; the older name must then not be read
        return matmul.fp32_precision == "tf32"
    return bool(matmul.allow_tf32)


@cache
def _processor_has_bfloat16() -> bool:
    if not hasattr(torch.cpu, "get_capabilities"):  # before torch 2.10
        return False
    capabilities = torch.cpu.get_capabilities()
    return torch.backends.mkldnn.is_available() and any(
        capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16")
    )
