"""The soak: its verdicts on made-up runs, and a few seconds of a real one."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "eval" / "perf" / "soak.py"


@pytest.fixture(scope="module")
def soak() -> ModuleType:
    spec = importlib.util.spec_from_file_location("soak", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_verdict_is_the_growth_in_an_hour(soak: ModuleType) -> None:
    minutes = [60.0 * minute for minute in range(61)]
    ripple = [1 + 0.001 * (minute % 3) for minute in range(61)]
    flat = soak.trend(minutes, ripple)
    assert (flat["verdict"], abs(flat["growth_per_hour"]) < 1e-3) == ("flat", True)
    grows = soak.trend(minutes, [1 + 0.1 * second / 3600 for second in minutes])
    assert grows["verdict"] == "grows"
    # The median of the last nine tenths is 1.055.
    assert grows["growth_per_hour"] == pytest.approx(0.1 / 1.055, rel=1e-3)
    assert soak.trend(minutes[:5], [1.0, 1.3, 0.9, 1.2, 1.0])["verdict"] == "undecided"


def test_the_first_tenth_does_not_count(soak: ModuleType) -> None:
    seconds = [60.0 * minute for minute in range(61)]
    assert soak.trend(seconds, [5.0] * 5 + [1.0] * 56)["largest"] == 1.0


def test_time_without_a_step_is_counted_with_the_step_after_it(soak: ModuleType) -> None:
    samples: list[dict[str, Any]] = [
        {"seconds": 0.0, "step": 10, "cpu_s": 1.0},
        {"seconds": 10.0, "step": 20, "cpu_s": 2.0},
        {"seconds": 20.0, "step": 20, "cpu_s": 3.0},
        {"seconds": 30.0, "step": 40, "cpu_s": 8.0},
    ]
    assert soak.step_times(samples) == ([5.0, 20.0], [0.1, 0.3])


def test_a_line_that_is_being_written_is_not_read(soak: ModuleType, tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    assert soak.last_step(metrics) is None
    metrics.write_text('{"step": 10}\n{"step": 20}\n{"st')
    assert soak.last_step(metrics) == 20


@pytest.mark.slow
def test_a_small_run(tmp_path: Path) -> None:
    output = tmp_path / "soak.json"
    command = [sys.executable, str(SCRIPT), "--minutes=0.2", "--every=1", f"--output={output}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert result["disk"]["checkpoints"] >= 1  # the one of the interruption
    assert result["memory"]["largest"] < result["limit_mib"]
    assert output.with_suffix(".png").stat().st_size > 1000
