"""Activations of a language model, and the position in its text."""

from __future__ import annotations

import threading
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Array2D, Dataset, Features

from tests.training.tiny import BATCH, D_MODEL, TinyWorld, sae, write_config, write_texts
from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma.sensitivity import Sensitivity
from wsae_plugin.sources import LanguageModelSource, activations_of, open_source
from wsae_plugin.training import load_run_config


def batches(world: TinyWorld, folder: Path, seed: int) -> torch.Tensor:
    config = load_run_config(write_config(folder / "config.yaml", world.language_model()))
    torch.manual_seed(seed)
    return torch.stack(list(islice(activations_of(config.runner_config()), 3)))


def test_batches_are_of_the_configs_shape_and_repeat(world: TinyWorld, tmp_path: Path) -> None:
    first = batches(world, tmp_path, seed=0)
    assert first.shape == (3, BATCH, D_MODEL)
    assert torch.equal(first, batches(world, tmp_path, seed=0))
    assert not torch.equal(first, batches(world, tmp_path, seed=1))


def test_the_bundled_names_are_resolved(world: TinyWorld, tmp_path: Path) -> None:
    values = world.language_model(model_name="bundled", dataset_path="bundled", sae=sae(d_in=128))
    config = load_run_config(write_config(tmp_path / "config.yaml", values))
    assert next(activations_of(config.runner_config())).shape == (BATCH, 128)


def test_errors_come_with_the_call(world: TinyWorld, tmp_path: Path) -> None:
    values = world.language_model(sae=sae(d_in=48))
    config = load_run_config(write_config(tmp_path / "config.yaml", values))
    with pytest.raises(BadInputError, match="d_in"):
        activations_of(config.runner_config())


def source(world: TinyWorld, folder: Path, kind: str = "language_model", **changes: Any) -> Any:
    values = getattr(world, kind)(**changes)
    return open_source(
        load_run_config(write_config(folder / "config.yaml", values)).runner_config()
    )


HOOKS = {"baseline": "hook_embed", "alpha-0": "blocks.1.mlp.hook_post", "alpha-1": "hook_embed"}
OF_HOOKS = {
    "kind": "multi",
    "hook_names": HOOKS,
    "saes": {name: sae(d_in=64 if "mlp" in hook else D_MODEL) for name, hook in HOOKS.items()},
}


def test_what_a_source_says_of_itself(world: TinyWorld, tmp_path: Path) -> None:
    one = source(world, tmp_path)
    assert isinstance(one, LanguageModelSource)
    assert one.name == f"{world.model} on {world.texts}"
    assert one.d_in == {"blocks.1.hook_resid_post": D_MODEL}
    assert one.has_language_model
    several = source(world, tmp_path, **OF_HOOKS)
    assert several.d_in == {"hook_embed": D_MODEL, "blocks.1.mlp.hook_post": 64}
    recorded = several.metadata("blocks.1.mlp.hook_post")
    assert recorded["hook_name"] == "blocks.1.mlp.hook_post"
    assert (recorded["model_name"], recorded["context_size"]) == (str(world.model), 32)


def test_hooks_of_one_batch_are_of_the_same_tokens(world: TinyWorld, tmp_path: Path) -> None:
    """Shuffled side by side: what one hook alone gives, each gives in company."""
    special = {"exclude_special_tokens": True}
    torch.manual_seed(0)
    several = source(world, tmp_path, **OF_HOOKS, **special)
    together = [next(several) for _ in range(5)]
    for hook, d_in in several.d_in.items():
        torch.manual_seed(0)
        alone = source(world, tmp_path, hook_name=hook, sae=sae(d_in=d_in), **special)
        assert all(torch.equal(next(alone)[hook], batch[hook]) for batch in together)


def test_the_sensitivity_is_of_the_configs_head_under_its_seed(
    world: TinyWorld, tmp_path: Path
) -> None:
    hook, width = "blocks.1.attn.hook_z", D_MODEL // 2
    one_head = {"hook_name": hook, "hook_head_index": 1, "sae": sae(d_in=width)}
    both = source(world, tmp_path, hook_name=hook, seed=3).sensitivity(hook, tmp_path / "both", 90)
    one = source(world, tmp_path, **one_head, seed=3).sensitivity(hook, tmp_path / "one", 90)
    other = source(world, tmp_path, **one_head, seed=4).sensitivity(hook, tmp_path / "other", 90)
    torch.testing.assert_close(one.fisher, both.fisher[width:, width:])
    torch.testing.assert_close(one.mean, both.mean[width:])
    assert torch.equal(other.mean, one.mean)
    assert not torch.allclose(other.fisher, one.fisher, rtol=0.01)
    assert Sensitivity.read(tmp_path / "one")[1].items() >= {"seed": "3", "head": "1"}.items()


@pytest.mark.parametrize("n_steps", [3, 30])
@pytest.mark.parametrize("changes", [{}, OF_HOOKS], ids=["one hook", "two hooks"])
def test_a_source_resumes_beyond_the_end_of_its_text(
    world: TinyWorld, tmp_path: Path, n_steps: int, changes: dict[str, Any]
) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    write_texts(texts / "train.jsonl", n_rows=12)
    changes = {"dataset_path": str(texts), "n_batches_in_buffer": 9, **changes}
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="beginning new epoch"):
        whole = source(world, tmp_path, **changes)
        for _ in range(n_steps):
            next(whole)
        whole.save(tmp_path)
        state = torch.get_rng_state()
        expected = [next(whole) for _ in range(10)]
        resumed = source(world, tmp_path, **changes)
        resumed.load(tmp_path)
        torch.set_rng_state(state)
        found = [next(resumed) for _ in range(10)]
    assert resumed.store.n_dataset_processed == whole.store.n_dataset_processed
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[hook], other[hook]) for hook in one)


def test_a_text_that_was_cut_is_not_gone_on_with(world: TinyWorld, tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    write_texts(texts / "train.jsonl", n_rows=40)
    whole = source(world, tmp_path, dataset_path=str(texts))
    for _ in range(3):
        next(whole)
    whole.save(tmp_path)
    n_read = whole.store.n_sequences
    write_texts(texts / "train.jsonl", n_rows=2)
    cut = source(world, tmp_path, dataset_path=str(texts))
    with pytest.raises(ValueError, match=f"ends after . sequences, and {n_read} had been read"):
        cut.load(tmp_path)


def test_batches_that_are_drawn_in_advance(world: TinyWorld, tmp_path: Path) -> None:
    """The same batches, and no thread before the first or after the last of them."""
    torch.manual_seed(0)
    plain = source(world, tmp_path)
    expected = [next(plain) for _ in range(5)]
    torch.manual_seed(0)
    ahead = source(world, tmp_path, prefetch_llm_batches=2)
    n_threads = threading.active_count()
    found = [next(ahead) for _ in range(5)]
    assert threading.active_count() == n_threads + 1
    ahead.save(tmp_path)
    ahead.close()
    assert threading.active_count() == n_threads
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(one[hook], other[hook]) for hook in one)
    # SAELens's own position, which is near.
    assert not (tmp_path / "data_position.safetensors").exists()
    again = source(world, tmp_path, prefetch_llm_batches=2)
    again.load(tmp_path)
    assert again.store.n_dataset_processed > 0


def test_cached_activations_resume_too(world: TinyWorld, tmp_path: Path) -> None:
    hook, generator = "blocks.1.hook_resid_post", torch.Generator().manual_seed(0)
    rows = torch.randn(12, 32, D_MODEL, generator=generator)
    features = Features({hook: Array2D(shape=(32, D_MODEL), dtype="float32")})
    dataset = Dataset.from_dict({hook: rows.numpy()}, features=features)
    dataset.save_to_disk(str(tmp_path / "cache"))
    cached = {
        "use_cached_activations": True,
        "cached_activations_path": str(tmp_path / "cache"),
        "n_batches_in_buffer": 9,
    }
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="beginning new epoch"):
        whole = source(world, tmp_path, **cached)
        for _ in range(4):
            (batch,) = next(whole).values()
            assert torch.isin(batch[:, 0], rows[..., 0]).all()
        whole.save(tmp_path)
        state = torch.get_rng_state()
        expected = [next(whole)[hook] for _ in range(6)]
        resumed = source(world, tmp_path, **cached)
        resumed.load(tmp_path)
        torch.set_rng_state(state)
        found = [next(resumed)[hook] for _ in range(6)]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_contexts_are_the_text_from_its_beginning_and_disturb_no_batch(
    world: TinyWorld, tmp_path: Path
) -> None:
    hook = "blocks.1.hook_resid_post"
    place = (hook, None)
    changes = {"exclude_special_tokens": True, "seqpos_slice": [1, 30]}
    opened, again, alone = (source(world, tmp_path, **changes) for _ in range(3))
    run = opened.contexts(100, [hook])
    x = run.samples(place)
    assert x.shape == (100, D_MODEL)
    # A choice of what the store gives of the same text.
    tokens = again.store.get_batch_tokens(8)
    special = torch.isin(tokens[:, 1:30], again.store.exclude_special_tokens)
    expected = again.store.get_activations(tokens).flatten(2)[~special]
    nearest = torch.cdist(x, expected).min(dim=1)
    assert nearest.values.max() < 1e-3 and nearest.indices.unique().numel() > 90
    # And the batches beside it are what they were.
    torch.manual_seed(0)
    disturbed = next(opened)[hook]
    torch.manual_seed(0)
    assert torch.equal(disturbed, next(alone)[hook])
    (tmp_path / "c").mkdir()
    opened.save(tmp_path / "c")
    resumed = source(world, tmp_path, **changes)
    resumed.load(tmp_path / "c")
    following = opened.contexts(100, [hook]).samples(place)
    assert torch.equal(resumed.contexts(100, [hook]).samples(place), following)
    assert not torch.equal(following, x)
    (tmp_path / "c" / "text_position.json").write_text('{"sequences": "all"}')
    with pytest.raises(ValueError, match="sequences = 'all' is no position"):
        source(world, tmp_path, **changes).load(tmp_path / "c")


def test_a_batch_that_is_less_than_a_context_reads_all_positions_alike(
    world: TinyWorld, tmp_path: Path
) -> None:
    hook = "blocks.1.hook_resid_post"
    opened = source(world, tmp_path)
    counted = sum(opened.contexts(20, [hook])._keep.sum(dim=0) for _ in range(200))  # noqa: SLF001
    # 20 of 32 positions, 200 times: 125 each, give or take.
    assert int(counted.min()) > 90 and int(counted.max()) < 160  # type: ignore[union-attr]


def test_contexts_are_of_the_configs_head(world: TinyWorld, tmp_path: Path) -> None:
    hook, width = "blocks.1.attn.hook_z", D_MODEL // 2
    one_head = {"hook_name": hook, "hook_head_index": 1, "sae": sae(d_in=width)}
    run = source(world, tmp_path, **one_head).contexts(20, [hook])
    both = source(world, tmp_path, hook_name=hook).contexts(20, [hook])
    x = run.samples((hook, 1))
    torch.testing.assert_close(x, both.samples((hook, None))[:, width:])


def test_a_language_model_is_never_trained(world: TinyWorld, tmp_path: Path) -> None:
    model = source(world, tmp_path).model
    assert not any(parameter.requires_grad for parameter in model.parameters())
