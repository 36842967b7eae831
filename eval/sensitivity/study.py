"""Where the Fisher metric helps, by how much, beside what else, and what says so before training.

    make saebench
    python eval/sensitivity/study.py runs/sensitivity --bench .venv-saebench/bin/wsae

Trains what study.yaml lists, each part with `wsae compare` and `wsae eval` in a process of its own,
and goes on where it was interrupted; then writes study.json, study.md and study.png beside this
file. Two hours of two cores.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
import yaml
from tables import draw, outcome, page

from wsae_plugin.assets import bundled_dataset
from wsae_plugin.compare.manifest import Comparison
from wsae_plugin.files import write_json_atomic, write_text_atomic
from wsae_plugin.provenance import versions
from wsae_plugin.report.inputs import read_inputs
from wsae_plugin.yaml_file import to_yaml

CONFIG = Path(__file__).with_name("study.yaml")
RESULT = CONFIG.with_suffix(".json")
WSAE = Path(sys.executable).with_name("wsae")
WINDOWS = {"validation": 16, "test": 32}
"""The halves of the held-out documents, and how many batches of each are measured on."""

Values = dict[str, Any]


def merged(*sections: Mapping[str, Any]) -> Values:
    """Sections on top of each other, field by field; arms are named anew, not added."""
    found: Values = {}
    for section in sections:
        for name, value in section.items():
            both = isinstance(value, Mapping) and isinstance(found.get(name), Mapping)
            found[name] = merged(found[name], value) if both and name != "arms" else value
    return found


def write_windows(folder: Path) -> None:
    """Write every other held-out document as validation.jsonl, and the rest as test.jsonl."""
    texts = bundled_dataset("held_out")["text"]
    for n, name in enumerate(WINDOWS):
        rows = [json.dumps({"text": text}) for text in texts[n :: len(WINDOWS)]]
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


class Study:
    """A folder of comparisons, trained several at a time.

    Args:
        folder: Where they are.
        plan: study.yaml.
        jobs: How many at a time, a core each.
        bench: The command of the environment that has SAEBench, for probes in the part topk.
    """

    def __init__(self, folder: Path, plan: Values, jobs: int, bench: Path | None) -> None:
        self.folder, self.plan, self.jobs, self.bench = folder, plan, jobs, bench

    def scores(self, configs: Mapping[str, Values]) -> Any:
        """Train and measure comparisons; a row for each score of each SAE, with `part` and `lr`.

        What is called tune-… is measured on the validation windows.
        """
        with ThreadPoolExecutor(self.jobs) as pool:
            done = list(pool.map(lambda one: self._run(*one), configs.items()))
        tables = [
            read_inputs(path).table.assign(part=path.name, lr=values["lr"])
            for path, values in zip(done, configs.values(), strict=True)
        ]
        return pd.concat(tables, ignore_index=True)

    def _run(self, name: str, values: Values) -> Path:
        window = "validation" if name.startswith("tune-") else "test"
        config, output = self.folder / f"{name}.yaml", self.folder / name
        if not output.exists():
            config.write_text(to_yaml(values), encoding="utf-8")
        is_started = (output / "manifest.json").exists()
        if not is_started or Comparison.read(output).status != "finished":
            self._wsae("compare", config, "--output", output, *["--resume"] * is_started)
        text = self.folder / f"{window}.jsonl"
        self._wsae("eval", output, "--dataset", text, "--batches", WINDOWS[window])
        if self.bench is not None and name.startswith("topk-"):
            self._wsae("bench", output, "--evals", "sae_probes", wsae=self.bench)
        return output

    def _wsae(self, *arguments: object, wsae: Path = WSAE) -> None:
        command = [str(wsae), *map(str, arguments)]
        with (self.folder / "log.txt").open("a") as log:
            env = os.environ | {"OMP_NUM_THREADS": "1"}
            subprocess.run(command, check=True, stdout=log, stderr=log, env=env)

    def tuned_rates(self) -> tuple[dict[str, dict[str, float]], Any]:
        """Architecture → metric → the learning rate with the lowest divergence; and all scores."""
        plan = self.plan
        rates = {
            name: fields["lr"] for name, fields in plan["architectures"].items() if "lr" in fields
        }
        configs = {
            f"tune-{name}-{rate:g}".replace(".", "p"): merged(
                plan["base"], plan["tuning"], fields, {"lr": rate}
            )
            for rate in plan["rates"]
            for name, fields in plan["architectures"].items()
            if name not in rates
        }
        table = self.scores(configs)
        kl = table[table["metric"] == "kl_divergence"]
        found: dict[str, dict[str, float]] = {
            name: dict.fromkeys(plan["base"]["arms"], rate) for name, rate in rates.items()
        }
        for name in plan["architectures"]:
            mine = kl[kl["part"].str.startswith(f"tune-{name}-")]
            if len(mine):
                means = mine.groupby(["arm", "lr"])["value"].mean().unstack()
                found[name] = means.idxmin(axis=1).to_dict()
        return found, table


def parts_of(
    plan: Values, rates: Mapping[str, Mapping[str, float]]
) -> Iterator[tuple[str, Values]]:
    """Name → config of every part; one for each learning rate that its arms have."""
    for name, part in plan["parts"].items():
        fields = dict(part)
        architecture = fields.pop("of")
        whole = merged(
            plan["base"], plan["confirmation"], plan["architectures"][architecture], fields
        )
        its_rates = rates[architecture]
        if "match_l0" in whole:  # one rate for both, the baseline's, so that L0 can be matched
            its_rates = dict.fromkeys(its_rates, its_rates["uniform"])
        # Controls take the baseline's.
        of_arms = {
            arm: its_rates.get(own["metric"], its_rates["uniform"])
            for arm, own in whole["arms"].items()
        }
        for rate in sorted(set(of_arms.values())):
            yield f"{name}-{rate:g}".replace(".", "p"), merged(whole, {"lr": rate})


def main(
    folder: Annotated[Path, typer.Argument(help="For the runs.")],
    jobs: Annotated[int, typer.Option(min=1, help="Comparisons at a time, a core each.")] = 2,
    bench: Annotated[
        Path | None, typer.Option(help="SAEBench's `wsae`: .venv-saebench/bin/wsae, for probes.")
    ] = None,
) -> None:
    """Tune, train, measure, and write the result."""
    plan = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    write_windows(folder)
    study = Study(folder, plan, jobs, bench)
    rates, tuning = study.tuned_rates()
    typer.echo(rates)
    topk = merged(plan["base"], plan["architectures"]["topk"], plan["tuning"])
    kl_tuning = merged(topk, plan["kl_tuning"], {"lr": rates["topk"]["uniform"]})
    table = study.scores({**dict(parts_of(plan, rates)), "tune-kl": kl_tuning})
    result = outcome(pd.concat([tuning, table]), rates, plan, folder)
    about = {"rates": rates, "windows": WINDOWS, "versions": versions()}
    write_json_atomic(RESULT, about | result)
    draw(result, RESULT.with_suffix(".png"))
    write_text_atomic(RESULT.with_suffix(".md"), page(result))
    typer.echo(page(result))


if __name__ == "__main__":
    typer.run(main)
