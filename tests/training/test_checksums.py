"""Nothing that was saved changes unnoticed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wsae_plugin.training.checksums import CHECKSUMS_FILENAME, not_as_saved, write_checksums

CONTENTS = {"weights.safetensors": b"weights", "a/state.pt": b"state of a", "a/empty": b""}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("checksums"))


def saved(folder: Path) -> Path:
    for name, content in CONTENTS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    write_checksums(folder)
    return folder


def test_what_is_written(scratch: Path) -> None:
    checksums = json.loads((scratch / CHECKSUMS_FILENAME).read_text())
    assert checksums.keys() == CONTENTS.keys()
    # `printf "" | sha256sum`
    assert checksums["a/empty"].startswith("e3b0c44298fc1c149afbf4c8996fb924")
    assert not_as_saved(scratch) is None


@pytest.mark.parametrize("name", [name for name, content in CONTENTS.items() if content])
def test_every_bit_counts(scratch: Path, name: str) -> None:
    content = CONTENTS[name]
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        (scratch / name).write_bytes(changed)
        assert not_as_saved(scratch) == scratch / name
    (scratch / name).write_bytes(content)
    assert not_as_saved(scratch) is None


def test_what_is_missing_and_what_was_added(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "a" / "note").touch()
    assert not_as_saved(tmp_path) is None
    (tmp_path / "a" / "empty").unlink()
    assert not_as_saved(tmp_path) == tmp_path / "a" / "empty"
    (tmp_path / CHECKSUMS_FILENAME).unlink()
    assert not_as_saved(tmp_path) is None  # as SAELens's own runners leave a checkpoint


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from([*CONTENTS, "../x", "/etc/passwd", ""]), inner)
    ),
    max_leaves=4,
)


@settings(max_examples=100)
@given(content=st.binary(max_size=20) | _JSON.map(lambda value: json.dumps(value).encode()))
@example(content=b"{}")
@example(content=b"[1]")
@example(content=b"\xff")
@example(content=b'{"../x": 1}')
@example(content=b"[" * 5_000)
def test_any_content_of_the_checksums(scratch: Path, content: bytes) -> None:
    own = scratch / CHECKSUMS_FILENAME
    whole = own.read_bytes()
    own.write_bytes(content)
    found = not_as_saved(scratch)
    own.write_bytes(whole)
    # An empty mapping names no file.
    assert (found is None) == (content.strip() == b"{}")
