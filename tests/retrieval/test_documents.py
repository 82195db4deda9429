"""Documents of an index: listed, replaced under their names, deleted; nothing is encoded twice."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dalm.records import Passage
from dalm.retrieval.documents import (
    IndexedDocument,
    Replaced,
    list_documents,
    passages_from,
    passages_of,
    replace_document,
)
from dalm.retrieval.stores.lance import LanceStore
from dalm.retrieval.where import parse_condition

PUMP = [
    Passage.of("the pump needs oil", "Pump", document="d1", source="pump.pdf", page=1),
    Passage.of("the valve is opened by hand", "Pump", document="d1", source="pump.pdf", page=3),
]
ROWS = [
    Passage.of("a first row", document="r1", source="rows.csv, line 2"),
    Passage.of("a second row", document="r2", source="rows.csv, line 3, text 2"),
    Passage.of("of another file", document="r3", source="rows.csv, old"),
    Passage.of("of a similar name", document="r4", source="rowsXcsv, line 2"),
]
ALONE = Passage.of("a passage that names no document")


class Encoder:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        self.texts += texts
        return torch.tensor([[1.0, len(text), 2.0, 3.0] for text in texts])


@pytest.fixture
def store(tmp_path: Path) -> LanceStore:
    made = LanceStore(tmp_path / "store", 4, {"year": int})
    passages = [*PUMP, *ROWS, ALONE]
    made.add(passages, Encoder()([passage.text for passage in passages]))
    return made


def texts(store: LanceStore, words: str) -> set[str]:
    [by_words] = store.text_search([words], 50)
    [by_vectors] = store.search(torch.ones(1, 4), 50)
    assert {hit.passage.id for hit in by_words} <= {hit.passage.id for hit in by_vectors}
    return {hit.passage.text for hit in by_words}


def test_documents_are_listed_with_their_passages_and_pages(store):
    found = list_documents(store)
    assert IndexedDocument("d1", "pump.pdf", "Pump", passages=2, pages=3) in found
    assert IndexedDocument(ALONE.id, "", "", passages=1) in found
    assert [each.source for each in found] == sorted(each.source for each in found)
    assert sum(each.passages for each in found) == store.count()
    where = parse_condition("page > 1", store.columns)
    assert list_documents(store, where) == [IndexedDocument("d1", "pump.pdf", "Pump", 1, 3)]


def test_the_passages_of_a_document_are_found_by_its_id(store):
    assert sorted(passages_of(store, "d1")) == sorted(passage.id for passage in PUMP)
    assert passages_of(store, ALONE.id) == [ALONE.id]
    assert passages_of(store, PUMP[0].id) == []
    assert passages_of(store, "' or 1 = 1 --") == []


def test_the_rows_of_a_table_belong_to_its_name_and_no_others(store):
    assert sorted(passages_from(store, "rows.csv")) == sorted(row.id for row in ROWS[:2])
    for other in ("rows", "%", "r_ws.csv", "rows.csv,", ""):
        assert passages_from(store, other) == []


def test_the_same_again_changes_nothing(store):
    encoder = Encoder()
    assert replace_document(store, "pump.pdf", PUMP, encoder) == Replaced(0, 0, 2, 0)
    assert encoder.texts == []


def test_another_version_takes_the_place_of_the_one_before(store):
    encoder = Encoder()
    new = Passage.of("the pump needs no oil", "Pump", document="d9", source="pump.pdf", page=1)
    kept = replace(PUMP[1], document="d9", page=2)
    assert replace_document(store, "pump.pdf", [new, kept, new], encoder) == Replaced(1, 1, 0, 1)
    assert encoder.texts == ["the pump needs no oil"]
    assert texts(store, "pump oil valve") == {"the pump needs no oil", PUMP[1].text}
    assert IndexedDocument("d9", "pump.pdf", "Pump", 2, 2) in list_documents(store)


def test_a_further_column_is_a_change_without_encoding(store):
    encoder = Encoder()
    dated = [replace(passage, extra={"year": 1913}) for passage in PUMP]
    assert replace_document(store, "pump.pdf", dated, encoder) == Replaced(0, 2, 0, 0)
    assert encoder.texts == []
    assert store.count(parse_condition("year = 1913", store.columns)) == 2


def test_a_passage_without_an_old_one_is_new(store):
    fresh = [Passage.of("something else", source="new.txt")]
    assert replace_document(store, "new.txt", fresh, Encoder()) == Replaced(1, 0, 0, 0)
    assert texts(store, "something") == {"something else"}
