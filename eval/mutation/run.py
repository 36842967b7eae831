"""Would the tests notice? The share of planted mistakes (mutants) that they find.

    make mutants
    python eval/mutation/run.py --output eval/mutation/result.json
    python eval/mutation/run.py --package gamma --sample 0 --output gamma.json  # every mutant

A mutant is one small change of a source file (mutants.py); it is killed if a test fails that passes
without it (trials.py). Those that change nothing that anyone promises are listed in
equivalents.yaml, each with a reason, and are not tried. The score is killed / (mutants −
equivalent). A sample takes from every file its share of the package's mutants, at least one, and
always the same ones for a seed.

Tests were written for what survived in the committed sample, so its score is the best that can be
said: 85 % of the same sample were killed before. Another --seed asks about mutants that nobody has
looked at.

A mutant that was killed is not run again while its file stays as it is, so an interrupted run goes
on, and after new tests only the survivors are tried; --fresh starts from nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from math import ceil
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from mutants import Mutant, mutants_of, statement_lines
from rich.console import Console
from rich.table import Table
from tqdm.auto import tqdm
from trials import Outcome, TestRun, Tree, prepare

PROJECT = Path(__file__).parents[2]
EQUIVALENTS = Path(__file__).parent / "equivalents.yaml"
BUILD = PROJECT / "build" / "mutation"
CACHE, STATE = BUILD / "tests.json", BUILD / "outcomes.json"
# Seconds of tests that a mutant is given: one that outlives them has survived.
LONGEST = 60
MEASURES = (
    *("measure", "sums", "explained_variance", "activity", "language_model", "top_tokens"),
    *("token_consistency", "token_classes", "seed_consistency"),
    *("matching", "identifiability"),
)
PACKAGES = {
    "gamma": ["gamma/*.py"],
    "saes": ["saes/*.py"],
    "kernels": ["kernels/*.py"],
    "statistics": ["statistics.py"],
    "measures": [f"measures/{name}.py" for name in MEASURES],
    "toy": ["toy/metrics.py", "toy/batched/measures.py"],
    "training": ["training/trainer.py", "training/fused_adam.py"],
}
TESTS = (
    *("tests/gamma/*.py", "tests/saes/*.py", "tests/kernels/*.py", "tests/test_statistics.py"),
    *("tests/measures/*.py", "tests/toy/test_metrics.py", "tests/toy/batched/*.py"),
    *("tests/training/test_trainer.py", "tests/training/test_fused_adam.py"),
)
PARTS = ("wsae_plugin", "tests", "configs", "pyproject.toml")
# All that a test process imports of other projects and that takes time.
LIBRARIES = (
    *("torch", "sae_lens", "transformer_lens", "transformers", "datasets", "hypothesis"),
    *("scipy.optimize", "scipy.stats", "scipy.integrate", "safetensors.torch", "pandas"),
    *("matplotlib.figure", "jinja2", "typer.testing", "yaml", "triton"),
    *("sae_lens.synthetic", "sae_lens.training.multi_sae_trainer", "sae_lens.evals"),
)

Outcomes = dict[str, dict[str, str]]
"""What became of each mutant: file → key → "killed", "hung", "survived" or "equivalent"."""


@dataclass(frozen=True)
class Trial:
    """A mutant with the tests that run its statement."""

    file: str
    mutant: Mutant
    chosen: list[str]
    every: list[str]
    seconds: float


def sources(package: str) -> list[str]:
    """The files of a package, relative to the project."""
    found = [p for pattern in PACKAGES[package] for p in (PROJECT / "wsae_plugin").glob(pattern)]
    return sorted(str(path.relative_to(PROJECT)) for path in found)


def sampled(mutants: dict[str, list[Mutant]], sample: int, seed: int) -> dict[str, list[Mutant]]:
    """From each file its share of `sample` mutants, rounded up; all if `sample` is 0."""
    total = sum(map(len, mutants.values()))
    share = min(sample / total, 1.0) if sample else 1.0

    def draw(file: str, mutant: Mutant) -> str:
        return hashlib.sha256(f"{seed} {file} {mutant.key}".encode()).hexdigest()

    return {
        file: sorted(of_file, key=lambda m, f=file: draw(f, m))[: ceil(share * len(of_file))]
        for file, of_file in mutants.items()
    }


def equivalents() -> dict[tuple[str, str], str]:
    """(file, key) → why the mutant changes nothing that anyone promises."""
    listed = yaml.safe_load(EQUIVALENTS.read_text(encoding="utf-8"))
    return {
        (one["file"], f"{one['in'] or ''}: {one['original']} → {mutated}"): one["reason"]
        for one in listed
        for mutated in one["mutated"]
    }


def test_runs(files: Sequence[str]) -> dict[str, TestRun]:
    """What every test does in the tree as it is, from the cache where nothing has changed."""
    helpers = [p for p in (PROJECT / "tests").rglob("*.py") if not p.name.startswith("test_")]
    package = sorted((PROJECT / "wsae_plugin").rglob("*.py"))
    common = _digest([*package, *sorted(helpers)])
    paths = sorted(path for pattern in TESTS for path in PROJECT.glob(pattern))
    tests = [path for path in paths if path.name.startswith("test_")]
    digests = {str(p.relative_to(PROJECT)): common + _digest([p]) for p in tests}
    cached: dict[str, Any] = json.loads(CACHE.read_text()) if CACHE.is_file() else {}
    cached = {t: entry for t, entry in cached.items() if entry["digest"] == digests.get(t)}
    missing = [test for test in digests if test not in cached]
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        tree = Tree(PROJECT, Path(folder) / "tree", PARTS)
        for test in tqdm(missing, "Tests as they are", unit="file"):
            found = tree.record(test, files)
            found = {name: asdict(run) for name, run in found.items()}
            cached[test] = {"digest": digests[test], "runs": found}
            CACHE.write_text(json.dumps(cached), encoding="utf-8")
    return {n: TestRun(**run) for entry in cached.values() for n, run in entry["runs"].items()}


def trial(file: str, mutant: Mutant, runs: dict[str, TestRun], every: dict[str, str]) -> Trial:
    """The tests that run the mutant's statement, the quickest until they take long.

    If only an import runs it, those that run its file or one that imports from it. Those of the
    mirroring test file come first.
    """
    lines = set(statement_lines(every[file], mutant.line))
    module = ".".join(Path(file).with_suffix("").parts)
    near = {file} | {f for f, text in every.items() if f"from {module} import" in text}
    names = [
        name
        for name, run in runs.items()
        if (lines.intersection(run.lines.get(file, ())) if lines else near & run.lines.keys())
    ]
    mirror = str(Path("tests", *Path(file).parts[1:-1], f"test_{Path(file).name}"))

    def order(name: str) -> tuple[bool, float]:
        return _file(name) != mirror, runs[name].seconds

    taken: dict[str, list[str]] = {}
    total = 0.0
    for name in sorted(names, key=order):
        if total < LONGEST:
            taken.setdefault(_file(name), []).append(name)
            total += runs[name].seconds
    # File after file, so that what their tests share is made once.
    chosen = [name for of_file in taken.values() for name in of_file]
    files = set(map(_file, names))
    every_test = [name for name in runs if _file(name) in files]
    return Trial(file, mutant, chosen, every_test, total)


def try_all(trials: list[Trial], jobs: int) -> Iterator[tuple[Trial, Outcome]]:
    """Each with its outcome, in the order in which they were given."""
    fork = get_context("fork")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(jobs, fork, _make_tree, (Path(folder),)) as pool,
    ):
        yield from zip(trials, pool.map(_try_one, trials), strict=True)


_tree: Tree | None = None


def _make_tree(folder: Path) -> None:
    global _tree
    _tree = Tree(PROJECT, folder / str(os.getpid()), PARTS)


def _try_one(trial: Trial) -> Outcome:
    assert _tree is not None
    if not trial.chosen:
        return Outcome("survived", "", 0)
    return _tree.try_out(trial.file, trial.mutant.source, trial.chosen, trial.every, trial.seconds)


def scores(outcomes: Outcomes, packages: Iterable[str]) -> dict[str, dict[str, float]]:
    """Of each package, and of "all": how many mutants became what, and the share killed."""
    results = {
        package: [r for file in sources(package) for r in outcomes.get(file, {}).values()]
        for package in packages
    }
    results["all"] = [result for of_package in results.values() for result in of_package]
    table: dict[str, dict[str, float]] = {}
    for package, found in results.items():
        count = {r: found.count(r) for r in ("killed", "hung", "survived", "equivalent")}
        tried = len(found) - count["equivalent"]
        killed = count["killed"] + count["hung"]
        table[package] = {"mutants": len(found), **count, "score": round(killed / max(tried, 1), 4)}
    return table


def remembered(files: Iterable[str], fresh: bool) -> dict[str, Any]:
    """Of each file its digest, and the mutants that are known to be killed while it is that."""
    state: dict[str, Any] = {}
    if STATE.is_file() and not fresh:
        state = json.loads(STATE.read_text(encoding="utf-8"))
    for file in files:
        digest = _digest([PROJECT / file])
        if state.get(file, {}).get("digest") != digest:
            state[file] = {"digest": digest, "killed": {}}
    return state


def main(
    output: Annotated[Path, typer.Option(help="JSON to write.")],
    sample: Annotated[int, typer.Option(min=0, help="Mutants a package; 0 for every one.")] = 25,
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
    package: Annotated[list[str] | None, typer.Option(help="Only this one; several times.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Mutants that are tried at once.")] = 1,
    fresh: Annotated[bool, typer.Option(help="Run again what was killed before.")] = False,
) -> None:
    """Plant mutants, run their tests, and write what became of them."""
    unknown = set(package or ()) - set(PACKAGES)
    if unknown:
        raise typer.BadParameter(f"{unknown.pop()!r}; the packages are {', '.join(PACKAGES)}")
    packages = package or list(PACKAGES)
    logging.disable(logging.WARNING)
    files = [file for name in packages for file in sources(name)]
    every = {file: (PROJECT / file).read_text(encoding="utf-8") for file in files}
    mutants = {f: mutants_of(text) for f, text in tqdm(every.items(), "Mutants", unit="file")}
    excused = equivalents()
    keys = {(file, mutant.key) for file, of_file in mutants.items() for mutant in of_file}
    stale = [key for file, key in excused if file in mutants and (file, key) not in keys]
    if stale:
        raise typer.BadParameter(f"equivalents.yaml lists what is no mutant: {stale[0]}")
    prepare(LIBRARIES)
    runs = test_runs([file for name in PACKAGES for file in sources(name)])
    state = remembered(files, fresh)
    outcomes: Outcomes = {file: {} for file in files}
    trials: list[Trial] = []
    drawn: dict[str, list[Mutant]] = {}
    for name in packages:
        drawn |= sampled({file: mutants[file] for file in sources(name)}, sample, seed)
    for file, of_file in drawn.items():
        for mutant in of_file:
            known = state[file]["killed"].get(mutant.key)
            if (file, mutant.key) in excused:
                outcomes[file][mutant.key] = "equivalent"
            elif known:
                outcomes[file][mutant.key] = known
            else:
                trials.append(trial(file, mutant, runs, every))
    bar = tqdm(try_all(trials, jobs), "Trials", total=len(trials), unit="mutant")
    for tried, outcome in bar:
        outcomes[tried.file][tried.mutant.key] = outcome.result
        if outcome.result == "survived":
            bar.write(f"{tried.file}:{tried.mutant.line} {tried.mutant.key}")
        else:
            state[tried.file]["killed"][tried.mutant.key] = outcome.result
            write_json(STATE, state)
    found = scores(outcomes, packages)
    result = {
        "sample": sample,
        "seed": seed,
        "of": {name: sum(len(mutants[f]) for f in sources(name)) for name in packages},
        "versions": {name: version(name) for name in ("wsae-plugin", "cosmic-ray", "torch")},
        "scores": found,
        "survived": {
            file: keys
            for file, of_file in outcomes.items()
            if (keys := [key for key, result in of_file.items() if result == "survived"])
        },
    }
    write_json(output, result)
    table = Table("package", "mutants", "killed", "hung", "survived", "equivalent", "score")
    for name, row in found.items():
        counts = (str(row[r]) for r in ("mutants", "killed", "hung", "survived", "equivalent"))
        table.add_row(name, *counts, f"{row['score']:.1%}")
    Console().print(table)


def write_json(path: Path, value: object) -> None:
    """Whole or not at all, without the package: its files are what is tried."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def _file(test: str) -> str:
    return test.split("::")[0]


def _digest(paths: Iterable[Path]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:16]


if __name__ == "__main__":
    typer.run(main)
