"""Passages: their identity, and their provenance as people and files see it."""

import json
import pickle
from dataclasses import replace

import pytest

from dalm.records import Passage, passage_id

PLACED = Passage.of(
    "Turn the valve.",
    "Pump manual",
    document="0123456789abcdef",
    source="manuals/manual.pdf",
    headings=("Upkeep", "Valves"),
    page=12,
    start=0,
    end=15,
    extra={"department": "works", "revision": 3},
)


def test_a_passage_is_known_by_its_text_alone() -> None:
    assert PLACED.id == passage_id(" turn  the VALVE.")
    assert replace(PLACED, source="other.pdf", page=1, extra={}) == PLACED
    assert hash(PLACED) == hash(Passage.of("Turn the valve.", "Pump manual"))


@pytest.mark.parametrize(
    ("passage", "place"),
    [
        (PLACED, "manuals/manual.pdf, page 12"),
        (replace(PLACED, page=None), "manuals/manual.pdf"),
        (Passage.of("Turn the valve.", "Pump manual"), "Pump manual"),
        (Passage.of("Turn the valve."), ""),
    ],
)
def test_the_place_is_for_people(passage: Passage, place: str) -> None:
    assert passage.place == place


def test_provenance_holds_what_is_known_and_extra_columns_last() -> None:
    assert list(PLACED.provenance().items()) == [
        ("document", "0123456789abcdef"),
        ("source", "manuals/manual.pdf"),
        ("headings", ["Upkeep", "Valves"]),
        ("page", 12),
        ("start", 0),  # 0 is known, not empty
        ("end", 15),
        ("department", "works"),
        ("revision", 3),
    ]
    assert Passage.of("Turn the valve.", "Pump manual").provenance() == {}


def test_an_extra_column_does_not_hide_a_field() -> None:
    passage = replace(PLACED, extra={"page": 99, "text": "other"})
    assert passage.to_dict()["page"] == 12
    assert passage.to_dict()["text"] == "Turn the valve."


def test_a_passage_survives_json_and_pickle() -> None:
    for read in (
        Passage.from_dict(json.loads(json.dumps(PLACED.to_dict()))),
        pickle.loads(pickle.dumps(PLACED)),
    ):
        assert read == PLACED
        assert read.provenance() == PLACED.provenance()
        assert read.headings == ("Upkeep", "Valves")
