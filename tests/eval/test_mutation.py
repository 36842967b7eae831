"""The mutation run: which mutants there are, and what tests make of them in a tree of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest

pytest.importorskip("cosmic_ray", reason="pip install 'wsae-plugin[mutation]'")

FOLDER = Path(__file__).parents[2] / "eval" / "mutation"


@pytest.fixture
def mutants(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    return pytest.importorskip("mutants")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    return pytest.importorskip("run")


def changes(mutants: ModuleType, source: str) -> set[str]:
    return {mutant.key for mutant in mutants.mutants_of(dedent(source).lstrip())}


def test_every_kind_of_mutant(mutants: ModuleType) -> None:
    source = """
        def f(a, b):
            a += 2
            g(a, b, key=a)
            return a - b if a < b and not a else None
    """
    last = "f: return a - b if a < b and not a else None →"
    assert changes(mutants, source) == {
        "f: a += 2 → a -= 2",
        "f: a += 2 → a += 1",
        "f: a += 2 → a += 3",
        "f: g(a, b, key=a) → pass",
        "f: g(a, b, key=a) → g(b, a, key=a)",
        "f: g(a, b, key=a) → g(a, b)",
        f"{last} return a + b if a < b and not a else None",
        f"{last} return a - b if a <= b and not a else None",
        f"{last} return a - b if a >= b and not a else None",
        f"{last} return a - b if a < b or not a else None",
        f"{last} return a - b if a < b and a else None",
        f"{last} return a - b if not a < b and not a else None",
    }


def test_what_no_test_could_see_is_left_alone(mutants: ModuleType) -> None:
    source = '''
        """No 1 - 2."""

        @decorated(times=1)
        def f(a: int | None = None, *, ψ: bool) -> Literal[1, 2]:
            zip(a, a, strict=True)
            if a in ψ:
                raise ValueError(f"{a + 1} is 1 too much")
            log(f"ψ {a - 1}")
    '''
    assert changes(mutants, source) == {
        "f: zip(a, a, strict=True) → pass",
        'f: log(f"ψ {a - 1}") → pass',
        "f: if a in ψ: → if not a in ψ:",
    }


def test_a_statement_ends_where_its_body_begins(mutants: ModuleType) -> None:
    source = dedent(
        """
        A = 1
        def f(
            a=1,
        ):
            if (
                a
            ):
                return g(
                    a,
                )
        """
    ).lstrip()
    assert not mutants.statement_lines(source, 1)
    assert not mutants.statement_lines(source, 3)
    assert list(mutants.statement_lines(source, 6)) == [5, 6, 7]
    assert list(mutants.statement_lines(source, 9)) == [8, 9, 10]


def test_the_sample_is_the_same_for_a_seed_and_takes_some_of_every_file(run: ModuleType) -> None:
    from mutants import mutants_of

    found = {
        "long": mutants_of("\n".join(f"x = {i} + {i}" for i in range(10, 30))),
        "short": mutants_of("x = 1 < 2 < 3"),
    }

    def draw(sample: int, seed: int) -> dict[str, list[str]]:
        drawn = run.sampled(found, sample, seed)
        return {file: [mutant.key for mutant in of_file] for file, of_file in drawn.items()}

    assert draw(12, 0) == draw(12, 0) != draw(12, 1)
    assert {file: len(keys) for file, keys in draw(12, 0).items()} == {"long": 11, "short": 2}
    assert set(draw(12, 0)["long"]) < set(draw(24, 0)["long"])
    assert {file: set(keys) for file, keys in draw(0, 0).items()} == {
        file: {mutant.key for mutant in of_file} for file, of_file in found.items()
    }


def test_the_score_leaves_out_what_is_equivalent(run: ModuleType) -> None:
    outcomes = {
        "wsae_plugin/statistics.py": {"a": "killed", "b": "hung", "c": "survived"},
        "wsae_plugin/gamma/weights.py": {"a": "equivalent", "b": "killed"},
    }
    scores = run.scores(outcomes, ["statistics", "gamma"])
    assert scores["statistics"]["score"] == pytest.approx(2 / 3, abs=1e-4)
    assert scores["gamma"]["score"] == 1
    assert scores["all"] == {
        **{"mutants": 5, "killed": 2, "hung": 1, "survived": 1, "equivalent": 1},
        "score": 0.75,
    }


def test_every_listed_equivalent_has_a_reason(run: ModuleType) -> None:
    assert all(reason.strip().endswith(".") for reason in run.equivalents().values())


TRIES = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from trials import Tree, prepare
prepare([])
project = Path(sys.argv[2])
tree = Tree(project / "here", project / "copy", ["planted.py", "tests"])
runs = tree.record("tests/test_planted.py", ["planted.py"])
found = {"lines": {name: run.lines for name, run in runs.items()}}
for text in json.loads(sys.argv[3]):
    outcome = tree.try_out("planted.py", text, list(runs), list(runs), 0.1)
    found[text] = [outcome.result, outcome.by]
print(json.dumps(found))
"""


def test_trials(tmp_path: Path) -> None:
    tests = tmp_path / "here" / "tests"
    tests.mkdir(parents=True)
    planted = "def twice(x):\n    return x + x\n\n\ndef idle():\n    return 0\n"
    (tmp_path / "here" / "planted.py").write_text(planted)
    (tests / "test_planted.py").write_text(
        "import planted\n\n"
        "def test_idle():\n    planted.idle()\n\n"
        "def test_twice():\n    assert planted.twice(3) == 6\n"
    )
    texts = {
        "killed": planted.replace("+", "-"),
        "not imported": "1 / 0",
        "dead": "import os\nos._exit(0)",
        "same": planted.replace("x + x", "x * 2"),
        "not tested": planted.replace("0", "1"),
    }
    done = subprocess.run(
        [sys.executable, "-c", TRIES, str(FOLDER), str(tmp_path), json.dumps(list(texts.values()))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["lines"] == {
        "tests/test_planted.py::test_idle": {"planted.py": [6]},
        "tests/test_planted.py::test_twice": {"planted.py": [2]},
    }
    assert {name: found[text] for name, text in texts.items()} == {
        "killed": ["killed", "tests/test_planted.py::test_twice"],
        "not imported": ["killed", ""],
        "dead": ["killed", ""],
        "same": ["survived", ""],
        "not tested": ["survived", ""],
    }
    assert (tmp_path / "copy" / "planted.py").read_text() == planted
