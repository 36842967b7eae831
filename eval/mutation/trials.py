"""A copy of the tree in which mutants are tried, each in a process that is forked for it.

The parent has imported the libraries but nothing of the tree, so that a child need not, which takes
longer than most tests. First the tree runs as it is: how long does each test take, and which lines
does it run? A mutant then gets the tests that run its statement, the quickest files first, up to
the first that fails.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import hypothesis
import pytest

_OPTIONS = (
    *("-x", "-q", "-m", "not slow", "--tb=short", "-p", "no:cacheprovider"),
    # Pytest warns that hypothesis was imported before it.
    *("--hypothesis-profile=mutation", "-W", "ignore::pytest.PytestAssertRewriteWarning"),
)
_MEMORY_BYTES = 12 * 2**30
# A busy machine is no failure: a mutant hangs that takes so many times as long as its tests did.
_PATIENCE, _LEAST_SECONDS = 8, 60

Lines = dict[str, list[int]]


@dataclass(frozen=True)
class TestRun:
    """What one test does in the tree as it is.

    Attributes:
        seconds: how long it takes.
        lines: which lines of which files it runs.
    """

    seconds: float
    lines: Lines


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant.

    Attributes:
        result: "killed", "hung" (which is as good as killed) or "survived".
        by: the test that failed, "" where none did or the tests could not even be collected.
        seconds: how long that took.
    """

    result: str
    by: str
    seconds: float


class Tree:
    """A copy of `folders` and `files` of a project, to be mutated.

    Args:
        project: where to copy from.
        copy: where to; an existing folder is replaced.
        parts: the files and folders that tests need, relative to the project.
    """

    def __init__(self, project: Path, copy: Path, parts: Sequence[str]) -> None:
        self.path = copy
        self._mutants = 0
        shutil.rmtree(copy, ignore_errors=True)
        for part in parts:
            (copy / part).parent.mkdir(parents=True, exist_ok=True)
            if (project / part).is_dir():
                shutil.copytree(
                    project / part, copy / part, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy2(project / part, copy / part)

    def record(self, test: str, sources: Iterable[str]) -> dict[str, TestRun]:
        """Run the tests of a file in the tree as it is.

        Args:
            test: the file, relative to the tree.
            sources: the files whose lines are recorded, relative to the tree.

        Returns:
            What each test did, by its name.

        Raises:
            RuntimeError: a test fails.
        """
        recorder = _Recorder(self.path, sources)
        code, recorded = self._in_child(recorder, [test], limit=None)
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            log = self._log.read_text(encoding="utf-8", errors="replace")
            raise RuntimeError(f"the tests fail before anything is mutated:\n{log[-4000:]}")
        return {name: TestRun(*run) for name, run in recorded.items()}

    def try_out(
        self, file: str, mutated: str, chosen: Sequence[str], every: Iterable[str], seconds: float
    ) -> Outcome:
        """Run tests with one file mutated.

        Args:
            file: which, relative to the tree.
            mutated: its content.
            chosen: names of the tests to run, in their order.
            every: names of all tests of those files; one that is not among them exists only with
                the mutant and is run too.
            seconds: what the chosen ones took in the tree as it was.
        """
        original = self.path / file
        kept = original.with_suffix(".original")
        shutil.copy2(original, kept)
        start = time.perf_counter()
        try:
            original.write_text(mutated, encoding="utf-8")
            # A time of its own, by which Python knows that what is compiled is of another text.
            self._mutants += 1
            os.utime(original, (self._mutants, self._mutants))
            files = dict.fromkeys(name.split("::")[0] for name in chosen)
            plugin = _Chosen(chosen, frozenset(every))
            limit = _LEAST_SECONDS + _PATIENCE * seconds
            code, failed = self._in_child(plugin, files, limit)
        finally:
            kept.replace(original)
        result = {None: "hung", 0: "survived"}.get(code, "killed")
        return Outcome(result, failed or "", round(time.perf_counter() - start, 1))

    @property
    def _log(self) -> Path:
        return self.path.with_suffix(".log")

    def _in_child(
        self, plugin: _Plugin, tests: Iterable[str], limit: float | None
    ) -> tuple[int | None, Any]:
        """Pytest's exit code, None if the limit was reached, and what the plugin found."""
        fork = multiprocessing.get_context("fork")
        ours, theirs = fork.Pipe(duplex=False)
        child = fork.Process(target=self._run, args=(plugin, list(tests), theirs))
        child.start()
        theirs.close()
        found: tuple[int | None, Any] = (None, None)
        try:
            if ours.poll(limit):
                found = ours.recv()
        except EOFError:  # the child died
            found = (-1, None)
        finally:
            with suppress(ProcessLookupError):  # what it started goes with it
                os.killpg(child.pid, signal.SIGKILL)
            child.join()
        return found

    def _run(self, plugin: _Plugin, tests: list[str], out: Connection) -> None:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(self.path)
        os.environ["PYTHONPATH"] = str(self.path)
        sys.path.insert(0, str(self.path))
        code = pytest.main([*_OPTIONS, *tests], plugins=[plugin])
        out.send((int(code), plugin.found))
        sys.stdout.flush()
        os._exit(0)


class _Recorder:
    """A pytest plugin that measures tests, and notes the lines that they run."""

    def __init__(self, root: Path, sources: Iterable[str]) -> None:
        self._names = {str(root / source): source for source in sources}
        self.found: dict[str, tuple[float, Lines]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        lines: dict[str, set[int]] = {}

        def tracer_of(into: set[int]) -> Callable[..., Any]:
            def trace(frame: Any, _event: str, _arg: Any) -> Any:
                into.add(frame.f_lineno)
                return trace

            return trace

        tracers: dict[str, Callable[..., Any]] = {}

        def on_call(frame: Any, _event: str, _arg: Any) -> Any:
            file = frame.f_code.co_filename
            if file not in self._names:
                return None
            if file not in tracers:
                tracers[file] = tracer_of(lines.setdefault(self._names[file], set()))
            return tracers[file]

        start = time.perf_counter()
        sys.settrace(on_call)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            ran = {file: sorted(numbers) for file, numbers in lines.items()}
            self.found[item.nodeid] = (round(time.perf_counter() - start, 3), ran)


class _Chosen:
    """A pytest plugin that runs the chosen tests, in their order, and says which one failed."""

    def __init__(self, chosen: Sequence[str], every: frozenset[str]) -> None:
        self._place = {name: place for place, name in enumerate(chosen)}
        self._every = every
        self.found: str | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        wanted = [i for i in items if i.nodeid in self._place or i.nodeid not in self._every]
        items[:] = sorted(wanted, key=lambda item: self._place.get(item.nodeid, -1))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.found = report.nodeid


_Plugin = _Recorder | _Chosen


def prepare(libraries: Iterable[str]) -> None:
    """Import what children need, on one thread so that they can be forked, and without a network.

    Every property test draws the same examples in each of them.
    """
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TRITON_INTERPRET="1")
    hypothesis.settings.register_profile(
        "mutation",
        deadline=None,
        derandomize=True,
        database=None,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
    for library in libraries:
        importlib.import_module(library)
