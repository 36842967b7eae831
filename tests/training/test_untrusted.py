"""Files from strangers: nothing in them is carried out, and nothing but a clear error comes out."""

from __future__ import annotations

import contextlib
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.gamma.proxies import read_proxy_file
from wsae_plugin.training import data_position, load_run_config
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


def test_a_link_out_of_a_checkpoint(tmp_path: Path) -> None:
    save_file({"cpu": torch.get_rng_state()}, tmp_path / "elsewhere.safetensors")
    checkpoint = tmp_path / "100"
    checkpoint.mkdir()
    (checkpoint / "random_state.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(BadInputError, match="is a link that leads out"):
        check_readable(checkpoint)


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system [touch made]", "!!python/tuple"])
def test_yaml_makes_no_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(f"sae: {tag}\n")
    with pytest.raises(BadInputError, match="line 1: not YAML"):
        load_run_config(Path("config.yaml"))
    assert not Path("made").exists()


@settings(max_examples=60, deadline=None)
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


@settings(max_examples=100, deadline=None)
@given(
    field=st.sampled_from(
        ["sae", "sae.k", "sae.alpha", "sae.d_in", "lr", "seqpos_slice", "hook_name", "logger",
         "context_size", "device", "dtype", "training_tokens", "n_checkpoints", "sae.gamma_clip"]
    ),
    value=_VALUES,
)  # fmt: skip
def test_any_value_in_a_config(field: str, value: object) -> None:
    from wsae_plugin.training.yaml_file import to_yaml

    config = Path(__file__).parents[2] / "configs" / "bundled" / "weighted_topk.yaml"
    with contextlib.suppress(BadInputError):
        load_run_config(config, [f"{field}={to_yaml({'v': value}).partition(':')[2].strip()}"])


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=80), header=st.booleans())
def test_any_bytes_as_tensors(scratch: Path, content: bytes, header: bool) -> None:
    """As a Γ file, and as the files of a checkpoint."""
    checkpoint = scratch / "100"
    checkpoint.mkdir(exist_ok=True)
    if header:
        content = len(content).to_bytes(8, "little") + content
    for name in ("sae_weights.safetensors", "random_state.safetensors", "trainer_state.pt"):
        (checkpoint / name).write_bytes(content)
    with pytest.raises(BadInputError):
        check_readable(checkpoint)
    with pytest.raises(BadInputError):
        read_proxy_file(checkpoint / "sae_weights.safetensors", d_in=4)


@pytest.mark.parametrize(
    "changed",
    [
        {"draws": torch.zeros(2, 2, dtype=torch.int64)},
        {"draws": -torch.ones(1, 3, dtype=torch.int64)},
        {"waiting": torch.zeros(4)},
        {"kept": torch.zeros(4, 5)},
    ],
)
def test_a_place_in_the_data_that_is_none(tmp_path: Path, changed: dict[str, torch.Tensor]) -> None:
    whole = {
        "draws": torch.ones(1, 3, dtype=torch.int64),
        "waiting": torch.zeros(4, 3),
        "kept": torch.zeros(2, 3),
    }
    file = tmp_path / data_position.DATA_POSITION_FILENAME
    save_file(whole, file)
    assert data_position.read_position(file, False, "cpu").keys() == whole.keys()
    save_file(whole | changed, file)
    with pytest.raises(RunFailedError, match="data_position.safetensors: is damaged"):
        data_position.read_position(file, False, "cpu")
