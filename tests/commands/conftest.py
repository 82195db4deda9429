"""Passages for the tests of `dalm qa-gen`, and a server that asks about them."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.llm.stub_server import Stub, serving

TOWNS = ("Ulm", "Bern", "Graz", "Linz", "Kiel", "Trier", "Basel", "Essen", "Halle", "Mainz")
FUELS = ("peat", "coal", "wood", "gas", "straw", "tallow", "hay")


def engine_rows(number: int) -> list[dict[str, str]]:
    """Passages of which the server knows one good question each."""
    return [
        {
            "Title": f"sheet {place // 3}",
            "Passage": f"The engine number {place} of {TOWNS[place % 10]} burns "
            f"{FUELS[place % 7]} pellets. It was built in {1800 + place} by hand.",
        }
        for place in range(number)
    ]


def completion(asked: str) -> dict[str, Any]:
    """Write the question on an engine that a prompt's passage describes."""
    match = re.search(r"The engine number (\d+) of (\w+) burns (\w+ pellets)\.", asked)
    assert match, asked
    number, town, fuel = match.groups()
    question = {
        "question": f"What does engine {number} of {town} burn?",
        "answer": fuel,
        "quote": match[0],
        "type": "question",
    }
    return {"questions": [question]}


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A server that writes the question on the engine in a prompt."""
    with serving() as served:
        served.write = lambda asked: json.dumps(completion(asked))
        yield served


@pytest.fixture
def engines(tmp_path: Path) -> Path:
    """A table of thirty passages."""
    return write_csv(tmp_path / "engines.csv", engine_rows(30))


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
