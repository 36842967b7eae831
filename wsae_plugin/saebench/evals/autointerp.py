"""`autointerp`: whether a language model's explanation of a latent tells where it fires."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Generator, Mapping
from typing import Any

from sae_lens import SAE

from wsae_plugin.errors import RunFailedError
from wsae_plugin.replaced import replaced
from wsae_plugin.saebench import library
from wsae_plugin.saebench.evals.base import Eval, Measurement, Metric, call
from wsae_plugin.saebench.judge import Judge

CHANCE = 10 / 14
"""What the answer "None" scores: 10 of the 14 texts do not activate the latent."""


def n_latents(profile: str, d_sae: int) -> int:
    """How many latents of an SAE are explained."""
    return min(50 if profile == "quick" else 1000, d_sae)


def _config(measurement: Measurement) -> dict[str, Any]:
    request = measurement.setting.request
    return measurement.language_model | {
        "judge_model": request.judge_model,
        "n_latents": n_latents(request.profile, measurement.sae.d_sae),
        "dataset_name": measurement.setting.text.name,
        "total_tokens": 100_000 if measurement.is_quick else 2_000_000,
        "llm_context_size": min(128, measurement.n_ctx),
    }


def _run(measurement: Measurement, sae: SAE[Any]) -> Mapping[str, float]:
    judge = measurement.setting.judge
    assert judge is not None
    with _asked(judge, measurement.seed):
        # SAEBench passes the key to its own client only, which is not used.
        call(measurement, sae, api_key="", artifacts_path=str(measurement.artifacts))
    if not measurement.written.exists():
        return {}
    result = json.loads(measurement.written.read_text(encoding="utf-8"))
    scored = len(result["eval_result_unstructured"])
    if scored == 0:
        raise RunFailedError(
            "no latent got an answer that could be read; is the judge's model fit?"
        )
    return {"latents_scored": scored}


@contextlib.contextmanager
def _asked(judge: Judge, seed: int) -> Generator[None]:
    """Ask our judge, with prompts and an order of latents that do not depend on who answers first.

    SAEBench draws the example answer in a prompt as answers come in, so that the same latent would
    get another prompt, and another answer, in every run.
    """
    interpreter = library.module("evals.autointerp.main").AutoInterp
    scoring_prompts, run_all = interpreter.get_scoring_prompts, interpreter.run

    def respond(
        self: Any, messages: list[dict[str, str]], max_tokens: int, n_completions: int = 1
    ) -> tuple[list[str], str]:
        del self, n_completions
        answer = judge.ask(messages, max_tokens)
        return [answer], "\n\n".join(f"{m['role']}: {m['content']}" for m in messages)

    def prompts(self: Any, explanation: str, scoring_examples: Any) -> Any:
        random.seed(f"{seed} {explanation}")
        return scoring_prompts(self, explanation, scoring_examples)

    async def run(self: Any, *args: Any, **kwargs: Any) -> dict[int, Any]:
        results = await run_all(self, *args, **kwargs)
        return dict(sorted(results.items()))

    with replaced(interpreter, get_api_response=respond, get_scoring_prompts=prompts, run=run):
        yield


_METRICS = (
    Metric(
        category="autointerp",
        metric="autointerp_score",
        label="autointerp",
        direction="up",
        headline=True,
        chance=CHANCE,
        definition="How often a judge tells from a latent's description where it fires; as good as "
        "the judge is.",
    ),
    Metric(
        metric="latents_scored",
        label="latents with a readable answer",
        direction="none",
        definition="SAEBench drops latents whose answers it cannot read, and does not say so.",
    ),
)

EVALS = (
    Eval(
        name="autointerp",
        package="autointerp",
        config_class="AutoInterpEvalConfig",
        output_class="AutoInterpEvalOutput",
        config=_config,
        metrics=lambda _: _METRICS,
        run=_run,
        ours=("judge_model",),
        has_artifacts=True,
        data=lambda measurement: measurement.setting.text.fingerprint,
        judged=n_latents,
    ),
)
