"""What takes all latents is the same of several processes as of one, worked out in threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn

from wsae_plugin.distributed.shards import Shards, _keys, after_backward, n_candidates
from wsae_plugin.distributed.spread_rows import SpreadRows
from wsae_plugin.distributed.world import World

_T = TypeVar("_T")


class Threads:
    """A world of threads, which wait for each other as processes do."""

    def __init__(self, size: int) -> None:
        self.size, self.barrier = size, Barrier(size, timeout=20)
        self.given: list[Any] = [None] * size

    def all_of(self, rank: int, tensor: Tensor) -> Tensor:
        self.given[rank] = tensor.detach().clone()
        self.barrier.wait()
        everyones = torch.stack(self.given)
        self.barrier.wait()
        return everyones

    def run(self, act: Callable[[Shards], _T]) -> list[_T]:
        def one(rank: int) -> _T:
            try:
                return act(Shards(InThread(rank, self.size, self), tuple(range(self.size))))
            except BaseException:
                self.barrier.abort()
                raise

        with ThreadPoolExecutor(self.size) as pool:
            return [*pool.map(one, range(self.size))]


class InThread(World):
    def sum(self, tensor: Tensor, group: Any = None, kind: str = "sum") -> Tensor:  # noqa: ARG002
        return tensor.detach().copy_(self.store.all_of(self.rank, tensor).sum(0))

    def smallest(self, tensor: Tensor, group: Any = None) -> Tensor:  # noqa: ARG002
        return tensor.copy_(self.store.all_of(self.rank, tensor).amin(0))

    def gather(self, tensor: Tensor, group: Any = None, kind: str = "gather") -> Tensor:  # noqa: ARG002
        return self.store.all_of(self.rank, tensor)


SPECIAL = [0.0, -0.0, 1e-45, -1e-45, 1.0, -1.0, 2.0, torch.inf, -torch.inf]


def test_keys_are_in_the_order_of_scores_and_then_of_places() -> None:
    scores = torch.tensor(SPECIAL).repeat(50)[torch.randperm(450)]
    keys = _keys(scores, torch.arange(450))
    expected = scores.sort(descending=True, stable=True).indices
    assert keys.sort(descending=True).indices.tolist() == expected.tolist()


def test_of_no_score_is_the_key_that_stands_for_none() -> None:
    lowest = torch.tensor([-1], dtype=torch.int32).view(torch.float32)
    assert _keys(lowest, torch.tensor([2**32 - 1])).item() > torch.iinfo(torch.int64).min


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("k", [1, 4, 11, 20])
def test_top_k_of_rows_takes_the_first_of_those_that_tie(size: int, k: int) -> None:
    d_sae, batch = 11, 6
    scores = torch.randint(-2, 3, (batch, d_sae), generator=torch.Generator().manual_seed(k))
    wanted = torch.zeros(batch, d_sae, dtype=torch.bool)
    places = scores.sort(dim=-1, descending=True, stable=True).indices[:, :k]
    wanted.scatter_(1, places, torch.tensor(True).expand_as(places))

    def act(shards: Shards) -> tuple[Tensor, Tensor]:
        mine = shards.latents(d_sae)
        own = scores[:, mine].float()
        best = own.sort(dim=-1, descending=True, stable=True)
        pattern = shards.top_k(best.values[:, :k], best.indices[:, :k], k, len(mine))
        values = shards.top_k_values(torch.ones_like(own), own, k)
        dense = torch.zeros_like(own, dtype=torch.bool)
        dense[pattern.rows, pattern.columns] = True
        assert (wanted[:, mine] == dense).all()
        assert (wanted[:, mine] == values.bool()).all()
        return dense, values

    Threads(size).run(act)


@pytest.mark.parametrize("rows_at_a_time", [2**23, 1])
def test_top_k_in_blocks_of_rows(rows_at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsae_plugin.distributed.shards._KEYS_AT_A_TIME", rows_at_a_time)
    scores = torch.randn(5, 8)
    wanted = scores >= scores.topk(3).values[:, -1:]

    def act(shards: Shards) -> None:
        mine = shards.latents(8)
        own = scores[:, mine]
        assert (shards.top_k_values(own, own, 3).bool() == wanted[:, mine]).all()

    Threads(2).run(act)


@pytest.mark.parametrize("total", [1, 7, 33, 100])
def test_top_k_of_a_batch_takes_as_many_as_asked_and_the_first_rows_of_those_that_tie(
    total: int,
) -> None:
    d_sae, batch = 11, 6
    scores = torch.randint(0, 3, (batch, d_sae), generator=torch.Generator().manual_seed(1))
    order = scores.flatten().sort(descending=True, stable=True).indices[:total]
    wanted = torch.zeros(batch * d_sae, dtype=torch.bool)
    wanted[order] = True
    wanted = wanted.view(batch, d_sae) & (scores > 0)

    def act(shards: Shards) -> None:
        mine = shards.latents(d_sae)
        own = scores[:, mine].float()
        rows, latents = (own > 0).nonzero(as_tuple=True)
        kept = own[rows, latents].topk(min(total, len(rows))).indices
        if total >= len(rows):  # otherwise a tie on its own border is anybody's
            is_chosen = shards.batch_top_k(
                own[rows, latents][kept], rows[kept], latents[kept], total, d_sae
            )
            found = torch.zeros_like(own, dtype=torch.bool)
            found[rows[kept][is_chosen], latents[kept][is_chosen]] = True
            assert (found == wanted[:, mine]).all()
        else:
            shards.batch_top_k(own[rows, latents][kept], rows[kept], latents[kept], total, d_sae)

    Threads(3).run(act)


@pytest.mark.parametrize("d_sae", [2, 5, 6])
def test_whole_puts_latents_in_order(d_sae: int) -> None:
    rows = torch.randn(d_sae, 3)
    for found in Threads(2).run(lambda s: s.whole(rows[s.latents(d_sae)])):
        torch.testing.assert_close(found, rows)


@pytest.mark.parametrize("factor", [0.01, 1.0, 1e4])
def test_gradients_are_those_of_one_process_clipped_as_torch_clips_them(factor: float) -> None:
    d_sae, x = 5, torch.randn(4, 3)
    weight, shared = torch.randn(d_sae, 3), torch.randn(3)

    def gradients(shards: Shards) -> tuple[Tensor, Tensor]:
        mine = shards.latents(d_sae)
        own, bias = nn.Parameter(weight[mine].clone()), nn.Parameter(shared.clone())
        acts = ((x - bias) @ own.T).relu()
        loss = factor * (shards.sum(acts @ own) + shards.once(bias) - x).square().sum()
        if shards.size > 1:
            after_backward(loss, lambda: shards.clip([own, bias], bias, 1.0))
        loss.backward()
        nn.utils.clip_grad_norm_([own, bias], 1.0)
        assert own.grad is not None
        assert bias.grad is not None
        return own.grad, bias.grad

    expected, of_bias = gradients(Shards())
    for place, (own, bias) in enumerate(Threads(2).run(gradients)):
        torch.testing.assert_close(own, expected[place::2], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(bias, of_bias, rtol=1e-5, atol=1e-6)


def test_a_product_with_the_decoder_is_added_up_and_the_bias_counted_once() -> None:
    d_sae, acts = 5, torch.randn(4, 5)
    weight, shared = torch.randn(d_sae, 3), torch.randn(3)

    def act(shards: Shards) -> tuple[Tensor, Tensor]:
        mine = shards.latents(d_sae)
        own, bias = nn.Parameter(weight[mine].clone()), nn.Parameter(shared.clone())
        other = acts[:, mine] @ weight[mine]
        with shards.decoding(own, bias):
            torch.testing.assert_close(acts[:, mine] @ weight[mine], other)
            out = acts[:, mine] @ own + bias
        out.sum().backward()
        assert bias.grad is not None
        return out, bias.grad

    found = Threads(2).run(act)
    for out, _ in found:
        torch.testing.assert_close(out, acts @ weight + shared)
    torch.testing.assert_close(sum(grad for _, grad in found), torch.full((3,), 4.0))


def test_spread_rows_are_served_and_copied_whole_and_forgotten_when_served() -> None:
    rows = torch.arange(22.0).view(11, 2)

    def act(shards: Shards) -> None:
        spread = SpreadRows(shards.world, "cpu")
        numbers = spread.add_spread(rows[:7])
        order = torch.tensor([6, 0, 3, 2, 5, 1, 4])
        served, left = numbers[order[:3]], numbers[order[3:]]
        assert torch.equal(spread.serve(served), rows[order[:3]])
        own = rows[7:9] if shards.place == 0 else rows[9:]
        new = spread.add(own, [2, 2])
        numbers = torch.cat([left, *new])
        wanted = torch.cat([rows[order[3:]], rows[7:]])
        copy = spread.copy(numbers)
        assert (copy is not None) == (shards.place == 0)
        assert copy is None or torch.equal(copy, wanted)
        assert spread._rows is not None
        assert len(spread._rows) == len(numbers[numbers[:, 0] == shards.place])
        assert torch.equal(spread.serve(numbers.flip(0)), wanted.flip(0))

    Threads(2).run(act)


def stable_top_k(scores: Tensor, k: int) -> Tensor:
    """Which of each row are among the k highest; of equal ones the first."""
    order = scores.argsort(dim=-1, descending=True, stable=True)[:, :k]
    return torch.zeros_like(scores, dtype=torch.bool).scatter(1, order, value=True)


def drawn(seed: int) -> tuple[Tensor, int]:
    """Scores with many ties and signs, more or fewer than there are to choose."""
    generator = torch.Generator().manual_seed(seed)
    n, k = int(torch.randint(4, 60, (), generator=generator)), 1 + seed % 24
    scores = torch.randint(-3, 4, (7, n), generator=generator) / 2
    if seed % 3 == 0:
        scores = torch.randn(7, n, generator=generator)
    if seed % 4 == 0:
        scores[:, 0::2] -= 10  # all of the highest in one process
    return scores, k


@pytest.mark.parametrize("n_spare", [0, 16])
@pytest.mark.parametrize("n", [2, 3])
def test_choices_are_those_of_one_process(
    n: int, n_spare: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With so few candidates at first that some rows have to be asked for again."""
    monkeypatch.setattr("wsae_plugin.distributed.shards._SPARE", n_spare)

    def act(shards: Shards) -> None:
        for seed in range(40):
            scores, k = drawn(seed)
            mine = shards.latents(scores.shape[1])
            own = scores[:, mine]
            m = min(k, own.shape[1])
            # Of equal candidates those with the lowest numbers are offered.
            order = own.argsort(dim=-1, descending=True, stable=True)[:, :m]
            pattern = shards.top_k(own.gather(1, order), order, k, own.shape[1])
            chosen = torch.zeros_like(own, dtype=torch.bool)
            rows = torch.repeat_interleave(torch.arange(len(own)), pattern.offsets.diff())
            chosen[rows, pattern.columns] = True
            assert torch.equal(chosen, stable_top_k(scores, k)[:, mine]), seed

            values = shards.top_k_values(own + 100, own, k)
            assert torch.equal(values != 0, chosen), seed

            total = 3 * k
            flat = scores.flatten()[None]
            wanted = (stable_top_k(flat, total).view_as(scores) & (scores > 0))[:, mine]
            rows, columns = (own > 0).nonzero(as_tuple=True)
            is_chosen = shards.batch_top_k(
                own[rows, columns], rows, columns, total, scores.shape[1]
            )
            found = torch.zeros_like(own, dtype=torch.bool)
            found[rows[is_chosen], columns[is_chosen]] = True
            assert torch.equal(found, wanted), seed

    Threads(n).run(act)


def test_latents_are_dealt_out_in_turn() -> None:
    parts = [Shards(World(rank, 3), (0, 1, 2)).latents(8).tolist() for rank in range(3)]
    assert parts == [[0, 3, 6], [1, 4, 7], [2, 5]]
    assert Shards().latents(3).tolist() == [0, 1, 2]


def test_few_candidates_are_enough_where_all_have_as_many() -> None:
    assert n_candidates(4, 2) == 4
    assert n_candidates(2048, 16) == 272
    assert n_candidates(50, 1) == 50
