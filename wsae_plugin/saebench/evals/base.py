"""What an eval is to the benchmark, and a measurement: one SAE in one eval under one seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_lens import SAE

from wsae_plugin.fingerprint import fingerprint_of
from wsae_plugin.saebench import library
from wsae_plugin.saebench.adapter import BenchSAE
from wsae_plugin.saebench.data import Labelled, Text
from wsae_plugin.saebench.judge import Judge
from wsae_plugin.scores import Number, Score

if TYPE_CHECKING:
    from wsae_plugin.saebench.request import Request

N_ABLATED = (2, 5, 10, 20, 50, 100, 500)
"""SAEBench's numbers of ablated latents."""

# What differs between SAEs of one comparison does not make another protocol.
_NOT_SHARED = ("n_values", "n_latents", "random_seed")


class Metric(Score):
    """One number of a result, as a score that has no value yet.

    Args:
        category: Where it is below `eval_result_metrics`; empty for what `Eval.run` returns.
        metric: As in SAEBench's result and in scores.json.
        missing: A value that SAEBench writes for "not a number".
        eval: As in scores.json; empty for `saebench/<name of the eval>`.
    """

    eval: str = ""
    value: Number = None
    category: str = ""
    missing: float | None = None


@dataclass(frozen=True)
class Setting:
    """What all measurements of one language model share.

    Args:
        request: What was asked for.
        output: Folder of the benchmark; absolute.
        model: The language model, a `HookedTransformer`.
        model_name: Its name in SAEBench's files.
        fingerprint: Of its files.
        text: For core and autointerp.
        labelled: For sparse probing, TPP and SCR.
        judge: For autointerp.
    """

    request: Request
    output: Path
    model: Any
    model_name: str
    fingerprint: str
    text: Text
    labelled: Sequence[Labelled]
    judge: Judge | None


@dataclass(frozen=True)
class Measurement:
    """One SAE alone in one eval; SAEBench's working directory is that of the stage.

    Args:
        eval: The eval.
        sae: The SAE.
        seed: Of the measurement.
        setting: What it shares with others.
    """

    eval: Eval
    sae: BenchSAE
    seed: int
    setting: Setting

    @property
    def is_quick(self) -> bool:
        return self.setting.request.profile == "quick"

    @property
    def language_model(self) -> dict[str, Any]:
        """The fields that most of SAEBench's configs share; its own defaults crash."""
        return {
            "model_name": self.setting.model_name,
            "random_seed": self.seed,
            "llm_batch_size": 32,
            "llm_dtype": "float32",
        }

    @property
    def n_ctx(self) -> int:
        """Tokens that the language model can read."""
        return self.setting.model.cfg.n_ctx

    @cached_property
    def config(self) -> dict[str, Any]:
        """What the eval is asked."""
        return self.eval.config(self)

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """All that it depends on but the SAE and the seed."""
        return {
            "eval": self.eval.name,
            "model": self.setting.fingerprint,
            "config": {k: v for k, v in self.config.items() if k not in _NOT_SHARED},
            "data": self.eval.data(self),
            "versions": library.SUPPORTED,
        }

    @cached_property
    def protocol(self) -> str:
        """Fingerprint of all that it depends on but the SAE."""
        return fingerprint_of(self.inputs | {"seed": self.seed})

    @property
    def artifacts(self) -> Path:
        """Caches that SAEs of one hook share; relative to the stage, for SAEBench's own records.

        SAEBench keys them by names; here the key holds all that they depend on.
        """
        return self._shared("artifacts", self.protocol)

    @property
    def activations(self) -> Path:
        """The same for what does not depend on the seed."""
        return self._shared("activations", fingerprint_of(self.inputs))

    def _shared(self, kind: str, key: str) -> Path:
        return Path(kind) / f"{self.eval.name}-{fingerprint_of([key, self.sae.hook_name])}"

    @property
    def scratch(self) -> Path:
        """For what depends on the SAE, and is not kept; relative to the stage."""
        return Path("scratch") / self.eval.name

    @property
    def written(self) -> Path:
        """Where SAEBench writes its result."""
        return (
            Path.cwd() / self.scratch / "results" / f"{self.sae.name}_custom_sae_eval_results.json"
        )

    @property
    def result_file(self) -> Path:
        """Where that result ends up."""
        kind = "results" if self.seed == self.setting.request.seed else "noise"
        return self.setting.output / kind / self.eval.name / self.written.name

    @property
    def log_file(self) -> Path:
        """What SAEBench prints."""
        name = f"{self.sae.name}.seed-{self.seed}.txt"
        return self.setting.output / "cache" / "logs" / self.eval.name / name


def call(
    measurement: Measurement,
    sae: SAE[Any],
    fields: Mapping[str, Any] | None = None,
    output: Path | None = None,
    **options: Any,
) -> Mapping[str, float]:
    """Call SAEBench's `run_eval` of the eval's package on one SAE.

    Args:
        measurement: What to measure.
        sae: A copy of the SAE, which SAEBench may change.
        fields: Of its config, which a result does not depend on.
        output: Folder that SAEBench writes into, if not the one of `measurement.written`.
        options: Further arguments of `run_eval`.
    """
    evaluation = measurement.eval
    of_saebench = {k: v for k, v in measurement.config.items() if k not in evaluation.ours}
    config_class = getattr(evaluation.module("eval_config"), evaluation.config_class)
    evaluation.module("main").run_eval(
        config_class(**of_saebench, **(fields or {})),
        # As SAEBench takes SAEs that are not in SAELens's registry.
        [(measurement.sae.name, sae)],
        measurement.setting.request.device,
        output_path=str(output or measurement.written.parent),
        force_rerun=True,
        **options,
    )
    return {}


@dataclass(frozen=True)
class Eval:
    """An eval of SAEBench.

    Args:
        name: On the command line and in scores.json.
        package: Its folder in SAEBench's `evals`.
        config_class: SAEBench's class for its config.
        output_class: SAEBench's class that a result must fit.
        config: Values that JSON can hold, which the result depends on.
        metrics: Config → the numbers of a result.
        run: Runs SAEBench on a copy of the SAE; returns values measured beside it, by name.
        ours: Fields of the config that SAEBench does not know.
        has_artifacts: Whether it keeps activations or probes between SAEs, so that the first SAE
            would be measured otherwise than the rest.
        only_resid_post: Whether it reads `hook_resid_post` whatever the SAE's hook is.
        data: Fingerprints of the data it reads.
        notes: What is to be said of its scores.
        seconds: For an SAE of 512 latents of the bundled model, quick, about; None if unknown.
        judged: Profile and width of an SAE → how many latents a judge is asked about.
    """

    name: str
    package: str
    config_class: str
    output_class: str
    config: Callable[[Measurement], dict[str, Any]]
    metrics: Callable[[dict[str, Any]], Sequence[Metric]]
    run: Callable[[Measurement, SAE[Any]], Mapping[str, float]] = call
    ours: tuple[str, ...] = ()
    has_artifacts: bool = False
    only_resid_post: bool = False
    data: Callable[[Measurement], object] = lambda _: None
    notes: Callable[[Measurement], Sequence[str]] = lambda _: ()
    seconds: float | None = None
    judged: Callable[[str, int], int] = lambda _profile, _d_sae: 0

    def module(self, name: str) -> Any:
        """SAEBench's module of this name in the eval's package."""
        return library.module(f"evals.{self.package}.{name}")
