"""Documents are added, replaced and deleted while a server runs; a refusal changes nothing."""

import shutil
from dataclasses import replace
from pathlib import Path

import httpx2 as httpx
import pytest

from dalm import artifacts
from dalm.config import Serve
from dalm.retrieval.index_folder import IndexFolder
from dalm.serving.document_routes import MEGABYTES
from dalm.serving.server import open_service
from tests.ingest.conftest import pdf
from tests.serving.conftest import build_index, listening

MODES = ("dense", "text", "hybrid")


@pytest.fixture(scope="module")
def service(people_index, tiny_models, tmp_path_factory):
    """A server of a copy of the index that lets clients write, and generates nothing."""
    folder = shutil.copytree(people_index, tmp_path_factory.mktemp("writable") / "index")
    settings = Serve(
        generator_url="http://127.0.0.1:9/v1", generator_model="none", allow_uploads=True
    )
    return open_service(str(folder), settings)


@pytest.fixture(scope="module")
def client(service):
    with listening(service) as url, httpx.Client(base_url=url, timeout=60) as http:
        yield http


def found(service, query: str, mode: str = "text") -> set[str]:
    """The texts that are found now, by the searcher that serves requests."""
    return {hit.passage.text for hit in service.index.search(query, 50, mode)}


def listed(client) -> dict[str, dict]:
    return {each["source"]: each for each in client.get("/documents").json()["data"]}


def upload(client, name: str, content: bytes, **fields: str):
    return client.post("/documents", files={"file": (name, content)}, data=fields)


def test_documents_are_listed_in_pages(client):
    whole = client.get("/documents").json()
    assert {"men.pdf", "people.pdf"} <= {each["source"] for each in whole["data"]}
    first = client.get("/documents", params={"limit": 1}).json()
    second = client.get("/documents", params={"limit": 1, "offset": 1}).json()
    assert first["data"] + second["data"] == whole["data"][:2]
    assert (first["total"], first["has_more"]) == (whole["total"], True)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "offset=-1", "limit=99999999999", "offset=²"]
)
def test_pages_that_cannot_be_are_refused(client, query):
    answer = client.get(f"/documents?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, query.partition("=")[0])


def test_a_text_is_found_at_once_replaced_and_gone_at_once(client, service):
    text = "The turbine of the mill is greased with lard.\n"
    body = {"text": text, "title": "Mill", "metadata": {"Year": 1950, "town": "Ulm"}}
    answer = client.post("/documents", json=body)
    assert answer.status_code == 201
    added = answer.json()
    assert (added["source"], added["passages"], added["new"]) == ("Mill", 1, 1)
    for mode in MODES:
        assert text.strip() in found(service, "turbine", mode)
    where = service.index.search("turbine", 5, "text", "Year = 1950 and town = 'Ulm'")
    assert [hit.passage.title for hit in where] == ["Mill"]
    again = client.post("/documents", json=body)
    assert (again.status_code, again.json()["unchanged"], again.json()["id"]) == (
        200,
        1,
        added["id"],
    )
    other = client.post("/documents", json=body | {"text": "The turbine of the mill needs oil."})
    assert (other.json()["new"], other.json()["deleted"]) == (1, 1)
    for mode in MODES:
        assert text.strip() not in found(service, "turbine lard", mode)
    gone = client.delete(f"/documents/{other.json()['id']}")
    assert gone.json()["deleted"] == 1
    for mode in MODES:
        assert not any("turbine" in each for each in found(service, "turbine", mode))
    assert client.delete(f"/documents/{other.json()['id']}").status_code == 404


def test_a_file_is_read_stored_and_deleted_by_its_name(client, service):
    pages = [["The boiler is heated with coal of Essen."], ["The chimney is swept each May."]]
    answer = upload(client, "../../etc/Boiler.PDF", pdf(*pages, title="Boiler"))
    assert answer.status_code == 201, answer.text
    assert listed(client)["../../etc/Boiler.PDF"]["pages"] in (1, 2)
    assert upload(client, "../../etc/Boiler.PDF", pdf(*pages, title="Boiler")).json()["new"] == 0
    assert any("boiler" in each for each in found(service, "boiler"))
    gone = client.delete("/documents", params={"source": "../../etc/Boiler.PDF"})
    assert gone.status_code == 200
    assert not any("boiler" in each for each in found(service, "boiler"))
    assert "../../etc/Boiler.PDF" not in listed(client)


def test_a_table_is_one_upload_and_a_document_each_row(client):
    rows = (
        b"Passage,Title\nThe first row speaks of a ladder.,L\nThe second row speaks of a rope.,R\n"
    )
    answer = upload(client, "rows.csv", rows, metadata='{"kind": "tools"}')
    assert (answer.json()["documents"], answer.json()["passages"]) == (2, 2)
    assert {"rows.csv, line 2", "rows.csv, line 3"} <= listed(client).keys()
    assert client.delete("/documents", params={"source": "rows.csv"}).json()["deleted"] == 2


def sizes(service) -> tuple[int, list[str]]:
    store = service.index.generation.store
    return store.count(), sorted(store.columns)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({}, 400, "text has to be"),
        ({"text": " \n", "title": "t"}, 400, "text has to be"),
        ({"text": 3, "title": "t"}, 400, "text has to be"),
        ({"text": "Some words of a text."}, 400, "name the document"),
        ({"text": "Some words of a text.", "title": "a\nb"}, 400, "one line"),
        ({"text": "Some words of a text.", "title": "t" * 501}, 400, "longer than 500"),
        ({"text": "Some words of a text.", "title": "t", "path": "/etc"}, 400, "no field 'path'"),
        ({"text": "two words", "title": "t"}, 422, "t: it is too short"),
        ({"text": "Some words\0 of a text.", "title": "t"}, 422, "NUL"),
        ({"text": "Words of a text here.", "title": "t", "metadata": [1]}, 400, "an object"),
        (
            {"text": "Words of a text here.", "title": "t", "metadata": {"a": [1]}},
            400,
            "short text",
        ),
        ({"text": "Words of a text here.", "title": "t", "metadata": {"page": 3}}, 400, "rename"),
        ({"text": "Words of a text here.", "title": "t", "metadata": {"Year": "x"}}, 422, "whole"),
    ],
)
def test_a_text_that_cannot_be_stored_is_refused(client, service, body, status, reason):
    before = sizes(service)
    answer = client.post("/documents", json=body)
    assert (answer.status_code, reason in answer.json()["error"]["message"]) == (status, True)
    assert sizes(service) == before


@pytest.mark.parametrize(
    ("name", "content", "status", "reason"),
    [
        ("a.exe", b"MZ", 415, "supported: .txt"),
        ("noextension", b"text", 415, "without an extension"),
        ("empty.pdf", b"", 422, "it is empty"),
        ("picture.pdf", b"\x89PNG", 422, "could not be opened"),
        ("big.txt", b"word " * (MEGABYTES * 200_000 + 1), 413, "larger than 32 MB"),
    ],
)
def test_a_file_that_cannot_be_stored_is_refused(client, service, name, content, status, reason):
    before = sizes(service)
    answer = upload(client, name, content)
    assert (answer.status_code, reason in answer.json()["error"]["message"]) == (status, True)
    assert sizes(service) == before


def test_forms_of_other_fields_are_refused(client):
    file = {"file": ("a.txt", b"Some words of a text here.")}
    for data, files in [({"x": "1"}, file), ({"file": "text"}, {"title": ("t.txt", b"t")})]:
        assert client.post("/documents", data=data, files=files).status_code == 400
    wrong = client.post("/documents", data={"encoding": "klingon"}, files=file)
    assert (wrong.status_code, "klingon" in wrong.text) == (422, True)
    assert client.post("/documents", content=b"text").status_code == 415


def test_another_writer_is_waited_for_by_the_client(client, service):
    with artifacts.claim(service.served.folder.path):
        answer = client.post("/documents", json={"text": "Some words of a text.", "title": "t"})
    assert (answer.status_code, answer.headers["retry-after"]) == (409, "10")
    assert answer.json()["error"]["code"] == "index_busy"


def test_a_server_is_read_only_unless_it_is_told_otherwise(http):
    assert http.get("/documents").status_code == 200
    for answer in (http.post("/documents", json={}), http.delete("/documents/x")):
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "read_only")


def test_what_is_sent_leaves_no_file_behind(client, service, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = sorted(Path(service.served.folder.path).parent.rglob("*.txt"))
    assert upload(client, "kept.txt", b"Some words about a kept file.").status_code == 201
    assert list(tmp_path.iterdir()) == []
    assert sorted(Path(service.served.folder.path).parent.rglob("*.txt")) == before


def test_what_an_upload_finds_for_the_approximate_search_is_kept(people, tiny_models, tmp_path):
    folder = build_index(tmp_path / "index", people, tiny_models.encoder, "--vectors", "int8")
    generation = IndexFolder(folder).current()
    found_first = generation.description.tuning
    assert found_first
    generation.describe(replace(generation.description, tuning={}))
    settings = Serve(
        generator_url="http://127.0.0.1:9/v1", generator_model="none", allow_uploads=True
    )
    service = open_service(str(folder), settings)
    assert not service.index.generation.store.tuning
    text = b"Dora keeps four parrots in the long shed behind the house and two in the kitchen."
    with listening(service) as url, httpx.Client(base_url=url, timeout=60) as http:
        assert upload(http, "new.txt", text).status_code == 201
    assert IndexFolder(folder).current().description.tuning.keys() == found_first.keys()
    assert service.index.generation.store.tuning.keys() == found_first.keys()
