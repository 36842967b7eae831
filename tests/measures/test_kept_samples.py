"""A random few of a stream, each with the same probability and whole."""

from __future__ import annotations

import pytest
import torch

from wsae_plugin.gamma.consistency import sparse_of
from wsae_plugin.measures import kept_samples
from wsae_plugin.measures.kept_samples import KeptSamples, Samples
from wsae_plugin.sources import Classes


def kept(n: int, batch: int, seed: int = 0, unlabelled: int = 0, rows_each: int = 1) -> Samples:
    """Of samples that carry their own number wherever they can."""
    images = torch.arange(n) // rows_each
    numbers = torch.arange(1.0, n + 1)
    x, acts = numbers.unsqueeze(1).repeat(1, 3), torch.zeros(n, 4)
    acts[torch.arange(n), torch.arange(n) % 4] = numbers
    labels = numbers.long()
    labels[:unlabelled] = -1
    keeper = KeptSamples(3, 4, seed)
    for start in range(0, n, batch):
        stop = start + batch
        of = slice(start, stop)
        classes = Classes(labels[of], labels[of], images[of], ())
        keeper.add(x[of], sparse_of(acts[of]), classes)
    return keeper.samples()


def test_all_are_kept_while_there_is_room_but_those_without_a_label() -> None:
    samples = kept(50, batch=7, unlabelled=10)
    assert sorted(samples.labels.tolist()) == list(range(11, 51))


@pytest.mark.parametrize("batch", [7, 100])
def test_a_sample_keeps_what_is_its_own(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_samples, "N_KEPT", 20)
    samples = kept(100, batch)
    numbers = samples.labels
    assert len(set(numbers.tolist())) == 20
    assert torch.equal(samples.x, numbers.float().unsqueeze(1).repeat(1, 3))
    codes = torch.from_numpy(samples.codes.toarray())
    assert torch.equal(codes.argmax(dim=1), (numbers - 1) % 4)
    assert torch.equal(codes.sum(dim=1), numbers.float())


def test_batches_change_nothing_and_seeds_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_samples, "N_KEPT", 20)
    one, other = kept(100, batch=9), kept(100, batch=100)
    assert torch.equal(one.labels, other.labels)
    assert not torch.equal(one.labels, kept(100, batch=9, seed=1).labels)


def test_each_sample_is_as_likely_and_comes_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_samples, "N_KEPT", 10)
    times, places = torch.zeros(41), torch.zeros(41)
    for seed in range(400):
        labels = kept(40, batch=11, seed=seed).labels
        times[labels] += 1
        places[labels] += torch.arange(10.0)
    # 100 ± 9, and a mean place of 4.5 ± 0.3; five standard errors.
    assert (times[1:] - 100).abs().max() < 45
    assert (places[1:] / times[1:] - 4.5).abs().max() < 1.5


@pytest.mark.parametrize("rows_each", [1, 3, 9])
def test_halves_share_no_image(rows_each: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_samples, "N_KEPT", 60)
    samples = kept(90, batch=20, rows_each=rows_each)
    images = (samples.labels - 1) // rows_each
    assert len(images.unique_consecutive()) == len(images.unique())
    halves = set(images[: samples.half].tolist()), set(images[samples.half :].tolist())
    assert not halves[0] & halves[1]
    assert abs(samples.half - 30) <= rows_each // 2
    if rows_each > 1:
        # Neither the images nor the samples of one lie in the order in which they came.
        assert images.tolist() != sorted(images.tolist())
        assert samples.labels.tolist() != sorted(samples.labels.tolist(), key=lambda n: n)


def test_one_image_alone_has_no_second_half() -> None:
    assert kept(30, batch=30, rows_each=30).half == 30
