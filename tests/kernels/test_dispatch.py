"""Which kernel is taken, and what is said of one that cannot be."""

from __future__ import annotations

import logging

import pytest
import torch

from wsae_plugin.errors import BadInputError
from wsae_plugin.kernels import choose_kernel, dispatch, kernel_name

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
LARGE, SMALL = (2048, 768, 24576), (64, 128, 1024)


def choose(
    name: str = "auto",
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float32,
    shape: tuple[int, int, int] = LARGE,
    k: float = 32,
    autocast: bool = False,
) -> str:
    kernel = choose_kernel(name, device, dtype, shape, k, autocast)
    return "eager" if kernel is None else str(kernel)


@pytest.fixture(params=[True, False])
def fast_bfloat16(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(dispatch, "has_fast_bfloat16", lambda _: request.param)
    return request.param


def test_large_shapes_are_sparse_and_screened_where_that_is_fast(fast_bfloat16: bool) -> None:
    screened = "cpu, top k screened in bfloat16"
    assert choose() == (screened if fast_bfloat16 else "cpu")
    assert choose(dtype=torch.float64) == "cpu"
    assert choose(shape=(2048, 2**14, 24576)) == choose()
    assert choose(shape=(2048, 2**14 + 1, 24576)) == "cpu"
    assert choose(autocast=True) == "cpu, bfloat16"


def test_small_or_dense_shapes_stay_with_saelens() -> None:
    assert choose(shape=SMALL) == "eager"
    assert choose(k=4096) == "eager"
    assert choose(dtype=torch.bfloat16) == "eager"
    assert choose(device=torch.device("mps")) == "eager"


def test_a_named_kernel_is_taken_at_any_size() -> None:
    assert choose("eager") == "eager"
    assert choose("reference", shape=SMALL) == "reference"
    assert choose("cpu", shape=SMALL) == "cpu"


def test_cuda_without_triton_stays_with_saelens_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dispatch, "_has_triton", lambda: False)
    dispatch._warn_of_missing_triton.cache_clear()
    assert choose(device=CUDA, shape=SMALL) == choose("eager", device=CUDA) == "eager"
    assert not caplog.records  # nothing is lost there, or it was asked for
    assert [choose(device=CUDA) for _ in range(3)] == ["eager"] * 3
    (said,) = caplog.records
    # What Python shows where nobody configured logging.
    assert said.levelno >= logging.WARNING
    assert "triton is missing: install it" in said.getMessage()
    with pytest.raises(BadInputError, match="triton"):
        kernel_name("triton")


def test_the_environment_stands_above_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernel_name("cpu") == "cpu"
    monkeypatch.setenv("WSAE_KERNEL", "eager")
    assert kernel_name("cpu") == "eager"
    monkeypatch.setenv("WSAE_KERNEL", "")
    assert kernel_name("cpu") == "cpu"


@pytest.mark.parametrize("source", ["kernel", "WSAE_KERNEL"])
def test_an_unknown_kernel_is_refused(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if source == "WSAE_KERNEL":
        monkeypatch.setenv(source, "fast")
    with pytest.raises(BadInputError, match=f"{source} is 'fast'; it is one of auto, eager"):
        kernel_name("fast" if source == "kernel" else "auto")


def test_the_cpu_kernel_refuses_another_device() -> None:
    with pytest.raises(BadInputError, match="'cpu', and the SAE is on cuda"):
        choose("cpu", device=CUDA)


def test_triton_refuses_a_processor_unless_it_is_interpreted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatch, "_has_triton", lambda: True)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(BadInputError, match="'triton', and the SAE is on cpu"):
        choose("triton")
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert choose("triton", dtype=torch.float64) == "triton"


def test_has_fast_bfloat16_by_the_processors_word(monkeypatch: pytest.MonkeyPatch) -> None:
    for capabilities, expected in (({"avx512_bf16": True}, True), ({"avx2": True}, False)):
        dispatch._processor_has_bfloat16.cache_clear()
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda c=capabilities: c, raising=False)
        assert dispatch.has_fast_bfloat16(CPU) == (
            expected and torch.backends.mkldnn.is_available()
        )
    dispatch._processor_has_bfloat16.cache_clear()


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), False), ((8, 0), True), ((12, 0), True)]
)
def test_gpus_have_fast_bfloat16_from_ampere_on(
    capability: tuple[int, int], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert dispatch.has_fast_bfloat16(CUDA) == expected


@pytest.mark.parametrize("tf32", [True, False])
def test_tf32_products_are_not_screened(tf32: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        assert dispatch.has_fast_bfloat16(CUDA) != tf32
    finally:
        torch.set_float32_matmul_precision(before)
