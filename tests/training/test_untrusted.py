"""Files from strangers: nothing in them is carried out, and nothing but a clear error comes out."""

from __future__ import annotations

import contextlib
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma.proxies import read_proxy_file
from wsae_plugin.sources import mixing_buffer
from wsae_plugin.training import load_run_config
from wsae_plugin.training.checkpoints import check_readable


class Malicious:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_in_a_checkpoint_is_not_carried_out(tmp_path: Path, zipped: bool) -> None:
    checkpoint, made = tmp_path / "100", tmp_path / "made"
    checkpoint.mkdir()
    state = checkpoint / "trainer_state.pt"
    if zipped:
        torch.save({"optimizer": Malicious(made)}, state)
    else:
        state.write_bytes(pickle.dumps(Malicious(made)))
    with pytest.raises(BadInputError, match=r"trainer_state.pt: is damaged, or asks for code"):
        check_readable(checkpoint)
    assert not made.exists()


@pytest.mark.parametrize("name", ["random_state.safetensors", "sae"])
def test_a_link_out_of_a_checkpoint(tmp_path: Path, name: str) -> None:
    """Of a file, and of the folder of one SAE of several."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    save_file({"cpu": torch.get_rng_state()}, elsewhere / "random_state.safetensors")
    checkpoint = tmp_path / "100"
    checkpoint.mkdir()
    (checkpoint / name).symlink_to(elsewhere / name if "." in name else elsewhere)
    with pytest.raises(BadInputError, match=f"100/{name}: is a link that leads out"):
        check_readable(checkpoint)


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system [touch made]", "!!python/tuple"])
def test_yaml_makes_no_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(f"sae: {tag}\n")
    with pytest.raises(BadInputError, match="line 1: not YAML"):
        load_run_config(Path("config.yaml"))
    assert not Path("made").exists()


@settings(max_examples=60)
@given(content=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
def test_any_bytes_as_a_config(scratch: Path, content: bytes) -> None:
    file = scratch / "config.yaml"
    file.write_bytes(content)
    with pytest.raises(BadInputError):
        load_run_config(file)


_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text("ab'{}0.", max_size=5)),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab"), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=100)
@given(
    field=st.sampled_from(
        ["sae", "sae.k", "sae.alpha", "sae.d_in", "lr", "seqpos_slice", "hook_name", "logger",
         "context_size", "device", "dtype", "training_tokens", "n_checkpoints", "sae.gamma_clip"]
    ),
    value=_VALUES,
)  # fmt: skip
def test_any_value_in_a_config(field: str, value: object) -> None:
    from wsae_plugin.yaml_file import to_yaml

    config = Path(__file__).parents[2] / "configs" / "bundled" / "weighted_topk.yaml"
    with contextlib.suppress(BadInputError):
        load_run_config(config, [f"{field}={to_yaml({'v': value}).partition(':')[2].strip()}"])


TENSORS = (
    "sae_weights.safetensors",
    "random_state.safetensors",
    "data_position.safetensors",
    "trainer_state.pt",
)


@settings(max_examples=100)
@given(
    name=st.sampled_from(TENSORS),
    content=st.one_of(
        st.binary(max_size=80),
        # A safetensors file begins with the length of its header, which is JSON.
        st.binary(max_size=80).map(lambda header: len(header).to_bytes(8, "little") + header),
    ),
)
@example(name="sae_weights.safetensors", content=b"")
@example(name="trainer_state.pt", content=b"\x80\x02.")  # pops from an empty stack
@example(name="data_position.safetensors", content=(2).to_bytes(8, "little") + b"{}")
@example(name="random_state.safetensors", content=(2).to_bytes(8, "little") + b"{}")
def test_any_bytes_as_tensors(scratch: Path, name: str, content: bytes) -> None:
    """As a Γ file, and as one of the files of a checkpoint."""
    checkpoint = scratch / name
    checkpoint.mkdir(exist_ok=True)
    (checkpoint / name).write_bytes(content)
    with pytest.raises(BadInputError, match=name):
        check_readable(checkpoint)
    with pytest.raises(BadInputError):
        read_proxy_file(checkpoint / name, d_in=4)


_WHOLE = {
    "sae_weights.safetensors": {"W_dec": torch.ones(2, 3), "gamma": torch.ones(3).double()},
    "random_state.safetensors": {"cpu": torch.get_rng_state()},
    "data_position.safetensors": {
        "read": torch.ones(2, dtype=torch.int64),
        "waiting": torch.zeros(4, 3),
        "kept": torch.zeros(2, 3),
    },
}


@settings(max_examples=100)
@given(
    name=st.sampled_from([*_WHOLE, "trainer_state.pt"]),
    changes=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=3),
    kept=st.integers(0, 8000),
)
def test_a_file_of_a_checkpoint_with_changed_bytes(
    scratch: Path, name: str, changes: list[tuple[int, int]], kept: int
) -> None:
    """Without checksums some changes are not noticed; no other error comes of any."""
    checkpoint = scratch / f"changed-{name}"
    checkpoint.mkdir(exist_ok=True)
    file = checkpoint / name
    if name in _WHOLE:
        save_file(_WHOLE[name], file)
    else:
        torch.save({"optimizer": {"state": torch.ones(3)}, "n_training_steps": 5}, file)
    check_readable(checkpoint)
    content = bytearray(file.read_bytes()[:kept])
    for place, value in changes:
        if place < len(content):
            content[place] = value
    file.write_bytes(content)
    with contextlib.suppress(BadInputError):
        check_readable(checkpoint)


def filled(shape: list[int], dtype: torch.dtype, fill: int) -> torch.Tensor:
    return torch.full(shape, fill).to(dtype)


_TENSORS = st.builds(
    filled,
    shape=st.lists(st.integers(0, 3), max_size=3),
    dtype=st.sampled_from([torch.int64, torch.int32, torch.float32, torch.bfloat16, torch.bool]),
    fill=st.integers(-1, 3),
)


@settings(max_examples=100)
@given(changes=st.dictionaries(st.sampled_from(["read", "waiting", "kept", "other"]), _TENSORS))
@example(changes={"read": torch.tensor([0, 1])})
@example(changes={"waiting": torch.zeros(4, 3).int(), "kept": torch.zeros(2, 3).int()})
@example(changes={"kept": torch.zeros(2, 3).double()})
def test_any_tensors_as_a_place_in_the_data(
    scratch: Path, changes: dict[str, torch.Tensor]
) -> None:
    """Either they are refused, before a run starts, or a run can go on from them."""
    checkpoint = scratch / "place"
    checkpoint.mkdir(exist_ok=True)
    file = checkpoint / mixing_buffer.DATA_POSITION_FILENAME
    save_file(_WHOLE["data_position.safetensors"] | changes, file)
    try:
        check_readable(checkpoint)
    except BadInputError:
        with pytest.raises(ValueError, match="does not hold a position"):
            mixing_buffer.read_position(file)
        return
    position = mixing_buffer.read_position(file)
    d_in = position["kept"].shape[1]
    buffer = mixing_buffer.MixingBuffer(lambda: torch.ones(8, d_in), 8, 2, 0.5)
    buffer.waiting, buffer.kept = position["waiting"], position["kept"]
    assert [next(buffer).shape[1] for _ in range(6)] == [d_in] * 6
    assert all(count >= 0 for count in position["read"].tolist())


@pytest.mark.parametrize(
    "changed",
    [
        {"read": torch.zeros(2, 2, dtype=torch.int64)},
        {"read": -torch.ones(2, dtype=torch.int64)},
        {"waiting": torch.zeros(4)},
        {"kept": torch.zeros(4, 5)},
    ],
)
def test_a_place_in_the_data_that_is_none(tmp_path: Path, changed: dict[str, torch.Tensor]) -> None:
    whole = _WHOLE["data_position.safetensors"]
    file = tmp_path / mixing_buffer.DATA_POSITION_FILENAME
    save_file(whole, file)
    assert mixing_buffer.read_position(file).keys() == whole.keys()
    save_file(whole | changed, file)
    with pytest.raises(ValueError, match="does not hold a position in the data"):
        mixing_buffer.read_position(file)
    with pytest.raises(BadInputError, match="data_position.safetensors: is damaged"):
        check_readable(tmp_path)
