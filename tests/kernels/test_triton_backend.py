"""Without a GPU, Triton interprets the kernels: the same arithmetic, program after program."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from wsae_plugin.kernels.pattern import Pattern
from wsae_plugin.kernels.reference import ReferenceBackend

pytest.importorskip("triton")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
from wsae_plugin.kernels.triton_backend import TritonBackend  # noqa: E402

TRITON, REFERENCE = TritonBackend(), ReferenceBackend()

# Of the sum of the terms' magnitudes; the last two are twice the rounding of a result.
TOLERANCES = {
    torch.float64: 1e-10,
    torch.float32: 1e-5,
    torch.bfloat16: 2**-7,
    torch.float16: 2**-10,
}
dtypes = pytest.mark.parametrize("dtype", list(TOLERANCES))
dtypes_and_widths = pytest.mark.parametrize(
    ("dtype", "d"),
    [
        (torch.float64, 300),
        (torch.float32, 300),
        (torch.float32, 256),
        (torch.bfloat16, 300),
        (torch.float16, 1),
    ],
)


def pattern_of_counts(counts: list[int], n_columns: int) -> Pattern:
    """As many entries as given in each row."""
    generator = torch.Generator().manual_seed(sum(counts))
    rows = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts, dtype=torch.int64))
    columns = torch.empty(0, dtype=torch.int64)
    for count in counts:
        taken = torch.randperm(n_columns, generator=generator)[:count]
        columns = torch.cat([columns, taken.sort().values])
    return Pattern.of_sorted_entries(rows.to(DEVICE), columns.to(DEVICE), len(counts), n_columns)


def top_k_pattern(n_rows: int, k: int, n_columns: int) -> Pattern:
    latents = torch.rand(n_rows, n_columns, generator=torch.Generator().manual_seed(k)).topk(k)
    return Pattern.of_latents(latents.indices.to(DEVICE), n_columns)


def dense_latent() -> Pattern:
    """The transposed pattern of a batch in which latent 3 is active in every row."""
    latents = torch.stack([torch.full((300,), 3), 4 + torch.arange(300) % 7], dim=1)
    return Pattern.of_latents(latents.to(DEVICE), 12).transposed


PATTERNS = {
    "k entries a row": top_k_pattern(5, 3, 40),
    "k = 1": top_k_pattern(4, 1, 10),
    "k = width": top_k_pattern(3, 6, 6),
    "one row": top_k_pattern(1, 9, 20),
    "empty rows": pattern_of_counts([0, 1, 0, 0, 8, 9, 7, 0], 10),
    "no entries": pattern_of_counts([0, 0, 0], 4),
    "no rows": pattern_of_counts([], 4),
    "rows of several chunks": pattern_of_counts([3, 0, 129, 255, 0, 1, 1100, 2], 1100),
    "chunks that fit exactly": pattern_of_counts([128, 256, 0, 128], 256),
    "a column active in every row": dense_latent(),
}
patterns = pytest.mark.parametrize("pattern", list(PATTERNS.values()), ids=list(PATTERNS))


def normal(*shape: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator).to(DEVICE, dtype)


def assert_close(actual: Tensor, expected: Tensor, magnitude: Tensor) -> None:
    assert actual.shape == expected.shape
    error = (actual.double() - expected).abs()
    assert (error <= TOLERANCES[actual.dtype] * magnitude).all(), float(error.max())


@dtypes_and_widths
@patterns
def test_spmm_is_the_dense_product(pattern: Pattern, d: int, dtype: torch.dtype) -> None:
    values = normal(len(pattern.columns), dtype=dtype)
    dense = normal(pattern.n_columns, d, dtype=dtype)
    out = TRITON.spmm(pattern, values, dense)
    assert out.dtype == dtype
    values, dense = values.double(), dense.double()
    magnitude = REFERENCE.spmm(pattern, values.abs(), dense.abs())
    assert_close(out, REFERENCE.spmm(pattern, values, dense), magnitude)


@dtypes_and_widths
@patterns
def test_sddmm_is_the_dense_product(pattern: Pattern, d: int, dtype: torch.dtype) -> None:
    left = normal(pattern.n_rows, d, dtype=dtype)
    right = normal(pattern.n_columns, d, dtype=dtype)
    products = TRITON.sddmm(pattern, left, right)
    assert products.dtype == dtype
    left, right = left.double(), right.double()
    magnitude = REFERENCE.sddmm(pattern, left.abs(), right.abs())
    assert_close(products, REFERENCE.sddmm(pattern, left, right), magnitude)


def test_the_dense_side_decides_the_dtype() -> None:
    pattern = PATTERNS["k entries a row"]
    values, left = normal(15, dtype=torch.float32), normal(5, 48, dtype=torch.float32)
    dense = normal(40, 48, dtype=torch.bfloat16)
    assert TRITON.spmm(pattern, values, dense).dtype == torch.bfloat16
    assert TRITON.sddmm(pattern, left, dense).dtype == torch.bfloat16


def test_bfloat16_is_added_up_in_float32() -> None:
    # In bfloat16, 256 + 1 = 256.
    ones = torch.ones(1, 1000, dtype=torch.bfloat16, device=DEVICE)
    all_active = Pattern.of_latents(torch.arange(1000, device=DEVICE)[None], 1000)
    assert float(TRITON.spmm(all_active, ones[0], ones.T)) == 1000
    one_active = Pattern.of_latents(torch.zeros(1, 1, dtype=torch.int64, device=DEVICE), 1)
    assert float(TRITON.sddmm(one_active, ones, ones)) == 1000


@pytest.mark.parametrize("operation", ["spmm", "sddmm", "row_top_k"])
def test_equal_inputs_give_equal_bits_and_stay_as_they_are(operation: str) -> None:
    pattern = PATTERNS["a column active in every row"]
    values = normal(len(pattern.columns), dtype=torch.float32)
    left, right = normal(12, 300, dtype=torch.float32), normal(300, 300, dtype=torch.float32)
    before = [tensor.clone() for tensor in (values, left, right)]

    def run() -> list[Tensor]:
        if operation == "spmm":
            return [TRITON.spmm(pattern, values, right)]
        if operation == "sddmm":
            return [TRITON.sddmm(pattern, left, right)]
        return [places.sort().values for places in TRITON.row_top_k(right[:, :256], 2)]

    assert all(map(torch.equal, run(), run()))
    assert all(map(torch.equal, (values, left, right), before))


def assert_top_k(scores: Tensor, k: int) -> None:
    values, columns = TRITON.row_top_k(scores, k)
    assert values.dtype == scores.dtype and columns.dtype == torch.int64
    assert values.shape == columns.shape == (len(scores), k)
    assert all(len(set(row)) == k for row in columns.tolist())
    as_taken = dict(rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(values, scores.gather(1, columns), **as_taken)
    expected = torch.topk(scores, k, dim=-1).values
    in_order = torch.sort(values, dim=-1, descending=True).values
    torch.testing.assert_close(in_order, expected, **as_taken)


@st.composite
def score_matrices(draw: st.DrawFn) -> tuple[Tensor, int]:
    """Widths of which many, but not all, can be cut into groups; few values, so many ties."""
    n = draw(st.integers(1, 4))
    width = draw(st.one_of(st.integers(1, 100), st.integers(4, 40).map(lambda times: 64 * times)))
    k = draw(st.one_of(st.integers(1, min(width, 10)), st.integers(1, width)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    levels = draw(st.sampled_from([1, 3, 1000]))
    scores = torch.randint(-levels, levels, (n, width), generator=generator) / 8
    for special in (torch.nan, -torch.inf, torch.inf):
        share = draw(st.sampled_from([0, 0.01, 0.5, 1]))
        scores[torch.rand(n, width, generator=generator) < share] = special
    return scores.to(DEVICE, draw(st.sampled_from(list(TOLERANCES)))), k


@given(score_matrices())
def test_row_top_k_is_torchs(matrix_and_k: tuple[Tensor, int]) -> None:
    assert_top_k(*matrix_and_k)


@dtypes
@pytest.mark.parametrize(("width", "k"), [(32, 1), (4096, 1), (6144, 32), (2400, 7), (97, 3)])
def test_row_top_k_of_scores_as_in_training(width: int, k: int, dtype: torch.dtype) -> None:
    assert_top_k(normal(3, width, dtype=dtype), k)


def test_row_top_k_searches_one_group_of_every_kind() -> None:
    # All of the k largest in one group, in the last one, or each in another.
    scores = normal(3, 2048, dtype=torch.float32)
    scores[0, 32:36] = 100
    scores[1, -4:] = 100
    scores[2, ::512] = 100
    _, columns = TRITON.row_top_k(scores, 4)
    assert columns.sort().values.tolist() == [
        [32, 33, 34, 35],
        [2044, 2045, 2046, 2047],
        [0, 512, 1024, 1536],
    ]


def test_row_top_k_does_not_lose_a_nan_among_infinities() -> None:
    scores = torch.full((1, 2048), torch.inf, device=DEVICE)
    scores[0, 1234] = torch.nan
    values, columns = TRITON.row_top_k(scores, 2)
    assert columns[values.isnan()].tolist() == [1234]


def test_row_top_k_of_no_rows() -> None:
    values, columns = TRITON.row_top_k(torch.empty(0, 2048, device=DEVICE), 4)
    assert values.shape == columns.shape == (0, 4)
