"""Passages over HTTP: their neighbours, their originals, the sources of an index."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from dalm.errors import UserError
from dalm.serving.originals import Originals
from tests.serving.conftest import build_index

SECRET = "the secret of another folder"
PDF = b"%PDF-1.4\n" + b"0123456789" * 100
PAGE = "<p>Ada lives in Ulm.</p><script>document.title = 'run'</script>"


@pytest.fixture(scope="module")
def documents(tmp_path_factory) -> Path:
    """A folder of documents, with links out of it, beside a file that nobody may see."""
    root = tmp_path_factory.mktemp("originals")
    (root / "secret.txt").write_text(SECRET)
    (root / "other").mkdir()
    (root / "other" / "inner.txt").write_text(SECRET)
    folder = root / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / "manual.pdf").write_bytes(PDF)
    (folder / "page.html").write_text(PAGE)
    (folder / "rows.csv").write_text("text\na\nb\n")
    (folder / "latin.txt").write_bytes("Öl".encode("latin-1"))
    (folder / "sub" / "note.md").write_text("# Über\n")
    (folder / ".env.txt").write_text(SECRET)
    (folder / "key.pem").write_text(SECRET)
    (folder / "out.txt").symlink_to(root / "secret.txt")
    (folder / "away").symlink_to(root / "other")
    (folder / "in.txt").symlink_to(folder / "latin.txt")
    os.mkfifo(folder / "pipe.txt")
    return folder


def rows() -> Iterator[dict[str, object]]:
    spans = {"document": "d1", "source": "docs/manual.pdf"}
    yield {"Passage": "the third span", **spans, "page": 2, "start": 40, "end": 60}
    yield {"Passage": "the first span", **spans, "page": 1, "start": 0, "end": 14}
    yield {"Passage": "the second span", **spans, "page": 1, "start": 14, "end": 40}
    yield {"Passage": "of a page", "source": "docs/page.html", "document": "d2"}
    yield {"Passage": "of the page, too", "source": "docs/page.html", "document": "d2"}
    yield {"Passage": "of a row", "source": "rows.csv, row 7", "document": "d3"}
    yield {"Passage": "of another row", "source": "docs/rows.csv, row 8, text 2", "document": "d4"}
    yield {"Passage": "of a note", "source": "sub/note.md", "document": "d5"}
    yield {"Passage": "of nothing known"}
    for place, source in enumerate(FORBIDDEN):
        yield {"Passage": f"forbidden number {place}", "source": source}


FORBIDDEN = (
    *("secret.txt", "../secret.txt", "docs/../secret.txt", "docs/../../secret.txt", "out.txt"),
    *(
        "away/inner.txt",
        "docs/away/inner.txt",
        ".env.txt",
        "sub/../.env.txt",
        "key.pem",
        "pipe.txt",
    ),
    *("/etc/passwd", "//etc/passwd", "docs//etc/passwd", "docs", "docs/", ".", ".."),
    *("sub", "MANUAL.PDF", "docs/sub/../../secret.txt", "..\\secret.txt", "manual.pdf\0.txt"),
    *(
        "manual.pdf\n",
        "file:///etc/passwd",
        "%2e%2e/secret.txt",
        "docs/manual.pdf/../../secret.txt",
    ),
)


@pytest.fixture(scope="module")
def index(tiny_models, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("passages")
    table = folder / "rows.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return build_index(folder / "index", table, tiny_models.encoder)


@pytest.fixture(scope="module")
def http(serving, index, documents) -> Iterator[httpx.Client]:
    with serving(index, documents=str(documents)) as url, httpx.Client(base_url=url) as client:
        yield client


@pytest.fixture(scope="module")
def ids(http) -> dict[str, str]:
    """The ids of the passages by their texts."""
    found = http.post("/search", json={"query": "span of number", "search": "dense", "top_k": 99})
    return {hit["text"]: hit["id"] for hit in found.json()["hits"]}


def context(http, name: str) -> tuple[str | None, str, str | None]:
    answer = http.get(f"/v1/passages/{name}/context")
    assert answer.headers["cache-control"] == "no-store"
    found = answer.json()
    before, after = (each and each["text"] for each in (found["before"], found["after"]))
    return before, found["passage"]["text"], after


def test_neighbours_are_those_in_the_document(http, ids):
    first, second, third = (ids[f"the {each} span"] for each in ("first", "second", "third"))
    assert context(http, first) == (None, "the first span", "the second span")
    assert context(http, second) == ("the first span", "the second span", "the third span")
    assert context(http, third) == ("the second span", "the third span", None)
    # Without spans, in the order in which they were stored.
    assert context(http, ids["of a page"]) == (None, "of a page", "of the page, too")
    assert context(http, ids["of a row"]) == (None, "of a row", None)
    assert context(http, ids["of nothing known"]) == (None, "of nothing known", None)
    missing = http.get("/v1/passages/ffff/context")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("name", ["x" * 300, "a%00b", "%ff", "a'b", "..%2f..", "%0a"])
def test_an_id_that_is_none_is_not_found(http, name):
    for part in ("context", "original"):
        assert http.get(f"/v1/passages/{name}/{part}").status_code == 404


def original(http, name: str, **headers: str) -> httpx.Response:
    return http.get(f"/v1/passages/{name}/original", headers=headers)


def test_a_pdf_is_opened_whole_and_in_ranges(http, ids):
    whole = original(http, ids["the first span"])
    assert (whole.status_code, whole.content) == (200, PDF)
    assert whole.headers["content-type"] == "application/pdf"
    assert whole.headers["content-disposition"] == 'inline; filename="manual.pdf"'
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["cache-control"] == "no-store"
    assert "sandbox" not in whole.headers["content-security-policy"]
    part = original(http, ids["the first span"], Range="bytes=9-18")
    assert (part.status_code, part.content) == (206, b"0123456789")
    assert part.headers["content-range"] == f"bytes 9-18/{len(PDF)}"
    assert original(http, ids["the first span"], Range="bytes=-3").content == PDF[-3:]
    assert original(http, ids["the first span"], Range="bytes=99999-").status_code == 416
    head = http.head(f"/v1/passages/{ids['the first span']}/original")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(PDF))


def test_a_web_page_is_shown_in_a_sandbox(http, ids):
    page = original(http, ids["of a page"])
    assert page.text == PAGE
    assert page.headers["content-type"] == "text/html"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'")
    assert "script" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"


def test_a_row_opens_its_table_and_a_name_without_the_folder_its_file(http, ids):
    for text in ("of a row", "of another row"):
        table = original(http, ids[text])
        assert table.text == "text\na\nb\n"
        assert table.headers["content-type"] == "text/plain; charset=utf-8"
    assert original(http, ids["of a note"]).content == "# Über\n".encode()
    assert original(http, ids["of nothing known"]).status_code == 404


@pytest.mark.parametrize("place", range(len(FORBIDDEN)), ids=FORBIDDEN)
def test_no_source_leads_out_of_the_folder(http, ids, place):
    refused = original(http, ids[f"forbidden number {place}"])
    assert refused.status_code == 404
    assert SECRET not in refused.text
    assert refused.json()["error"]["code"] == "no_original"


def open_files() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


def test_links_within_the_folder_are_followed_and_files_are_closed(documents):
    before = open_files()
    opened = Originals(str(documents)).open("docs/in.txt")
    assert opened is not None
    assert os.read(opened, 9) == "Öl".encode("latin-1")
    os.close(opened)
    for source in FORBIDDEN:
        assert Originals(str(documents)).open(source) is None
    assert open_files() == before
    with pytest.raises(UserError, match="--documents /nowhere: no such folder"):
        Originals("/nowhere")


def test_a_folder_that_becomes_a_link_meanwhile_is_not_followed(documents, monkeypatch):
    originals = Originals(str(documents))
    inside = originals._inside

    def swapped(name: str):
        found = inside(name)
        (documents / "sub").rename(documents / "was")
        (documents / "sub").symlink_to(documents.parent / "other")
        return found

    (documents / "sub" / "inner.txt").write_text("of our own")
    (documents.parent / "other" / "note.md").write_text(SECRET)
    monkeypatch.setattr(originals, "_inside", swapped)
    try:
        assert originals.open("sub/inner.txt") is None
    finally:
        (documents / "sub").unlink()
        (documents / "was").rename(documents / "sub")


def test_without_the_folder_there_is_no_original(serving, index, ids):
    with serving(index) as url:
        refused = httpx.get(f"{url}/v1/passages/{ids['the first span']}/original")
        assert refused.status_code == 404
        assert httpx.get(f"{url}/v1/page").json()["can"]["originals"] is False


def test_sources_are_listed_with_the_condition_of_their_passages(http):
    answer = http.get("/v1/sources", params={"limit": 1000})
    found = {each["source"]: each for each in answer.json()["data"]}
    assert answer.json()["total"] == len(found)
    assert found["docs/manual.pdf"]["passages"] == 3
    for name, count in {"docs/manual.pdf": 3, "rows.csv": 1, "docs/page.html": 2}.items():
        asked = {"query": "span of row", "top_k": 99, "where": found[name]["where"]}
        assert len(http.post("/search", json=asked).json()["hits"]) == count
    first = http.get("/v1/sources", params={"limit": 2, "offset": 1}).json()
    assert ([each["source"] for each in first["data"]], first["has_more"]) == (
        sorted(found)[1:3],
        True,
    )
    assert http.get("/v1/sources", params={"limit": "-1"}).status_code == 400
