"""What an eval is to the benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sae_lens import SAE

from wsae_plugin.saebench.data import Labelled, Text

Profile = Literal["quick", "standard"]
Direction = Literal["up", "down", "none"]

N_ABLATED = (2, 5, 10, 20, 50, 100, 500)
"""SAEBench's numbers of ablated latents."""


@dataclass(frozen=True)
class Situation:
    """What an eval's config may depend on, apart from the SAE's weights.

    Args:
        profile: "standard" is SAEBench's published settings.
        seed: Of the measurement.
        device: Where it runs.
        model: The language model, a `HookedTransformer`.
        model_name: Its name in SAEBench's files.
        hook_name: Where the SAE sits.
        d_sae: The SAE's width.
        context_size: The SAE's, tokens.
        text: For core and autointerp.
        labelled: For sparse probing, TPP and SCR.
        tasks: For sae_probes.
    """

    profile: Profile
    seed: int
    device: str
    model: Any
    model_name: str
    hook_name: str
    d_sae: int
    context_size: int
    text: Text
    labelled: Sequence[Labelled]
    tasks: Sequence[str]

    @property
    def is_quick(self) -> bool:
        return self.profile == "quick"

    @property
    def language_model(self) -> dict[str, Any]:
        """The fields that most of SAEBench's configs share; its own defaults crash."""
        return {
            "model_name": self.model_name,
            "random_seed": self.seed,
            "llm_batch_size": 32,
            "llm_dtype": "float32",
        }


@dataclass(frozen=True)
class Job:
    """One SAE alone in one eval.

    Args:
        run: The run's name, which SAEBench makes file names of.
        sae: A copy that SAEBench may change.
        model: The language model.
        config: Of the eval.
        results: Where SAEBench writes; absolute.
        artifacts: For what does not depend on the SAE; relative to the working directory.
        activations: For what does not depend on the seed either; relative, too.
        scratch: For what does depend on the SAE, and is not kept.
        seed: Of the measurement.
        device: Where it runs.
    """

    run: str
    sae: SAE[Any]
    model: Any
    config: dict[str, Any]
    results: Path
    artifacts: Path
    activations: Path
    scratch: Path
    seed: int
    device: str

    @property
    def selected(self) -> list[tuple[str, SAE[Any]]]:
        """As SAEBench takes SAEs that are not in SAELens's registry."""
        return [(self.run, self.sae)]

    @property
    def result_file(self) -> Path:
        """Where SAEBench writes its result."""
        return self.results / f"{self.run}_custom_sae_eval_results.json"


@dataclass(frozen=True)
class Metric:
    """One number of a result.

    Args:
        name: As in scores.json.
        path: Where it is below `eval_result_metrics`.
        label: For readers.
        direction: Which way is better; "none" describes.
        headline: Whether a summary shows it.
        chance: What a random answer would score.
        note: What a reader must know of it.
        missing: A value that SAEBench writes for "not a number".
    """

    name: str
    path: tuple[str, ...]
    label: str
    direction: Direction
    headline: bool = False
    chance: float | None = None
    note: str = ""
    missing: float | None = None


@dataclass(frozen=True)
class Eval:
    """An eval of SAEBench.

    Args:
        name: On the command line and in scores.json.
        config: Situation → values that JSON can hold, which the result depends on.
        run: Runs SAEBench; returns further values, name → number, measured on the way.
        output: Module and class that SAEBench validates its result with.
        metrics: Config → the numbers of a result.
        has_artifacts: Whether it keeps activations or probes between SAEs, so that the first SAE
            would be measured otherwise than the rest.
        only_resid_post: Whether it reads `hook_resid_post` whatever the SAE's hook is.
        data: Situation → fingerprints of the data it reads.
        notes: Situation → what is to be said of its scores.
    """

    name: str
    config: Callable[[Situation], dict[str, Any]]
    run: Callable[[Job], Mapping[str, float]]
    output: tuple[str, str]
    metrics: Callable[[dict[str, Any]], Sequence[Metric]]
    has_artifacts: bool = False
    only_resid_post: bool = False
    data: Callable[[Situation], object] = lambda _: None
    notes: Callable[[Situation], Sequence[str]] = lambda _: ()
