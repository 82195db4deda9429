"""Small files of settings and state: read with their types, or refused in one line."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest

from dalm import file_reading
from dalm.file_reading import DamagedError


@dataclass(frozen=True)
class Saved:
    """Settings with a field of each kind."""

    name: str
    length: Annotated[int | None, 1] = None
    share: float = 1.0
    parts: list[str] | None = None
    sums: dict[str, float] | None = None


def test_readers_name_file_line_and_remedy(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_text('{"a": 1}\n[1]\n')
    with pytest.raises(DamagedError, match=r"lines\.jsonl, line 2 is damaged .*; ask again"):
        list(file_reading.read_jsonl(file, "ask again"))
    file.write_text('{"a": 1}\n{"a"')
    assert list(file_reading.read_jsonl(file, torn=True)) == [(1, {"a": 1})]
    with pytest.raises(DamagedError, match="line 2"):
        list(file_reading.read_jsonl(file))
    with pytest.raises(DamagedError, match="can't be read"):
        file_reading.read_json(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("[" * 5000, "nested too deeply"),
        ("a: &x [1]\nb: *x\n", "line 2: not YAML .an alias; write its value out"),
        ("a: &a {b: 1}\nb: {<<: [*a, *a]}\n", "line 2: not YAML .an alias"),
        ("a: 2024-13-45\n", "month must be in"),
        ("a: !!python/object/apply:os.system [ls]\n", "could not determine a constructor"),
        ("a: " + "9" * 5000, "limit"),
        ("? [a]\n: 1\n", "unhashable"),
        ("a: \0\n", "special characters are not allowed"),
        ("- 1\n", "a list, no object"),
    ],
)
def test_yaml_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "some.yaml"
    file.write_text(text)
    with pytest.raises(DamagedError, match=rf"some\.yaml is damaged.*{said}"):
        file_reading.read_yaml(file)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    huge = tmp_path / "huge"
    with huge.open("wb") as out:
        out.truncate(10**12)
    before = time.monotonic()
    for path, said in (
        (pipe, "a device or pipe, not a file"),
        (tmp_path, "a folder, not a file"),
        (Path("/dev/zero"), "a device or pipe"),
        (huge, "1,000,000 MB, too large"),
    ):
        for read in (file_reading.read_json, file_reading.read_yaml):
            with pytest.raises(DamagedError, match=rf"{path} can't be read \({said}"):
                read(path)
    assert time.monotonic() - before < 5


def test_a_record_has_the_types_of_its_fields(tmp_path: Path) -> None:
    whole = {"name": "n", "length": 3, "share": 1, "parts": ["a"], "sums": {"a": 1.5}}
    assert file_reading.record_from(whole | {"more": 1}, Saved, "f") == Saved(**whole)  # type: ignore[arg-type]
    assert file_reading.record_from({"name": "n", "length": None}, Saved, "f") == Saved("n")


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": 5},
        {"name": None},
        {"length": 0},
        {"length": -1},
        {"length": True},
        {"length": 2.0},
        {"length": "3"},
        {"share": float("nan")},
        {"share": False},
        {"parts": "a"},
        {"parts": [1]},
        {"sums": {"a": "1"}},
        {"sums": []},
    ],
)
def test_a_record_with_another_type_is_damaged(wrong: dict[str, Any]) -> None:
    (field,) = wrong
    with pytest.raises(DamagedError, match=rf"f is damaged \({field} is .*\); ask again"):
        file_reading.record_from({"name": "n"} | wrong, Saved, "f", "ask again")


def test_a_record_without_a_field_is_damaged() -> None:
    with pytest.raises(DamagedError, match="it has no name"):
        file_reading.record_from({}, Saved, "f")
