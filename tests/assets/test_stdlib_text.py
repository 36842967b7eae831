from __future__ import annotations

import sys
from pathlib import Path

import pytest

from wsae_plugin.assets.stdlib_text import HELD_OUT_SHARE, Split, read_stdlib, split_of


def write(root: Path, path: str, content: bytes = b"x = 1\n") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(content)


def paths_read(root: Path) -> list[str]:
    """Paths of both splits of a library that need not have both."""
    found: list[str] = []
    splits: tuple[Split, Split] = ("train", "held_out")
    for split in splits:
        try:
            found += [file.path for file in read_stdlib(split, root)]
        except FileNotFoundError:
            continue
    return sorted(found)


def test_splits_share_no_file_and_hold_out_about_one_in_ten() -> None:
    train = {file.path for file in read_stdlib("train")}
    held_out = {file.path for file in read_stdlib("held_out")}
    assert train.isdisjoint(held_out)
    # A binomial share: five standard deviations of sqrt(p (1 - p) / n) on either side.
    n = len(train) + len(held_out)
    margin = 5 * (HELD_OUT_SHARE * (1 - HELD_OUT_SHARE) / n) ** 0.5
    assert abs(len(held_out) / n - HELD_OUT_SHARE) < margin
    assert n > 300


def test_files_come_sorted_by_path_and_hold_text() -> None:
    files = read_stdlib("train")
    assert [file.path for file in files] == sorted(file.path for file in files)
    assert all(file.text.strip() for file in files)
    assert not any("\r" in file.text for file in files)


def test_split_is_fixed_across_machines_and_versions() -> None:
    # SHA-256 begins with 0xbdab for "ast" and with 0x00b1 for "queue": 0.741 and 0.003 of 2^16.
    assert split_of("ast.py") == "train"
    assert split_of("queue.py") == "held_out"


def test_module_that_became_a_package_keeps_its_split() -> None:
    modules = sorted(sys.stdlib_module_names)
    assert all(split_of(f"{name}.py") == split_of(f"{name}/__init__.py") for name in modules)


def test_reads_only_text_worth_reading(tmp_path: Path) -> None:
    write(tmp_path, "ast.py")
    write(tmp_path, "json/decoder.py")
    for path in (
        "json/test/test_decoder.py",
        "unittest/__pycache__/case.py",
        "test/test_ast.py",
        "idlelib/run.py",
        "encodings/cp437.py",
        "html/entities.py",
        "site-packages/torch/nn.py",
        "not_of_the_standard_library.py",
        "json/decoder.txt",
    ):
        write(tmp_path, path)
    write(tmp_path, "abc.py", b"  \n")
    write(tmp_path, "cmd.py", b"# coding: latin-1\n# \xe9\n")
    assert paths_read(tmp_path) == ["ast.py", "json/decoder.py"]


def test_line_endings_are_those_of_unix(tmp_path: Path) -> None:
    write(tmp_path, "ast.py", b"a = 1\r\nb = 2\r\n")
    assert read_stdlib("train", tmp_path)[0].text == "a = 1\nb = 2\n"


def test_library_without_source_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="zip archive or as bytecode only"):
        read_stdlib("train", tmp_path / "python313.zip")


def test_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="'test'; it must be 'train' or 'held_out'"):
        read_stdlib("test")  # type: ignore[arg-type]
