"""What every kind of vector store has to do, whichever it is."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from dalm.errors import UserError
from dalm.records import Hit, Passage
from dalm.retrieval.base import VectorStore
from dalm.retrieval.bm25 import BM25
from dalm.retrieval.documents import neighbours_of
from dalm.retrieval.exact import ExactIndex
from dalm.retrieval.store_kinds import STORES, StorePlace
from dalm.retrieval.where import parse_condition


@pytest.fixture(params=["exact", *STORES])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., VectorStore]:
    """Return a function that makes an empty store for vectors of `DIM` dimensions, or opens it."""
    kind = STORES.get(request.param)
    url = address(request, request.param)

    def opened(table: str = "", **given: Any) -> VectorStore:
        if kind is None:
            return ExactIndex()
        table = table or f"t{uuid4().hex}"
        place = {"folder": tmp_path / table, "table": table, "dim": DIM, "url": url, **given}
        return kind.open(StorePlace(**{"columns": EXTRA, **place}))

    return opened


def address(request: pytest.FixtureRequest, kind: str) -> str | None:
    if kind == "pgvector":
        return request.getfixturevalue("postgres")
    return str(request.getfixturevalue("tmp_path") / "qdrant") if kind == "qdrant" else None


@pytest.fixture
def store(make: Callable[[], VectorStore]) -> VectorStore:
    return filled(make, PASSAGES, VECTORS)


def filled(
    make: Callable[[], VectorStore], passages: Sequence[Passage], vectors: Tensor
) -> VectorStore:
    store = make()
    store.add(passages, vectors)
    return store


DIM = 16
EXTRA = {"kind": str, "size": int}
PASSAGES = [
    Passage(
        f"{place:03}",
        f"text {place} about word{place % 7}",
        source=f"file{place % 3}.pdf",
        page=place if place % 5 else None,
        extra={"kind": "even" if place % 2 == 0 else "odd", "size": place * 10},
    )
    for place in range(200)
]
VECTORS = normalize(torch.randn(200, 16, generator=torch.Generator().manual_seed(0)))
QUERIES = normalize(torch.randn(20, 16, generator=torch.Generator().manual_seed(1)))


def test_values_of_columns_are_listed(store: VectorStore) -> None:
    names = ("id", "source", "page", "size", "title")
    found = sorted(store.select(names))
    assert len(found) == 200
    assert found[7] == ("007", "file1.pdf", 7, 70, None)
    assert found[5] == ("005", "file2.pdf", None, 50, None)
    where = parse_condition("source = 'file1.pdf' and size > 1900", store.columns)
    assert sorted(store.select(("id", "kind"), where)) == [
        ("193", "odd"),
        ("196", "even"),
        ("199", "odd"),
    ]
    store.delete(["196"])
    assert sorted(store.select(("id",), where)) == [("193",), ("199",)]


def test_passages_are_read_by_their_ids_with_all_that_is_known_of_them(store: VectorStore) -> None:
    more = Passage("more", "a", "T", headings=("One", "Two"), page=3, start=7, end=8, document="d")
    store.add([more], VECTORS[:1])
    found = store.passages_of(["007", "not there", "more"])
    assert {key: passage.to_dict() for key, passage in found.items()} == {
        "007": PASSAGES[7].to_dict(),
        "more": more.to_dict(),
    }


def test_passages_come_back_by_their_ids_with_all_that_is_known_of_them(store: VectorStore) -> None:
    found = store.passages_of(["007", "nothing", "190"])
    assert {name: each.to_dict() for name, each in found.items()} == {
        each.id: each.to_dict() for each in (PASSAGES[7], PASSAGES[190])
    }
    assert store.passages_of([]) == {}
    if store.keeps_order:
        assert [id_ for (id_,) in store.select(("id",))] == [each.id for each in PASSAGES]


def test_neighbours_follow_the_spans_the_pages_or_the_order_if_it_is_kept(make) -> None:
    spans = [Passage(f"s{n}", f"s{n}", document="d", start=n, end=n + 1) for n in (2, 0, 1)]
    pages = [Passage(f"p{n}", f"p{n}", source="p.pdf", page=n) for n in (3, 1, 2)]
    rows = [Passage(f"r{n}", f"r{n}", document="r") for n in (2, 0, 1)]
    passages = [*spans, *pages, *rows]
    store = filled(make, passages, torch.eye(len(passages), DIM))

    def around(name: str) -> list[str | None]:
        found = neighbours_of(store, store.passages_of([name])[name])
        return [each and each.id for each in found]

    assert [around(f"s{n}") for n in range(3)] == [[None, "s1"], ["s0", "s2"], ["s1", None]]
    assert [around(f"p{n}") for n in (1, 2, 3)] == [[None, "p2"], ["p1", "p3"], ["p2", None]]
    kept = [["r2", "r1"], ["r0", None], [None, "r0"]]
    assert [around(f"r{n}") for n in range(3)] == (kept if store.keeps_order else [[None] * 2] * 3)


def test_the_best_are_found_best_first(store: VectorStore) -> None:
    best = (QUERIES @ VECTORS.T).topk(10)
    right = 0
    for hits, scores, rows in zip(store.search(QUERIES, 10), *best, strict=True):
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        assert all(isinstance(hit, Hit) and isinstance(hit.score, float) for hit in hits)
        found = {hit.passage.id: hit.score for hit in hits}
        right += len(found.keys() & {f"{row:03}" for row in rows.tolist()})
        assert found[hits[0].passage.id] == pytest.approx(scores[0].item(), abs=0.05)
    assert right >= 0.97 * 200


def test_passages_are_added_behind_those_that_are_there(make) -> None:
    store = make()
    assert store.count() == 0
    store.add(PASSAGES[:150], VECTORS[:150])
    store.add(PASSAGES[150:], VECTORS[150:])
    assert store.count() == 200
    for place in (3, 149, 150, 199):
        [[hit]] = store.search(VECTORS[place : place + 1], 1)
        assert hit.passage == PASSAGES[place]
        assert hit.score == pytest.approx(1)


def test_no_more_than_there_are_and_no_query(store: VectorStore) -> None:
    assert {len(hits) for hits in store.search(QUERIES, 999)} == {200}
    assert store.search(torch.empty(0, 16), 3) == []


def test_what_cannot_be_added_or_searched_is_refused(store: VectorStore) -> None:
    with pytest.raises(ValueError, match="3 passages"):
        store.add(PASSAGES[:3], VECTORS[:2])
    with pytest.raises(ValueError, match="15 dimensions"):
        store.add(PASSAGES[:3], VECTORS[:3, :15])
    assert store.count() == 200
    with pytest.raises(UserError, match="16 dimensions"):
        store.search(QUERIES[:, :15], 3)
    with pytest.raises(ValueError, match="at least 1"):
        store.search(QUERIES, 0)


def test_a_vector_that_is_not_a_number_is_reported(store: VectorStore) -> None:
    with pytest.raises(ValueError, match="NaN"):
        store.search(torch.full((1, 16), float("nan")), 3)


# Changes


def test_a_passage_with_a_known_id_takes_the_place_of_the_old_one(store: VectorStore) -> None:
    changed = Passage("003", "quite another text", source="new.pdf")
    store.add([changed], -VECTORS[3:4])
    assert store.count() == 200
    [[hit]] = store.search(-VECTORS[3:4], 1)
    assert (hit.passage.text, hit.passage.source) == (changed.text, "new.pdf")
    assert hit.score == pytest.approx(1)
    [[hit]] = store.text_search(["quite"], 3)
    assert hit.passage.id == "003"


def test_what_is_deleted_is_found_by_no_search(store: VectorStore) -> None:
    gone = [f"{place:03}" for place in range(0, 200, 2)]
    assert store.delete([*gone, "not there"]) == 100
    assert store.count() == 100
    for found in (store.search(QUERIES, 200), store.text_search(["text word1 about"] * 2, 200)):
        assert {len(hits) for hits in found} == {100}
        assert not {hit.passage.id for hits in found for hit in hits} & set(gone)
    assert store.delete(gone) == 0
    store.add(PASSAGES[:1], VECTORS[:1])
    [[hit]] = store.search(VECTORS[:1], 1)
    assert hit.passage.id == "000"


# Many vectors


@pytest.mark.parametrize("kind", STORES)
def test_an_approximate_index_finds_nearly_all_or_is_not_used(kind, request, monkeypatch) -> None:
    monkeypatch.setattr(f"dalm.retrieval.stores.{kind}.EXACT_UP_TO", 1e4)
    url = address(request, kind)
    folder = request.getfixturevalue("tmp_path") / "many"
    place = StorePlace(folder=folder, table=f"many{uuid4().hex}", dim=DIM, url=url)
    store = STORES[kind].open(place)
    vectors = normalize(torch.randn(2000, DIM, generator=torch.Generator().manual_seed(0)))
    store.add(
        [Passage(f"{place:04}", f"text {place}", page=place) for place in range(2000)], vectors
    )
    recall = store.optimise(in_use=False)
    assert (recall is None) == (not store.tuning)
    if kind == "pgvector":
        assert recall is not None
    best = (QUERIES @ vectors.T).topk(10).indices
    pairs = zip(store.search(QUERIES, 10), best.tolist(), strict=True)
    found = sum(len({int(hit.passage.id) for hit in hits} & set(right)) for hits, right in pairs)
    assert found >= 0.95 * 200
    [hits] = store.search(QUERIES[:1], 10, parse_condition("page < 50", store.columns))
    assert [int(hit.passage.id) for hit in hits] == (QUERIES[0] @ vectors[:50].T).topk(
        10
    ).indices.tolist()
    store.delete([hit.passage.id for hit in hits])
    assert not {h.passage.id for h in store.search(QUERIES[:1], 2000)[0]} & {
        h.passage.id for h in hits
    }


# Codes of vectors


@pytest.fixture(
    params=[(name, codes) for name, kind in STORES.items() for codes in kind.vectors[1:]],
    ids=" ".join,
)
def coded(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., VectorStore]:
    """Return a function that opens a store which finds candidates by codes of the vectors."""
    name, codes = request.param
    url = request.getfixturevalue("postgres") if name == "pgvector" else None
    table = f"coded{uuid4().hex}"

    def opened(**given: Any) -> VectorStore:
        place = {"folder": tmp_path / table, "table": table, "dim": DIM, "url": url, **given}
        return STORES[name].open(StorePlace(vectors=codes, columns=EXTRA, **place))

    return opened


def test_by_codes_nearly_all_are_found_with_exact_scores(coded) -> None:
    store = filled(coded, PASSAGES, VECTORS)
    recall = store.optimise(in_use=False)
    assert recall is not None
    assert recall >= 0.98
    assert store.tuning
    assert coded(create=False, tuning=store.tuning).search(QUERIES, 5) == store.search(QUERIES, 5)
    right, best = 0, (QUERIES @ VECTORS.T).topk(10).indices
    for query, hits, rows in zip(QUERIES, store.search(QUERIES, 10), best.tolist(), strict=True):
        for hit in hits:
            score = (query @ VECTORS[int(hit.passage.id)]).item()
            assert hit.score == pytest.approx(score, abs=1e-5)
        right += len({int(hit.passage.id) for hit in hits} & set(rows))
    assert right >= 0.96 * 200
    assert {len(hits) for hits in store.search(QUERIES, 999)} == {200}
    where = parse_condition("size < 500", store.columns)
    [hits] = store.search(QUERIES[:1], 10, where)
    few = (QUERIES[0] @ VECTORS[:50].T).topk(10).indices.tolist()
    assert [int(hit.passage.id) for hit in hits] == few


def test_codes_follow_what_is_deleted_replaced_and_added_at_once(coded) -> None:
    store = filled(coded, PASSAGES[:150], VECTORS[:150])
    store.optimise(in_use=False)
    reader = coded(create=False, tuning=store.tuning)
    gone = {hit.passage.id for hit in reader.search(QUERIES[:1], 5)[0]}
    assert store.delete(sorted(gone)) == 5
    assert not {hit.passage.id for hit in reader.search(QUERIES[:1], 149)[0]} & gone
    store.add(PASSAGES[150:], VECTORS[150:])
    [[hit]] = reader.search(VECTORS[170:171], 1)
    assert hit.passage.id == "170"
    there = next(each for each in PASSAGES if each.id not in gone)
    store.add([there], torch.eye(DIM)[:1])
    for _ in range(2):
        [[hit]] = reader.search(torch.eye(DIM)[:1], 1)
        assert (hit.passage.id, hit.score) == (there.id, pytest.approx(1))
        store.optimise(in_use=True)


def test_an_index_of_codes_grows_from_nothing(coded) -> None:
    store = coded()
    assert store.optimise(in_use=False) is None
    assert store.search(QUERIES[:1], 3) == [[]]
    for size in (1, 3, 200):
        store.add(PASSAGES[:size], VECTORS[:size])
        assert store.optimise(in_use=False) is not None
        [[hit]] = store.search(VECTORS[size - 1 : size], 1)
        assert hit.passage.id == PASSAGES[size - 1].id
    store.delete([passage.id for passage in PASSAGES[1::2]])
    assert store.optimise(in_use=True) is not None
    assert not {int(hit.passage.id) % 2 for hit in store.search(QUERIES[:1], 90)[0]} & {1}


def test_where_codes_do_not_do_every_vector_is_compared(coded, monkeypatch) -> None:
    for module in ("lance_vectors", "pgvector"):
        monkeypatch.setattr(f"dalm.retrieval.stores.{module}.RECALL", 1.01)
    store = filled(coded, PASSAGES, VECTORS)
    assert store.optimise(in_use=False) is None
    assert not store.tuning
    best = (QUERIES @ VECTORS.T).topk(10).indices
    for hits, rows in zip(store.search(QUERIES, 10), best.tolist(), strict=True):
        assert [int(hit.passage.id) for hit in hits] == rows


def test_dimensions_of_which_there_are_no_codes_are_refused(tmp_path) -> None:
    place = StorePlace(folder=tmp_path / "odd", table="odd", dim=12, vectors="binary")
    with pytest.raises(UserError, match=r"--vectors binary: .* multiple of 8, .* have 12; choose"):
        STORES["lance"].open(place)
    assert not place.folder.exists()


# Words and conditions


def test_words_are_ranked_as_by_bm25(store: VectorStore) -> None:
    queries = ["word3", "text 17", "nothing of it: xyz", ""]
    for found, expected in zip(
        store.text_search(queries, 10), BM25(PASSAGES).search(queries, 200), strict=True
    ):
        assert len(found) == min(10, len(expected))
        scores = {hit.passage.id: hit.score for hit in expected}
        for hit, best in zip(found, expected, strict=False):
            assert scores[hit.passage.id] == pytest.approx(best.score)  # equal scores: any of them
            assert hit.score == pytest.approx(best.score, rel=1e-4)


@pytest.mark.parametrize(
    "condition",
    [
        "source = 'file1.pdf'",
        "page > 150 and kind = 'odd'",
        "not (page > 150)",
        "page is null or size in (10, 30)",
        "text like 'text 1% about word_' and source != 'file0.pdf'",
        "size >= 1e3 and id < '150'",
    ],
)
def test_conditions_hold_for_what_is_found(store: VectorStore, condition: str) -> None:
    where = parse_condition(condition, store.columns)
    right = {p.id for p in PASSAGES if where.holds({**values(p)})}
    assert 0 < len(right) < 200
    assert store.count(where) == len(right)
    [hits] = store.search(QUERIES[:1], 200, where)
    assert {hit.passage.id for hit in hits} == right
    best = max(right, key=lambda each: (QUERIES[0] @ VECTORS[int(each)]).item())
    assert hits[0].passage.id == best
    [hits] = store.text_search(["about"], 200, where)
    assert {hit.passage.id for hit in hits} == right


def values(passage: Passage) -> dict[str, object]:
    return {
        "id": passage.id,
        "text": passage.text,
        "source": passage.source,
        "page": passage.page,
        **passage.extra,
    }


def test_a_hit_has_everything_that_was_stored(store: VectorStore) -> None:
    [[hit]] = store.search(VECTORS[7:8], 1)
    assert hit.passage.to_dict() == PASSAGES[7].to_dict()


def test_no_text_of_a_condition_reaches_a_database(store: VectorStore) -> None:
    odd = [
        Passage("x1", "O'Hara; DROP TABLE passages; -- 100%", source="a'b\\c.pdf"),
        Passage("x2", 'a "quoted" {name} $1 %s', source="50%_off"),
    ]
    store.add(odd, VECTORS[:2])
    for passage in odd:
        quoted = passage.source.replace("'", "''")
        for condition in (
            f"source = '{quoted}'",
            f"source in ('{quoted}')",
            f"id = '{passage.id}'",
        ):
            where = parse_condition(condition, store.columns)
            assert store.count(where) == 1
            for found in (store.search(QUERIES[:1], 9, where), [*store.select(("id",), where)]):
                assert len(found) == 1
    where = parse_condition("source like '50%'", store.columns)
    [hits] = store.text_search(["quoted"], 5, where)
    assert [hit.passage.text for hit in hits] == [odd[1].text]
    for attack in ("' or ''='", "x'; DROP TABLE t; --", "\\' OR 1=1 --"):
        where = parse_condition(f"source = '{attack.replace(chr(39), chr(39) * 2)}'", store.columns)
        assert store.count(where) == 0
    assert store.count() == 202


TEXTS = [
    "nul \0 byte",
    "😀 emoji, ümläut, 日本語, ภาษา",
    "line\nbreak\ttab \u2028 \r\n",
    "x" * 100_000 + " " + "word " * 20_000,
    "",
]


def test_any_text_comes_back_as_it_was(make) -> None:
    passages = [Passage(f"i{place}", text, title=text[:9]) for place, text in enumerate(TEXTS)]
    store = filled(make, passages, torch.eye(len(TEXTS), DIM))
    assert store.texts_of([each.id for each in passages]) == dict(
        zip([each.id for each in passages], TEXTS, strict=True)
    )
    for place, passage in enumerate(passages):
        [[hit]] = store.search(torch.eye(len(TEXTS), DIM)[place : place + 1], 1)
        assert (hit.passage.text, hit.passage.title) == (passage.text, passage.title)
    [hits] = store.text_search(["日本語"], 3)
    assert [hit.passage.id for hit in hits] == ["i1"]


def test_equal_scores_are_in_the_order_of_the_ids_also_where_they_are_cut(make) -> None:
    backwards = PASSAGES[99::-1]
    store = filled(
        make, [replace(each, text="the same") for each in backwards], torch.ones(100, DIM)
    )
    first = [f"{place:03}" for place in range(7)]
    assert [hit.passage.id for hit in store.search(torch.ones(1, DIM), 7)[0]] == first
    assert [hit.passage.id for hit in store.text_search(["same"], 7)[0]] == first


def test_without_passages_nothing_is_found(make) -> None:
    store = make()
    store.add([], torch.empty(0, DIM))
    assert store.text_search(["word"], 3) == [[]]
    assert (store.digests(), store.texts_of([]), store.delete([])) == ({}, {}, 0)
    with pytest.raises(ValueError, match="NaN"):
        store.add(PASSAGES[:1], torch.full((1, DIM), float("nan")))
    assert store.count() == 0
    assert store.optimise(in_use=False) is None
    with pytest.raises(KeyError):
        store.vectors_of(["nothing"])


def test_what_is_deleted_stays_so_after_upkeep(store: VectorStore) -> None:
    gone = {f"{place:03}" for place in range(0, 200, 2)}
    store.optimise(in_use=False)
    store.delete(sorted(gone))
    changed = replace(PASSAGES[1], text="changed")
    store.add([changed], VECTORS[1:2])
    for in_use in (True, False):
        found = [*store.search(QUERIES, 200), *store.text_search(["text about word1"], 200)]
        assert not {hit.passage.id for hits in found for hit in hits} & gone
        assert {len(hits) for hits in found} == {100, 99}  # the changed one has none of the words
        store.optimise(in_use=in_use)
    [expected] = BM25([*PASSAGES[3::2], changed]).search(["word5 17"], 5)
    [hits] = store.text_search(["word5 17"], 5)
    assert [hit.passage.id for hit in hits] == [hit.passage.id for hit in expected]
    scores = [hit.score for hit in expected]
    assert [hit.score for hit in hits] == pytest.approx(scores, rel=1e-4)


@pytest.mark.parametrize("gone", [6, 90])
def test_an_update_leaves_the_scores_of_an_index_built_anew(make, gone: int) -> None:
    store = filled(make, PASSAGES, VECTORS)
    store.optimise(in_use=False)
    for start in (0, gone):  # of the second a compaction may know nothing
        store.delete([passage.id for passage in PASSAGES[start : start + gone]])
        changed = [replace(each, source="moved.pdf") for each in PASSAGES[190:195]]
        store.add(changed, VECTORS[190:195])
        store.optimise(in_use=True)
    anew = filled(make, PASSAGES[2 * gone :], VECTORS[2 * gone :])
    anew.optimise(in_use=False)
    queries = ["word5 199", "text about word1 word2", "196 text"]
    for found in zip(store.text_search(queries, 9), anew.text_search(queries, 9), strict=True):
        ids, expected = ([hit.id for hit in hits] for hits in found)
        scores, right = ([hit.score for hit in hits] for hits in found)
        assert (ids, scores) == (expected, pytest.approx(right, rel=1e-5))


def test_columns_are_added_later(store: VectorStore) -> None:
    store.add_columns({'weird name; "': float, "kind": str})
    added = Passage("new", "n", extra={'weird name; "': 2.5, "kind": "even"})
    store.add([added], VECTORS[:1])
    where = parse_condition('"weird name; """ > 2', store.columns)
    assert [hit.passage for hit in store.search(QUERIES[:1], 5, where)[0]] == [added]
    assert store.count(parse_condition('"weird name; """ is null', store.columns)) == 200


def test_opened_again_it_is_the_same(make, request) -> None:
    if request.node.callspec.params["make"] == "exact":
        pytest.skip("it lives in memory")
    store = make("again")
    store.add(PASSAGES, VECTORS)
    other = make("again", create=False, tuning=store.tuning)
    assert other.digests() == store.digests()
    assert torch.allclose(other.vectors_of(["007"]), VECTORS[7:8])
    assert other.search(QUERIES, 5) == store.search(QUERIES, 5)
    other.delete(["007"])
    assert not [h for h in store.search(VECTORS[7:8], 3)[0] if h.passage.id == "007"]
    other.drop()
    with pytest.raises(UserError):
        make("nothing", create=False)


def test_readers_see_whole_blocks_while_a_writer_works(make, request) -> None:
    if request.node.callspec.params["make"] == "exact":
        pytest.skip("it lives in memory")
    writer = make("busy")
    writer.add(PASSAGES[:50], VECTORS[:50])
    writer.optimise(in_use=False)
    reader = make("busy", create=False)
    seen, done = set(), Event()

    def read() -> None:
        while not done.is_set():
            seen.add(reader.count())
            assert len(reader.search(QUERIES[:1], 5)[0]) == 5
            assert len(reader.text_search(["text"], 5)[0]) == 5

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        for start in (50, 100, 150):
            writer.add(PASSAGES[start : start + 50], VECTORS[start : start + 50])
            writer.optimise(in_use=True)
        done.set()
        reading.result(60)
    assert seen <= {50, 100, 150, 200}
    assert reader.count() == 200
