"""What SAEs are measured on that they have not seen: text, or other samples of their source.

Both give an `Evidence` for each SAE, with what there is to be known of it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from os.path import realpath
from pathlib import Path
from typing import Any, Literal

import datasets
import torch
from sae_lens import SAE, ActivationsStore
from sae_lens.synthetic.evals import SyntheticDataEvalResult
from sae_lens.util import get_special_token_ids
from torch import Tensor
from tqdm.auto import tqdm

from wsae_plugin.assets import bundled_dataset
from wsae_plugin.errors import BadInputError
from wsae_plugin.measures.gallery import gallery
from wsae_plugin.measures.labelled import LabelledSamples
from wsae_plugin.measures.measure import Evidence
from wsae_plugin.measures.sums import HeldOutSums, keep_sums, reconstruct, sums_of_samples
from wsae_plugin.measures.top_tokens import (
    HeldOutTokens,
    RandomDirections,
    TokenEvidence,
    TopTokens,
)
from wsae_plugin.messages import nearest, refusals_as_bad_input
from wsae_plugin.sources import Samples, Source, open_source
from wsae_plugin.sources.hooks import hooks_of, open_checked_model
from wsae_plugin.sources.model_run import ModelRun, Place
from wsae_plugin.sources.opening import (
    BUNDLED,
    check_format,
    open_dataset,
    raw_text_on_purpose,
)
from wsae_plugin.training.config import RunConfig

BUNDLED_HELD_OUT = "bundled-held-out"
SPLITS = ("validation", "test", "held_out")
"""Names of a split that training does not read, in the order of preference."""

_SHUFFLE_BUFFER = 1000
_SAMPLES_OF_A_PROMPT = 128
"""Samples without a language model that count as one context."""


@dataclass(frozen=True)
class EvalSettings:
    """What is measured on.

    Args:
        dataset: `bundled-held-out`, a folder, a file or a name on the Hub; None for the held-out
            part of what a run was trained on, which without a language model are samples of it.
        batches: the blocks that the bootstrap draws from.
        batch_size_prompts: contexts in one of them; without a language model 128 samples each.
        seed: of the order of the documents and of the shuffled controls.
    """

    dataset: str | None = None
    batches: int = 32
    batch_size_prompts: int = 8
    seed: int = 0


@dataclass(frozen=True)
class HeldOutSource:
    """A data set and the split of it to measure on.

    Attributes:
        dataset: `bundled-held-out`, a folder, a file, or a name on the Hub.
        split: None where the data set is one text without splits.
    """

    dataset: str
    split: str | None

    def __str__(self) -> str:
        return self.dataset if self.split is None else f"{self.dataset} ({self.split})"


@dataclass(frozen=True)
class HeldOutText:
    """What is needed to measure SAEs of one language model.

    Attributes:
        model: as SAELens wraps it.
        tokenizer: the model's, None where it has none.
        batches: tokens, each (batch_size_prompts, context_size).
        excluded: special tokens, which count in no score.
        seed: of the shuffled controls.
    """

    model: Any
    tokenizer: Any
    batches: list[Tensor]
    excluded: list[int]
    seed: int

    @property
    def about(self) -> dict[str, Any]:
        """What is recorded of the text, beside its name."""
        return {
            "tokens": len(self._tokens.contexts),
            "batches": len(self.batches),
            "batch_size_prompts": len(self.batches[0]),
            "context_size": self.batches[0].shape[1],
            "seed": self.seed,
            "excluded_token_ids": self.excluded,
        }

    @cached_property
    def _tokens(self) -> HeldOutTokens:
        return HeldOutTokens.of(self.batches, self.excluded, self.tokenizer)

    @torch.no_grad()
    def evidence(self, saes: Mapping[str, SAE[Any]]) -> dict[str, Evidence]:
        """Run the model over the batches once, and once more for each substitute of activations.

        Args:
            saes: name → SAE, for inference (scaling folded in), with `metadata.hook_name` set.

        Returns:
            Name → what the text finds out of each SAE.

        Raises:
            BadInputError: an SAE says no hook of the model.
        """
        places = {name: _place_of(name, sae, self.model.hook_dict) for name, sae in saes.items()}
        sums: dict[str, dict[str, Tensor]] = {name: {} for name in saes}
        top = {name: TopTokens(sae.cfg.d_sae) for name, sae in saes.items()}
        random = {place: RandomDirections(self.seed) for place in dict.fromkeys(places.values())}
        excluded = torch.tensor(self.excluded, dtype=torch.long)
        for n, tokens in enumerate(tqdm(self.batches, desc="Held-out batches", unit="batch")):
            keep = ~torch.isin(tokens, excluded.to(tokens.device))
            run = ModelRun(self.model, tokens, keep, [*random])
            for place, directions in random.items():
                directions.add(run.activations[place][keep.to(run.activations[place].device)])
            for name, sae in saes.items():
                x = run.activations[places[name]]
                x_hat, feature_acts = reconstruct(sae, x)
                losses = run.losses(places[name], x_hat)
                where, acts = keep.to(x.device), feature_acts[keep.to(feature_acts.device)]
                found = sums_of_samples(x[where], x_hat[where], acts)
                keep_sums(sums[name], n, len(self.batches), found | losses)
                top[name].add(acts)
        return {
            name: Evidence(
                HeldOutSums(**sums[name]),
                TokenEvidence(
                    self._tokens, self.seed, (top[name].positions, random[place].positions)
                ),
            )
            for name, place in places.items()
        }

    @torch.no_grad()
    def activations(self, sae: SAE[Any]) -> Iterator[Tensor]:
        """x of each batch where the SAE reads, without special tokens, each of shape (n, d_in).

        Raises:
            BadInputError: as `evidence` does.
        """
        place = _place_of("sae", sae, self.model.hook_dict)
        excluded = torch.tensor(self.excluded, dtype=torch.long)
        for tokens in tqdm(self.batches, desc="Held-out batches", unit="batch", leave=False):
            keep = ~torch.isin(tokens, excluded.to(tokens.device))
            yield ModelRun(self.model, tokens, keep, [place]).samples(place)


@dataclass(frozen=True)
class HeldOutSamples:
    """What is needed to measure SAEs of one source without a language model.

    Attributes:
        source: the source.
        n_batches: how many.
        n_samples: in one of them.
        seed: of the samples.
    """

    source: Source
    n_batches: int
    n_samples: int
    seed: int

    @property
    def about(self) -> dict[str, Any]:
        """What is recorded of the samples."""
        return {
            "tokens": self.n_batches * self.n_samples,
            "batches": self.n_batches,
            "batch_size_prompts": -(-self.n_samples // _SAMPLES_OF_A_PROMPT),
            "context_size": _SAMPLES_OF_A_PROMPT,
            "seed": self.seed,
            "rows_per_image": self.source.rows_per_image,
        }

    @torch.no_grad()
    def evidence(self, saes: Mapping[str, SAE[Any]]) -> dict[str, Evidence]:
        """Name → what the samples find out of each SAE, and SAELens of those of known features."""
        sums: dict[str, dict[str, Tensor]] = {name: {} for name in saes}
        batches = self._batches
        labelled: dict[str, LabelledSamples] = {}
        if batches[0].classes is not None:
            n_classes = len(batches[0].classes.names)
            labelled = {
                name: LabelledSamples(sae.cfg.d_in, sae.cfg.d_sae, n_classes, self.seed)
                for name, sae in saes.items()
            }
        for n, batch in enumerate(tqdm(batches, desc="Held-out batches", unit="batch")):
            for name, sae in saes.items():
                x_hat, feature_acts = reconstruct(sae, batch.x)
                of_batch = sums_of_samples(batch.x, x_hat, feature_acts)
                keep_sums(sums[name], n, self.n_batches, of_batch)
                if batch.classes is not None:
                    labelled[name].add(batch.x.cpu(), feature_acts.cpu(), batch.classes)
        found: dict[str, Evidence] = {}
        for name, sae in saes.items():
            classes = labelled[name].evidence() if labelled else None
            pictures = self.source.pictures
            shown = gallery(sae, batches, classes, pictures) if classes and pictures else ()
            kept = HeldOutSums(**sums[name])
            found[name] = Evidence(kept, None, self._truth(sae), classes, shown)
        return found

    def activations(self, sae: SAE[Any]) -> Iterator[Tensor]:  # noqa: ARG002
        """x of each batch, of shape (n_samples, d_in)."""
        return (batch.x for batch in self._batches)

    @cached_property
    def _batches(self) -> list[Samples]:
        """Drawn once, so that SAEs of another pass are measured on the same ones."""
        with self._drawing(0):
            return [self.source.held_out(self.n_samples) for _ in range(self.n_batches)]

    def _truth(self, sae: SAE[Any]) -> SyntheticDataEvalResult | None:
        """What SAELens measures, on samples that are the same for every SAE."""
        with self._drawing(1):
            return self.source.truth(sae, self.n_batches * self.n_samples, self.n_samples)

    @contextmanager
    def _drawing(self, part: int) -> Generator[None]:
        """Draw from a seed that no training can have, so that no sample was trained on."""
        with torch.random.fork_rng():
            torch.manual_seed((2**32 + 2 * self.seed + part) % 2**64)
            yield


def held_out_source(trained_on: str, dataset: str | None) -> HeldOutSource:
    """Which text SAEs are measured on.

    Args:
        trained_on: the run's `dataset_path`.
        dataset: what was asked for; None for the held-out part of what the run was trained on.

    Raises:
        BadInputError: there is none, or it is what the run was trained on.
    """
    if dataset == BUNDLED_HELD_OUT or (dataset is None and trained_on == BUNDLED):
        return HeldOutSource(BUNDLED_HELD_OUT, None)
    splits = _splits(trained_on if dataset is None else dataset)
    for split in SPLITS:
        if split in splits:
            return HeldOutSource(trained_on if dataset is None else dataset, split)
    found = f"its splits are {', '.join(splits)}" if splits else "it has no splits"
    wanted = ", ".join(SPLITS)
    if dataset is None:
        raise BadInputError(
            f"--dataset: missing; the run was trained on {trained_on}, which has no held-out split "
            f"({found}; looked for {wanted}); give --dataset with text that no run has seen"
        )
    if realpath(dataset) == realpath(trained_on):
        raise BadInputError(
            f"--dataset {dataset}: is what the run was trained on and has no held-out split "
            f"({found}; looked for {wanted}); give text that no run has seen"
        )
    return HeldOutSource(dataset, "train" if splits else None)


def open_held_out(
    configs: Sequence[RunConfig], source: HeldOutSource, settings: EvalSettings
) -> HeldOutText | HeldOutSamples:
    """Open the source and, if it has a language model, draw the batches.

    Args:
        configs: of runs that differ in what does not make their samples; of a language model, the
            hooks of all are read.
        source: the text, for a language model.
        settings: how much to measure on, in which order.

    Raises:
        BadInputError: the model, a hook or the data set is not what the config says, or the text
            ends before so many batches.
    """
    config, seed = configs[0], settings.seed
    runner_config = config.runner_config()
    if not config.has_language_model:
        n_samples = settings.batch_size_prompts * _SAMPLES_OF_A_PROMPT
        with torch.random.fork_rng():
            # As in the training: a synthetic model may be drawn from the run's seed.
            torch.manual_seed(config.seed)
            opened = open_source(runner_config)
        if (there := opened.n_held_out) is not None:
            n_samples = min(n_samples, there // settings.batches)
            if n_samples < 2:
                raise BadInputError(
                    f"{source}: has {there} held-out rows, too few for {settings.batches} batches; "
                    "hold out more, or ask for fewer with --batches"
                )
        return HeldOutSamples(opened, settings.batches, n_samples, seed)
    hooks = [hook for each in configs for hook in hooks_of(each.runner_config())]
    model: Any = open_checked_model(runner_config, hooks)
    with (
        raw_text_on_purpose(),
        refusals_as_bad_input(f"held-out data set {source}"),
    ):
        dataset = _open(source).shuffle(seed=seed, buffer_size=_SHUFFLE_BUFFER)
        store = ActivationsStore.from_config(model, runner_config, override_dataset=dataset)
        batches = held_out_batches(store, settings.batches, settings.batch_size_prompts)
    tokenizer = getattr(model, "tokenizer", None)
    excluded: list[int] = [] if tokenizer is None else get_special_token_ids(tokenizer)
    return HeldOutText(model, tokenizer, batches, sorted(excluded), seed)


def best_device() -> Literal["cuda", "cpu"]:
    """Where to measure, whatever machine the runs were trained on."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def held_out_batches(
    store: ActivationsStore, n_batches: int, batch_size_prompts: int
) -> list[Tensor]:
    """The next `n_batches` batches of tokens of the store, each (batch_size_prompts, context).

    Raises:
        BadInputError: fewer than two batches, of which no spread can be taken, or a data set
            that ends before them (SAELens would start it again).
    """
    if n_batches < 2:
        raise BadInputError(f"{n_batches} held-out batch(es): two or more are needed for a spread.")
    try:
        return [
            store.get_batch_tokens(batch_size_prompts, raise_at_epoch_end=True)
            for _ in range(n_batches)
        ]
    except StopIteration:
        raise BadInputError(
            f"the held-out data set ends before {n_batches} batches of {batch_size_prompts} × "
            f"{store.context_size} tokens; ask for fewer, or give it more text."
        ) from None


def _open(source: HeldOutSource) -> datasets.IterableDataset:
    if source.dataset == BUNDLED_HELD_OUT:
        return bundled_dataset("held_out").to_iterable_dataset()
    split = source.split or "train"
    dataset = open_dataset(source.dataset, streaming=True, split=split)
    if dataset is None:
        return datasets.load_dataset(source.dataset, split=split, streaming=True)
    return dataset


def _splits(dataset: str) -> list[str]:
    """The splits of a data set; none where it is a file or one saved table."""
    path = Path(dataset)
    if dataset == BUNDLED or path.is_file() or (path / "state.json").is_file():
        return []
    if not path.exists():
        # Refuses the name of a missing file, which Hugging Face would look for on its Hub.
        open_dataset(dataset, streaming=True)
    with refusals_as_bad_input(f"held-out data set {dataset}"):
        if (path / "dataset_dict.json").is_file():
            return [str(split) for split in datasets.load_from_disk(dataset)]
        if path.is_dir():
            check_format(path)
        return datasets.get_dataset_split_names(dataset)


def _place_of(name: str, sae: SAE[Any], known: Iterable[str]) -> Place:
    metadata = sae.cfg.metadata
    if metadata.hook_name is None:
        raise BadInputError(f"{name}: its metadata has no hook_name, so its input is unknown.")
    if metadata.hook_name not in known:
        raise BadInputError(
            f"{name}: hook_name = {metadata.hook_name!r}: the model has no such hook; "
            f"{nearest(metadata.hook_name, known)}"
        )
    if sae.hook_z_reshaping_mode:
        # Heads are laid side by side for every SAE.
        sae.turn_off_forward_pass_hook_z_reshaping()
    return metadata.hook_name, metadata.hook_head_index
