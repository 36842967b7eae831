"""What processes tell each other in a step, against the formula."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sae_lens import TrainingSAEConfig

from tests.distributed.cases import ARCHITECTURES, section
from tests.distributed.processes import start, wsae
from tests.training.tiny import BATCH, D_MODEL, TinyWorld, write_config
from wsae_plugin.distributed.volume import Volume, volume_of

N_STEPS = 12


def counted(file: Path, *arguments: Any) -> None:
    """Run the command line, and write what was given in each step, by kind."""
    from wsae_plugin.training.loop import TrainingLoop

    loop: Any = TrainingLoop
    step, given = loop._step, [{}]

    def counting(self: Any) -> Any:
        outputs = step(self)
        given.append({**self._world.bytes_given})
        if self._world.is_first:
            file.write_text(json.dumps(given))
        return outputs

    loop._step = counting
    wsae(*arguments)


def given_a_step(
    world: TinyWorld, folder: Path, n: int, **changes: Any
) -> tuple[Volume, list[dict[str, int]]]:
    values = world.table(training_samples=N_STEPS * BATCH, **changes)
    config = write_config(folder / "c.yaml", values)
    file = folder / "given.json"
    run = ("train", config, "--output", folder / "run")
    processes = start(n, folder, counted, file, *run)
    assert processes.end() == [0] * n, processes.said()
    given = json.loads(file.read_text())
    steps = [
        {kind: now.get(kind, 0) - before.get(kind, 0) for kind in now}
        for before, now in zip(given, given[1:], strict=False)
    ]
    return volume_of(TrainingSAEConfig.from_dict(values["sae"]), BATCH, n), steps


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "gba"])
def test_the_formula_is_what_is_given(world: TinyWorld, tmp_path: Path, architecture: str) -> None:
    volume, steps = given_a_step(world, tmp_path, 2, sae=section(architecture))
    for step in steps[1:]:
        assert step.get("candidates", 0) == volume.candidates
        # A loss is a number or two.
        assert 0 <= step["reconstructions"] - volume.reconstructions <= 16
        # Each serves about a half of a batch.
        assert step["activations"] == pytest.approx(BATCH * D_MODEL * 4 / 2, rel=0.35)
    # All else: numbers that are one for an SAE or a group of latents, and b_dec's gradient.
    assert max(sum(step.values()) for step in steps[1:-2]) < sum(
        (volume.candidates, volume.reconstructions, BATCH * D_MODEL * 4, 2000)
    )


def test_the_most_is_given_while_there_are_dead_latents(world: TinyWorld, tmp_path: Path) -> None:
    sae = section("topk", k=1, d_sae=400)
    volume, steps = given_a_step(world, tmp_path, 2, sae=sae, dead_feature_window=2)
    most = {kind: max(step[kind] for step in steps) for kind in steps[-1]}
    assert most["candidates"] == volume.candidates + volume.dead_candidates
    assert most["reconstructions"] == volume.reconstructions + volume.dead_reconstructions


def test_what_goes_over_the_wire_in_a_ring() -> None:
    volume = Volume(candidates=10, reconstructions=100, dead_candidates=20, dead_reconstructions=40)
    assert volume.sent(4) == {
        "candidates": 30,
        "reconstructions": 150,
        "dead_candidates": 60,
        "dead_reconstructions": 60,
    }
    assert set(volume.sent(1).values()) == {0}
