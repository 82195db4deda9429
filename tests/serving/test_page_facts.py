"""What the page is told first: example questions of the corpus, modes, what the server can do."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from dalm.records import Hit
from dalm.retrieval import example_questions
from dalm.retrieval.example_questions import FILE, ExampleQuestion, found_by, is_presentable
from dalm.retrieval.index_folder import IndexFolder
from tests.serving.conftest import build_index, dalm

TOPICS = ("pump", "boiler", "filter", "valve", "motor")
TEXT = (
    "A {0} is a machine in which the water of the house is moved. "
    "The {0} was built by Ada Meyer in Ulm in 1931. "
    "The {0} needs {1} litres of oil each year."
)


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("examples") / "rows.jsonl"
    rows = [
        {"Passage": TEXT.format(topic, place), "source": f"{topic}.pdf", "document": topic}
        for place, topic in enumerate(TOPICS, start=3)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def index(table, tiny_models) -> Path:
    return build_index(table.parent / "index", table, tiny_models.encoder)


@pytest.fixture(scope="module")
def http(serving, index) -> Iterator[httpx.Client]:
    with serving(index, search="text") as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


def examples(http: httpx.Client) -> list[str]:
    """Return the examples once they are chosen."""
    end = time.monotonic() + 20
    while not (found := http.get("/v1/page").json()["examples"]) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def test_the_page_is_told_what_is_served(http):
    answer = http.get("/v1/page")
    assert answer.headers["cache-control"] == "no-store"
    found = answer.json()
    assert (found["model"], found["generation"], found["reranker"]) == ("generator", 1, False)
    assert found["modes"] == ["text", "hybrid", "dense"]  # the server's own first
    can = {"upload": False, "feedback": False, "compare": False, "originals": False}
    assert found["can"] == can


def test_questions_are_made_of_passages_that_the_index_finds(http):
    found = examples(http)
    assert len(found) == 3
    sources = set()
    for question in found:
        assert question.endswith("?")
        hits = http.post("/search", json={"query": question, "top_k": 3}).json()["hits"]
        topics = [topic for topic in TOPICS if topic in question]
        assert len(topics) == 1, "the words are the passage's own"
        assert f"{topics[0]}.pdf" in {hit["source"] for hit in hits}
        sources.add(topics[0])
    assert len(sources) == 3, "each of another document"


def test_kept_questions_come_first_and_those_without_their_passage_never(serving, index, tmp_path):
    folder = Path(shutil.copytree(index, tmp_path / "index"))
    generation = IndexFolder(folder).current()
    ids = {text.split()[1]: id_ for id_, text in generation.store.select(("id", "text"))}
    kept = [
        ExampleQuestion("Which pump needs oil of the house?", ("gone",)),
        ExampleQuestion("How much oil does the boiler need?", (ids["boiler"],)),
        ExampleQuestion("How much oil does the filter need?", (ids["pump"],)),
        ExampleQuestion("Where was the valve built by Ada?", (ids["valve"],)),
        ExampleQuestion("When was the motor built by Ada?", (ids["motor"],)),
    ]
    example_questions.save(generation.folder, kept)
    with (
        serving(folder, search="text", allow_uploads=True) as url,
        httpx.Client(base_url=url, timeout=30) as http,
    ):
        found = examples(http)
        assert found[:1] == [kept[1].question]
        assert kept[0].question not in found
        assert http.delete("/documents/boiler").status_code == 200
        assert kept[1].question not in http.get("/v1/page").json()["examples"]
        again = examples(http)
        assert kept[1].question not in again
        assert kept[3].question in again


def test_a_question_is_an_example_if_its_passage_is_among_the_first(index):
    store = IndexFolder(index).current().store
    (id_,) = [i for i, text in store.select(("id", "text")) if "pump" in text]

    class Search:
        def __init__(self, *ranking: str, relevant: bool | None = None) -> None:
            passages = store.passages_of(list(ranking))
            self.hits = [Hit(passages[i], 1.0, relevant=relevant) for i in ranking]

        def search(self, queries, k):
            return [self.hits[:k] for _ in queries]

    others = [i for (i,) in store.select(("id",)) if i != id_]
    asked = [ExampleQuestion("Which?", (id_,))]
    assert found_by(Search(others[0], others[1], id_), asked, store, 3) == asked
    assert found_by(Search(*others[:3], id_), asked, store, 3) == []
    assert found_by(Search(id_, relevant=False), asked, store, 3) == []
    assert found_by(Search(id_), [ExampleQuestion("Which?", ("gone",))], store, 3) == []


@pytest.mark.parametrize(
    ("question", "fits"),
    [
        ("How much oil does the pump need?", True),
        ("油泵需要多少机油才能正常运行呢？", True),
        ("Why?", False),
        ("oil pump", False),
        ("", False),
        ("How much\noil does the pump need?", False),
        ("How " + "very " * 30 + "much?", False),
    ],
)
def test_what_is_read_at_a_glance(question, fits):
    assert is_presentable(question) is fits


def test_questions_of_the_calibration_are_kept_with_the_index(table, tiny_models, tmp_path):
    folder = build_index(tmp_path / "index", table, tiny_models.encoder)
    questions = tmp_path / "questions.jsonl"
    rows = [
        {"Query": f"How much oil does the {topic} need each year?",
         "Passage": TEXT.format(topic, place), "Answer": "x"}
        for place, topic in enumerate(TOPICS, start=3)
    ] + [{"Query": "pump", "Passage": TEXT.format("pump", 3), "Answer": "x"}]  # fmt: skip
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert dalm("index", "--index-dir", folder, "--calibrate", questions) == 0
    kept = example_questions.read(IndexFolder(folder).current().folder)
    assert kept
    for each in kept:
        assert each.question in {row["Query"] for row in rows[:-1]}
        (topic,) = [topic for topic in TOPICS if topic in each.question]
        (text,) = IndexFolder(folder).current().store.texts_of(list(each.passages)).values()
        assert topic in text
    (IndexFolder(folder).current().folder / FILE).write_text("{broken")
    assert example_questions.read(IndexFolder(folder).current().folder) == []
