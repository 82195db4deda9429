"""Qdrant on a server and in a folder: what the tests of every store don't reach.

No Qdrant server can be installed from a package. A server here speaks its protocol, with the
client's own models of requests and answers, and answers from the client's local mode.
"""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from qdrant_client import QdrantClient, models
from torch.nn.functional import normalize

from dalm.errors import UserError
from dalm.records import Passage
from dalm.retrieval.bm25 import BM25
from dalm.retrieval.store_kinds import STORES, StorePlace
from dalm.retrieval.stores import qdrant
from dalm.retrieval.stores.qdrant import QdrantStore
from dalm.retrieval.where import parse_condition

KEY = "hush-hush-12"
Body = dict[str, Any]


class Server(ThreadingHTTPServer):
    """Answer requests of Qdrant's protocol from memory."""

    version = "1.20.0"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.local = QdrantClient(":memory:")
        self.indexed: set[str] = set()
        self.params: list[Body | None] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, what: str, name: str, body: Body) -> Any:
        local = self.local
        match what:
            case "GET exists":
                return {"exists": local.collection_exists(name)}
            case "PUT ":
                made = models.CreateCollection(**body)
                vectors, words = made.vectors, made.sparse_vectors
                return local.create_collection(name, vectors, words)
            case "PATCH ":
                return local.update_collection(name, metadata=body["metadata"])
            case "GET ":
                return local.get_collection(name)
            case "DELETE ":
                return local.delete_collection(name)
            case "PUT index":
                self.indexed.add(body["field_name"])
            case "PUT points":
                local.upsert(
                    name, TypeAdapter(list[models.PointStruct]).validate_python(body["points"])
                )
            case "POST points/delete":
                local.delete(name, body["points"])
            case "POST points":
                return local.retrieve(
                    name, body["ids"], body["with_payload"], body.get("with_vector") or False
                )
            case "POST points/scroll":
                asked = models.ScrollRequest(**body)
                found, after = local.scroll(
                    name,
                    asked.filter,
                    asked.limit or 10,
                    offset=asked.offset,
                    with_payload=asked.with_payload or False,
                    with_vectors=asked.with_vector or False,
                )
                return {"points": found, "next_page_offset": after}
            case "POST points/count":
                return local.count(name, models.CountRequest(**body).filter)
            case "POST points/query":
                query = models.QueryRequest(**body)
                self.params.append(body.get("params"))
                return local.query_points(
                    name,
                    query.query,
                    using=query.using,
                    query_filter=query.filter,
                    limit=query.limit or 10,
                    with_payload=query.with_payload or False,
                )
            case "POST facet":
                wanted = models.FacetRequest(**body)
                assert wanted.key in self.indexed
                return local.facet(name, wanted.key, limit=wanted.limit or 10)
            case _:
                raise AssertionError(what)
        return {"operation_id": 1, "status": "completed"}


class Handler(BaseHTTPRequestHandler):
    """Take a request apart, and write the answer."""

    server: Server

    def reply(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        path = self.path.partition("?")[0]
        found = re.fullmatch(r"/collections/(\w+)/?(.*)", path)
        if found is None:
            self.write(200, {"title": "qdrant", "version": self.server.version})
        elif self.headers.get("api-key") != KEY:
            self.write(401, {"status": {"error": "Invalid API key or JWT"}})
        else:
            with self.server.lock:
                result = self.server.answer(f"{self.command} {found[2]}", found[1], body)
                self.write(200, {"result": result, "status": "ok", "time": 0.1})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self.reply
        raise AttributeError(name)

    def write(self, status: int, value: Any) -> None:
        data = TypeAdapter(Any).dump_json(value)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("QDRANT_API_KEY", KEY)
    with Server() as found:
        threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True).start()
        yield found
        found.shutdown()


def opened(url: str, **given: Any) -> QdrantStore:
    columns = {"size": int, "weight": float, "kind": str, "new": bool}
    place = {"table": "t1", "dim": 8, "columns": columns, "url": str(url), **given}
    store = STORES["qdrant"].open(StorePlace(folder=Path(), **place))
    assert isinstance(store, QdrantStore)
    return store


PASSAGES = [
    Passage(
        f"{place:03}",
        f"text {place} about word{place % 7}" + " and more of it" * (place % 5),
        source=f"file{place % 3}.pdf",
        page=place if place % 5 else None,
        extra={
            "size": 2**53 + place,
            "weight": place / 3,
            "kind": "Even" if place % 2 == 0 else "odd",
            **({"new": place > 50} if place % 4 else {}),
        },
    )
    for place in range(100)
]
VECTORS = normalize(torch.randn(100, 8, generator=torch.Generator().manual_seed(0)))
CONDITIONS = [
    f"size = {2**53 + 1}",
    f"size > {2**53 + 1} and not (page >= 20)",
    "not (page in (3, 4) or page is null)",
    "weight = 0.5 or weight <= 1.5",
    "weight != 1 and not (weight > 3 and kind = 'Even')",
    "new = true",
    "not (new != false)",
    "new is null and kind > 'D'",
    "kind like 'E%' and page not in (2, 4)",
    "not (kind like 'e%' or page < 10)",
    "source not in ('file1.pdf', 'file2.pdf') and id >= '050'",
    "text = 'text 7 about word0 and more of it and more of it' or page = 1",
]


def holds(condition: str, store: QdrantStore) -> set[str]:
    where = parse_condition(condition, store.columns)
    values = ((p.id, {**p.to_dict(), **p.extra, "page": p.page}) for p in PASSAGES)
    return {id_ for id_, each in values if where.holds(each)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> QdrantStore:
    store = opened(tmp_path_factory.mktemp("folder") / "qdrant")
    store.add(PASSAGES, VECTORS)
    return store


@pytest.mark.parametrize("condition", CONDITIONS)
def test_what_qdrant_cannot_say_is_right_all_the_same(folder, condition) -> None:
    right = holds(condition, folder)
    assert 0 < len(right) < 100
    where = parse_condition(condition, folder.columns)
    assert folder.count(where) == len(right)
    assert {id_ for (id_,) in folder.select(["id"], where)} == right
    [hits] = folder.search(VECTORS[:1], 5, where)
    best = sorted(right, key=lambda id_: -(VECTORS[0] @ VECTORS[int(id_)]).item())
    assert [hit.passage.id for hit in hits] == best[:5]


def test_words_are_ranked_exactly_also_after_the_mean_length_has_changed(server) -> None:
    queries = ["word3 more", "text 17 it", "and and about", "nothing"]
    store = opened(server.url)
    store.add([Passage("x", "short")], VECTORS[:1])  # the mean that the weights are by
    store.add(PASSAGES, VECTORS)
    expected = BM25([Passage("x", "short"), *PASSAGES]).search(queries, 7)
    for hits, right in zip(store.text_search(queries, 7), expected, strict=True):
        assert [hit.passage.id for hit in hits] == [hit.passage.id for hit in right]
        scores = [hit.score for hit in right]
        assert [hit.score for hit in hits] == pytest.approx(scores, rel=1e-5)


def test_a_server_does_the_same(server: Server, folder, monkeypatch) -> None:
    monkeypatch.setattr(qdrant, "_MOST_BYTES", 20_000)  # several requests for a block
    store = opened(server.url)
    assert store.optimise(in_use=False) is None
    store.add(PASSAGES, VECTORS)
    store.add_columns({"later": str})
    odd = Passage("odd", "a \0 and \u2028", extra={"weight": float("inf")})
    store.add([odd], VECTORS[:1])
    assert store.delete([odd.id, "none"]) == 1
    assert server.indexed >= {"words", "length", "page", "extra_0", "extra_4"}
    assert store.digests() == folder.digests()
    assert store.texts_of(["007"]) == {"007": PASSAGES[7].text}
    assert torch.allclose(store.vectors_of(["007", "003"]), VECTORS[[7, 3]])
    for condition in CONDITIONS:
        where = parse_condition(condition, store.columns)
        assert store.count(where) == folder.count(where)
        assert store.search(VECTORS[:2], 9, where) == folder.search(VECTORS[:2], 9, where)
        [hits], [right] = (each.text_search(["more"], 9, where) for each in (store, folder))
        assert [hit.passage for hit in hits] == [hit.passage for hit in right]
    store.drop()
    with pytest.raises(UserError, match="collection t1 is missing"):
        opened(server.url, create=False)


def test_a_server_searches_its_graph_where_there_are_many_vectors(server, monkeypatch) -> None:
    store = opened(server.url)
    store.add(PASSAGES, VECTORS)
    store.search(VECTORS[:1], 3)
    assert server.params[-1]["exact"] is True
    monkeypatch.setattr(qdrant, "EXACT_UP_TO", 300)
    assert store.optimise(in_use=True) == 1  # what answers here has no graph
    assert store.tuning == {"width": 64}
    store = opened(server.url, create=False, tuning=store.tuning)
    for condition, params in (
        (None, {"exact": False, "hnsw_ef": 64}),
        ("page > 10", {"exact": False, "hnsw_ef": 64}),
        ("page > 80", {"exact": True}),
        ("kind like 'E%'", {"exact": True}),
    ):
        where = condition and parse_condition(condition, store.columns)
        store.search(VECTORS[:1], 3, where)
        sent = {name: value for name, value in server.params[-1].items() if value is not None}
        assert sent.items() >= params.items()


def test_a_server_that_cannot_be_used_is_one_line(server: Server, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("QDRANT_API_KEY", "another-key-34")
    with pytest.raises(UserError, match=r"401 .*environment variable QDRANT_API_KEY$") as caught:
        opened(server.url)
    server.version = "1.9.2"
    with pytest.raises(UserError, match=r"has version 1.9.2, and 1.16 is needed; update it$"):
        opened(server.url)
    for url, problem in (
        ("http://127.0.0.1:1", "start the server, or correct its address"),
        ("http://ada:hush@h", "takes no name, password or parameters"),
        ("https://h?api-key=hush", "takes no name, password or parameters"),
        ("http://", "names no host"),
        (Path(__file__), "is a file; name a folder"),
        (Path(__file__) / "within", "Not a directory: .*or name another folder"),
        (Path(__file__).parent, "is no folder of Qdrant; name another one"),
    ):
        with pytest.raises(UserError, match=problem) as caught:
            opened(url)
        assert "hush" not in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of its client
def test_a_folder_is_for_one_process(tmp_path: Path) -> None:
    folder = tmp_path / "qdrant"
    line = "import sys; from qdrant_client import QdrantClient; q = QdrantClient(path=sys.argv[1])"
    line += "; print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", line, folder], stdin=-1, stdout=-1, text=True
    ) as other:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(UserError, match=r"in use by another process, .* run a server: "):
            opened(folder)
        other.stdin.close()
    opened(folder).add(PASSAGES[:1], VECTORS[:1])


def test_a_damaged_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text("{")
    with pytest.raises(UserError, match=r"can't be used .*; if it is damaged, build it again"):
        opened(tmp_path)
