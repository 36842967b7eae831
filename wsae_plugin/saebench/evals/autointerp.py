"""`autointerp`: whether a language model's explanation of a latent tells where it fires."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Any

from wsae_plugin.errors import RunFailedError
from wsae_plugin.replaced import replaced
from wsae_plugin.saebench import library
from wsae_plugin.saebench.evals.base import Eval, Job, Metric, Situation
from wsae_plugin.saebench.judge import Judge

CHANCE = 10 / 14
"""What the answer "None" scores: 10 of the 14 texts do not activate the latent."""


def autointerp(judge: Judge | None) -> Eval:
    """The eval with its judge; without one it can be planned and not run."""
    return Eval(
        name="autointerp",
        config=partial(_config, judge),
        run=partial(_run, judge),
        output=("evals.autointerp.eval_output", "AutoInterpEvalOutput"),
        metrics=_metrics,
        has_artifacts=True,
        data=lambda situation: situation.text.fingerprint,
    )


def n_latents(profile: str) -> int:
    """How many latents of an SAE are explained."""
    return 50 if profile == "quick" else 1000


def _config(judge: Judge | None, situation: Situation) -> dict[str, Any]:
    return situation.language_model | {
        "judge_model": judge.model if judge else None,
        "n_latents": min(n_latents(situation.profile), situation.d_sae),
        "dataset_name": situation.text.name,
        "total_tokens": 100_000 if situation.is_quick else 2_000_000,
        "llm_context_size": min(128, situation.model.cfg.n_ctx),
    }


def _run(judge: Judge | None, job: Job) -> Mapping[str, float]:
    if judge is None:
        raise RunFailedError("there is no judge")
    config = dict(job.config)
    del config["judge_model"]
    eval_config = library.module("evals.autointerp.eval_config")
    with _asked(judge, job.seed):
        library.module("evals.autointerp.main").run_eval(
            eval_config.AutoInterpEvalConfig(**config),
            job.selected,
            job.device,
            # SAEBench passes the key to its own client only, which is not used.
            "",
            str(job.results),
            force_rerun=True,
            artifacts_path=str(job.artifacts),
        )
    if not job.result_file.exists():
        return {}
    result = json.loads(job.result_file.read_text(encoding="utf-8"))
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


def _metrics(config: dict[str, Any]) -> Sequence[Metric]:
    del config
    return [
        Metric(
            "autointerp_score",
            ("autointerp", "autointerp_score"),
            "autointerp",
            "up",
            headline=True,
            chance=CHANCE,
        )
    ]


LATENTS_SCORED = Metric("latents_scored", (), "latents with a readable answer", "none")
"""What `run` counts: SAEBench drops unreadable answers without saying so."""
