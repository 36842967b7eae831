"""Activations of a language model at one hook or several, through SAELens's `ActivationsStore`."""

from __future__ import annotations

import contextlib
import inspect
import logging
import warnings
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from sae_lens import ActivationsStore, LanguageModelSAERunnerConfig, TrainingSAE
from sae_lens.constants import RUNNER_CFG_FILENAME
from sae_lens.llm_sae_training_runner import LLMSaeEvaluator
from sae_lens.multi_sae_training_runner import MultiSAETrainingRunnerConfig
from sae_lens.training.activation_scaler import ActivationScaler
from sae_lens.training.prefetch import PrefetchingIterator
from sae_lens.util import get_special_token_ids
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm
from typing_extensions import override

from wsae_plugin.distributed.spread_rows import SpreadRows
from wsae_plugin.distributed.world import ALONE, World
from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.files import write_json_atomic
from wsae_plugin.gamma.sensitivity import Sensitivity
from wsae_plugin.messages import refusals_as_bad_input
from wsae_plugin.remote_code import check_own
from wsae_plugin.saved_run import RECORDED
from wsae_plugin.sources.hooks import Hook, hooks_of, open_checked_model
from wsae_plugin.sources.mixing_buffer import DATA_POSITION_FILENAME, MixingBuffer, read_position
from wsae_plugin.sources.model_run import ModelRun
from wsae_plugin.sources.opening import open_dataset, raw_text_on_purpose
from wsae_plugin.sources.sensitivity import fisher_metric
from wsae_plugin.sources.source import GIVE_GRADIENTS, Source
from wsae_plugin.validation import read_json

logger = logging.getLogger(__name__)

_TEXT_POSITION = "text_position.json"
"""Beside a checkpoint, how much was read of the text of `contexts`."""


def positions_per_context(values: Mapping[str, Any]) -> int:
    """Token positions of a context that `seqpos_slice` leaves."""
    return len(range(values["context_size"])[slice(*values["seqpos_slice"])])


class LanguageModelSource(Source):
    """What a language model computes at the hooks of a runner config, shuffled.

    Its position is exact: a checkpoint holds the buffered activations, which are at most
    `n_batches_in_buffer · context_size · d_in` numbers for every hook, and how many sequences were
    read. Resuming reads and tokenises the text up to there again, without the language model.
    Where SAELens draws batches in advance (`prefetch_llm_batches`), and from a checkpoint of
    SAELens's own runners, the position is approximate, as SAELens's is.

    Args:
        cfg: The runner config. `model_name` and `dataset_path` may be `bundled`.
        wanted: Hooks that the model has to have; None for those of `cfg`.

    Attributes:
        model: The language model, as SAELens wraps it.
        store: SAELens's store.

    Raises:
        BadInputError: The model, a hook, its width or the data set is not what `cfg` says.
    """

    runner_configs = {
        ("sae",): LanguageModelSAERunnerConfig,
        ("saes",): MultiSAETrainingRunnerConfig,
    }
    n_samples_field, batch_size_field = "training_tokens", "train_batch_size_tokens"
    has_language_model = True
    cfg_filename = RUNNER_CFG_FILENAME
    held_out_fields = (
        *("model_name", "model_class_name", "model_from_pretrained_kwargs", "context_size"),
        *("prepend_bos", "disable_concat_sequences", "sequence_separator_token"),
        "use_chat_formatting",
    )

    def __init__(self, cfg: Any, wanted: list[Hook] | None = None) -> None:
        self._cfg = cfg
        self._hooks = {hook.name: hook for hook in hooks_of(cfg)}
        self.name = f"{cfg.model_name} on {cfg.dataset_path}"
        self.d_in = {name: hook.d_in for name, hook in self._hooks.items()}
        self.model: Any = open_checked_model(cfg, wanted or hooks_of(cfg))
        if cfg.compile_llm:
            # What the store and SAELens's evaluator call; a compiled module would not reach it.
            self.model.run_with_cache = torch.compile(
                self.model.run_with_cache, mode=cfg.llm_compilation_mode
            )
        self.store = self._open_store()
        self._buffer = MixingBuffer(
            self._read,
            self.store.n_batches_in_buffer * self.store.training_context_size,
            self.store.train_batch_size_tokens,
            self.store.activations_mixing_fraction,
        )
        self._batches: Iterator[Tensor] | None = None
        self._world = ALONE
        self._passes: deque[tuple[Tensor, list[int]]] = deque()
        self._position = [0, 0]
        self._text: _CountingStore | None = None

    @override
    @classmethod
    def problems(cls, values: Mapping[str, Any]) -> Iterator[str]:
        check_own(values["model_from_pretrained_kwargs"])
        try:
            positions = positions_per_context(values)
        except (TypeError, ValueError):
            positions = 0
        if positions == 0:
            yield (
                f"seqpos_slice = {values['seqpos_slice']}: must be [start, end] or [start, end, "
                f"step] and leave some of the context_size = {values['context_size']} positions"
            )
        batch, n_batches = values["train_batch_size_tokens"], values["n_batches_in_buffer"]
        if n_batches * positions < batch:
            yield (
                f"n_batches_in_buffer = {n_batches}: the buffer of n_batches_in_buffer × "
                f"context_size = {n_batches * positions} tokens must hold "
                f"train_batch_size_tokens = {batch}; use {-(-batch // positions)} or more"
            )
        cached = (
            values.get("cached_activations_path") if values.get("use_cached_activations") else None
        )
        if cached is not None and not Path(cached).is_dir():
            yield f"cached_activations_path = {cached!r}: no such folder"
        if not values["dataset_path"] and cached is None:
            yield "dataset_path: missing; 'bundled', a local folder or file, or a name on the Hub"
        checkpoint = values.get("resume_from_checkpoint")
        record = Path(checkpoint or "") / RUNNER_CFG_FILENAME
        if checkpoint is not None and record.is_file():
            was_cached = read_json(record, "wsae train").get("use_cached_activations", False)
            if was_cached != values.get("use_cached_activations", False):
                yield (
                    f"resume_from_checkpoint = {checkpoint!r}: its use_cached_activations is "
                    f"{was_cached}, and a place in a text is none in a cache; set it as it was, or "
                    "start anew with from_pretrained_path"
                )

    def _open_store(self) -> _CountingStore:
        path = self._cfg.dataset_path
        dataset = open_dataset(path, self._cfg.streaming)
        with raw_text_on_purpose(), refusals_as_bad_input(f"dataset_path = {path!r}"):
            return self._store_of(dataset)

    def _store_of(self, dataset: Any) -> _CountingStore:
        cfg = self._cfg
        store: Any = _CountingStore
        if isinstance(cfg, LanguageModelSAERunnerConfig):
            return store.from_config(self.model, cfg, override_dataset=dataset)
        open_store = store.from_config_multi_hook
        same = [name for name in inspect.signature(open_store).parameters if hasattr(cfg, name)]
        device = torch.device(cfg.act_store_device)
        excluded = cfg.exclude_special_tokens
        if excluded is True:
            excluded = get_special_token_ids(self.model.tokenizer)
        arguments = {name: getattr(cfg, name) for name in same} | {
            "hook_names": list(self._hooks),
            "hook_d_ins": self.d_in,
            "hook_head_indices": {name: hook.head_index for name, hook in self._hooks.items()},
            "total_training_tokens": cfg.training_tokens,
            "device": device,
            "exclude_special_tokens": torch.tensor(excluded, device=device) if excluded else None,
        }
        return open_store(self.model, dataset=dataset or cfg.dataset_path, **arguments)

    @override
    def __next__(self) -> dict[str, Tensor]:
        if self._batches is None:
            self._batches = self._start()
        batch = next(self._batches)
        # The hooks lie side by side, so that one shuffle keeps them aligned.
        return dict(zip(self.d_in, batch.split(list(self.d_in.values()), dim=1), strict=True))

    def _start(self) -> Iterator[Tensor]:
        if not getattr(self.store, "is_dataset_tokenized", True):
            logger.info(
                "The data set is raw text, tokenised as it is read; for long runs, SAELens's "
                "PretokenizeRunner does that once."
            )
        n_ahead = int(self._cfg.prefetch_llm_batches)
        return PrefetchingIterator(self._buffer, prefetch=n_ahead) if n_ahead else self._buffer

    @override
    def share(self, world: World) -> None:
        if world.size > 1 and self.store.cached_activation_dataset is None:
            self._world, self._buffer.spread = world, SpreadRows(world, self._cfg.device)

    def _read(self) -> Tensor:
        if self._buffer.spread is None:
            return self._of_both_epochs(self._activations)
        if not self._passes:
            self._read_together(self._buffer.spread)
        numbers, self._position = self._passes.popleft()
        return numbers

    def _read_together(self, spread: SpreadRows) -> None:
        """Each process makes one pass of the model, in the order of the ranks."""
        drawn: list[tuple[Tensor, list[int]]] = []
        for _ in range(self._world.size):
            tokens = self._of_both_epochs(self.store.get_batch_tokens)
            drawn.append((tokens, [self.store.n_sequences, self.store.n_dataset_processed]))
        self.store.planned = drawn[self._world.rank][0]
        own = self._activations(raise_at_epoch_end=True)
        positions = [position for _, position in drawn]
        # Each has drawn the text of all.
        text = crc32(torch.cat([tokens for tokens, _ in drawn]).cpu().numpy().tobytes())
        everyones = self._world.collect((len(own), text))
        for rank, (_, other) in enumerate(everyones):
            if other != everyones[0][1]:
                raise RunFailedError(
                    f"dataset_path = {self._cfg.dataset_path!r}: process {rank} reads another text "
                    "there than process 0; give all the same"
                )
        added = spread.add(own, [n for n, _ in everyones])
        self._passes.extend(zip(added, positions, strict=True))

    def _of_both_epochs(self, draw: Callable[..., Tensor]) -> Tensor:
        try:
            return draw(raise_at_epoch_end=True)
        except StopIteration:
            warnings.warn(
                "All samples in the training dataset have been exhausted, beginning new epoch.",
                stacklevel=2,
            )
        try:
            return draw(raise_at_epoch_end=False)
        except StopIteration:
            raise ValueError(
                "Unable to fill buffer after starting new epoch. Dataset may be too small."
            ) from None

    @torch.no_grad()
    def _activations(self, raise_at_epoch_end: bool) -> Tensor:
        """Of one pass of the language model, all hooks side by side, without special tokens."""
        store = self.store
        if isinstance(self._cfg, LanguageModelSAERunnerConfig):
            return store.get_filtered_llm_batch(raise_at_epoch_end)
        tokens = store.get_batch_tokens(raise_at_epoch_end=raise_at_epoch_end)
        activations = store.get_multi_hook_activations(tokens)
        parts = [activations[name].to(store.device).flatten(0, 1) for name in self.d_in]
        side_by_side = torch.cat(parts, dim=1)
        counts = self._counts(tokens)[:, slice(*store.seqpos_slice)]
        return side_by_side[counts.flatten().to(store.device)]

    @override
    def save(self, folder: Path) -> None:
        store, position = self.store, self._buffer.position()
        store.save_to_checkpoint(folder)
        if self._text is not None:
            write_json_atomic(folder / _TEXT_POSITION, {"sequences": self._text.n_sequences})
        if self._cfg.prefetch_llm_batches or not position:
            return
        cached = store.cached_activation_dataset is not None
        n_read = store.current_row_idx if cached else store.n_sequences
        read = torch.tensor(
            self._position if self._world.size > 1 else [n_read, store.n_dataset_processed]
        )
        save_file({"read": read, **position}, folder / DATA_POSITION_FILENAME)

    @override
    def gather(self) -> None:
        self._buffer.gather()

    @override
    def load(self, folder: Path) -> None:
        if (folder / _TEXT_POSITION).is_file():
            n_read = read_json(folder / _TEXT_POSITION, "wsae train").get("sequences")
            if not isinstance(n_read, int) or n_read < 0:
                raise ValueError(f"{_TEXT_POSITION}: sequences = {n_read!r} is no position")
            self._text = self._open_store()
            self._text.skip(n_read)
        store, file = self.store, folder / DATA_POSITION_FILENAME
        if self._cfg.prefetch_llm_batches or not file.is_file():
            store.load_from_checkpoint(folder)
            return
        position = read_position(file, str(store.device))
        self._buffer.restore(position)
        n_read, n_rows = position["read"].tolist()
        if store.cached_activation_dataset is not None:
            store.current_row_idx = n_read
            return
        store.skip(n_read)
        store.n_dataset_processed = n_rows
        self._position = [n_read, n_rows]

    @override
    @torch.no_grad()
    def contexts(self, n_samples: int, hooks: Collection[str]) -> ModelRun:
        # A store of its own, so that what else is trained sees the text that it would have seen.
        self._text = self._text or self._open_store()
        kept: list[Tensor] = []
        text: list[Tensor] = []
        while (missing := n_samples - sum(int(keep.sum()) for keep in kept)) > 0:
            n_contexts = -(-missing // self._text.training_context_size)
            try:
                text.append(self._text.get_batch_tokens(n_contexts))
            except StopIteration:
                raise ValueError(
                    f"the text does not fill one context of {self._text.context_size} tokens"
                ) from None
            kept.append(self._counts(text[-1]))
        tokens, keep = torch.cat(text), torch.cat(kept)
        # As many as a batch has, from anywhere in the contexts; the same again after a resumption.
        generator = torch.Generator().manual_seed(self._cfg.seed + self._text.n_sequences)
        places = keep.flatten().nonzero().flatten()
        chosen = places[torch.randperm(len(places), generator=generator)[:n_samples]]
        counted = torch.zeros_like(keep).flatten().index_fill(0, chosen, value=True)
        hooked = [(hook, self._hooks[hook].head_index) for hook in hooks]
        return ModelRun(self.model, tokens, counted.view_as(keep), hooked)

    def _counts(self, tokens: Tensor) -> Tensor:
        """Which tokens (contexts, context_size) an SAE is trained on."""
        store = self.store
        keep = torch.zeros_like(tokens, dtype=torch.bool)
        keep[:, slice(*store.seqpos_slice)] = True
        if store.exclude_special_tokens is None:
            return keep
        return keep & ~torch.isin(tokens, store.exclude_special_tokens.to(tokens.device))

    @override
    def sensitivity(
        self,
        hook: str,
        file: Path,
        n_tokens: int,
        after_batch: Callable[[], object] = lambda: None,
    ) -> Sensitivity:
        cfg, tokenizer = self._cfg, self.model.tokenizer
        if self.store.cached_activation_dataset is not None:
            raise BadInputError(f"metric: cached activations have no gradients: {GIVE_GRADIENTS}")
        # A store of its own, so that training does not begin further on in the text.
        store = self._open_store()
        # Special tokens in any case: their activations are far from all others.
        excluded = set(get_special_token_ids(tokenizer) if tokenizer else ())
        if store.exclude_special_tokens is not None:
            excluded |= set(store.exclude_special_tokens.tolist())
        return fisher_metric(
            self.model,
            hook,
            _tokens_of(store),
            file,
            n_tokens=n_tokens,
            seed=cfg.seed,
            head=self._hooks[hook].head_index,
            excluded=excluded,
            positions=slice(*store.seqpos_slice),
            after_batch=after_batch,
        )

    @override
    def metadata(self, hook: str) -> dict[str, Any]:
        of_hook = {"hook_name": hook, "hook_head_index": self._hooks[hook].head_index}
        return {
            name: of_hook[name] if name in of_hook else getattr(self._cfg, name)
            for name in RECORDED
        }

    @override
    def evaluate(self, sae: TrainingSAE[Any], scaler: ActivationScaler) -> dict[str, Any]:
        cfg = self._cfg
        evaluator = LLMSaeEvaluator(
            self.model,
            self.store,
            cfg.eval_batch_size_prompts,
            cfg.n_eval_batches,
            cfg.model_kwargs,
        )
        # SAELens keeps a thread that draws in advance from doing so meanwhile.
        return evaluator(sae, self._batches or self._buffer, scaler)

    @override
    def close(self) -> None:
        if isinstance(self._batches, PrefetchingIterator):
            self._batches.close()


def _tokens_of(store: ActivationsStore) -> Generator[Tensor]:
    """The text from its beginning, once."""
    with contextlib.suppress(StopIteration):
        while True:
            yield store.get_batch_tokens(raise_at_epoch_end=True)


class _CountingStore(ActivationsStore):
    """SAELens's store, which knows how many sequences it has read since its text last began.

    Attributes:
        planned: Tokens, read before, that it gives next; None where its text goes on.
    """

    n_sequences = 0
    planned: Tensor | None = None

    @override
    def get_batch_tokens(self, *args: Any, **kwargs: Any) -> Tensor:
        if self.planned is None:
            return super().get_batch_tokens(*args, **kwargs)
        tokens, self.planned = self.planned, None
        return tokens

    @property
    def iterable_sequences(self) -> Iterator[Tensor]:
        """Sequences of tokens up to the end of the text; SAELens then puts others in its place."""
        return self._sequences

    @iterable_sequences.setter
    def iterable_sequences(self, sequences: Iterator[Tensor]) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self.n_sequences = 0
        self._sequences = self._counted(sequences)

    def skip(self, n: int) -> None:
        """Read on without giving anything.

        Raises:
            ValueError: The text ends before.
        """
        skipped = islice(self.iterable_sequences, n)
        for _ in tqdm(skipped, "Reading up to the checkpoint", total=n, leave=False):
            pass
        if self.n_sequences < n:
            raise ValueError(
                f"the text ends after {self.n_sequences} sequences, and {n} had been read: it is "
                "not what it was"
            )

    def _counted(self, sequences: Iterator[Tensor]) -> Generator[Tensor]:
        for sequence in sequences:
            self.n_sequences += 1
            yield sequence


def activations_of(cfg: LanguageModelSAERunnerConfig[Any]) -> Iterator[Tensor]:
    """Activation batches at the hook of `cfg`, shuffled as a training run would see them.

    The shuffle draws from torch's global generator: seed it first for an order that repeats.

    Args:
        cfg: SAELens's config. `model_name` and `dataset_path` may be `bundled`.

    Returns:
        Endless batches of shape (train_batch_size_tokens, d_in), on `cfg.act_store_device`. The
        model is loaded and checked at once, not with the first batch.

    Raises:
        BadInputError: The model, the hook, `sae.d_in` or the data set is not what `cfg` says.

    Example:
        >>> from itertools import islice
        >>> first_hundred = islice(activations_of(cfg), 100)  # doctest: +SKIP
    """
    source = LanguageModelSource(cfg)
    return (batch[cfg.hook_name] for batch in source)
