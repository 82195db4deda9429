"""Two systems side by side: nothing tells which is which before the vote."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from dalm.errors import UserError
from dalm.serving.comparisons import SHOWN
from dalm.serving.server import open_service
from tests.llm.stub_server import Sent
from tests.llm.stub_server import serving as stub_serving
from tests.serving.conftest import build_index, dalm, serve_settings

QUESTION = {"question": "Where does Ada live?"}


@pytest.fixture(scope="module")
def index(people_index: Path, tmp_path_factory) -> Path:
    return Path(shutil.copytree(people_index, tmp_path_factory.mktemp("compared") / "index"))


@pytest.fixture(scope="module")
def other_index(tiny_models, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("other")
    table = folder / "rows.jsonl"
    rows = [{"Passage": "Ada lived in Bern once.", "source": "old.pdf", "Edition": "a secret"}]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return build_index(folder / "index", table, tiny_models.encoder)


@pytest.fixture(scope="module")
def generator() -> Iterator[Any]:
    with stub_serving() as stub:
        stub.write = lambda asked: f"It says: {asked[-300:]}"
        yield stub


@pytest.fixture(scope="module")
def http(serving, index, other_index, generator, tiny_models) -> Iterator[httpx.Client]:
    options = {"generator_url": generator.url, "generator_model": "stub", "max_concurrent": 1}
    compared = {"compare_index": str(other_index), "feedback": True}
    with (
        serving(index, **options, **compared) as url,
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        yield client


def events(http: httpx.Client, body: Any = QUESTION) -> list[dict[str, Any]]:
    text = http.post("/v1/comparisons", json=body).text
    assert text.endswith("data: [DONE]\n\n")
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line[:5] == "data:"]
    return [json.loads(line) for line in lines[:-1]]


@pytest.mark.parametrize("drawn", [0, 1])
def test_the_vote_tells_which_is_which_and_nothing_before_it(http, monkeypatch, drawn):
    monkeypatch.setattr("secrets.randbits", lambda _: drawn)
    *deltas, last = events(http)
    assert [each["side"] for each in deltas] == ["a", "b"]
    assert [each["delta"] for each in deltas] == [last["a"]["answer"], last["b"]["answer"]]
    assert set(last) == {"id", "a", "b"}
    texts = {side: {each["text"] for each in last[side]["citations"]} for side in ("a", "b")}
    tuned = next(side for side in texts if "Ada lives in Ulm." in texts[side])
    assert tuned == ("a" if drawn else "b")
    other = "b" if tuned == "a" else "a"
    assert texts[other] == {"Ada lived in Bern once."}
    for side in ("a", "b"):
        for passage in last[side]["citations"]:
            assert set(passage) <= {"number", "support", *SHOWN}
    assert "a secret" not in json.dumps(last)
    assert http.get(f"/v1/answers/{last['id']}").status_code == 404
    vote = {"answer_id": last["id"], "person": "p", "kind": "comparison", "value": "a"}
    told = http.post("/v1/feedback", json=vote)
    assert (told.status_code, told.json()["tuned"]) == (201, tuned)


def test_nothing_is_sent_before_both_have_answered(serving, index, generator, tiny_models):
    options = {"generator_url": generator.url, "generator_model": "stub", "feedback": True}
    local = {"compare_generator_name_or_path": str(tiny_models.generator)}
    generator.delay = 1.0
    try:
        with serving(index, **options, **local) as url:
            assert httpx.get(f"{url}/v1/page").json()["can"]["compare"] is True
            start = time.monotonic()
            with httpx.stream("POST", f"{url}/v1/comparisons", json=QUESTION, timeout=30) as reply:
                for line in reply.iter_lines():
                    if line.startswith("data:"):
                        break
            assert time.monotonic() - start >= 1.0
    finally:
        generator.delay = 0.0


def test_one_side_that_fails_ends_both(http, generator):
    generator.plan.append(Sent({"error": {"message": "no such thing"}}, 400))
    refused = http.post("/v1/comparisons", json=QUESTION)
    assert refused.status_code == 400
    assert "refuses" in refused.json()["error"]["message"]
    assert len(events(http)) == 3  # no place is lost


@pytest.mark.parametrize(
    "body", [{}, {"question": " "}, {"question": 1}, {**QUESTION, "side": "a"}, {"question": None}]
)
def test_malformed_comparisons_are_refused(http, body):
    assert http.post("/v1/comparisons", json=body).status_code == 400


def test_without_another_system_there_is_no_comparison(serving, url):
    missing = httpx.post(f"{url}/v1/comparisons", json=QUESTION)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "no_comparison")


def test_what_cannot_be_compared_is_refused_before_models_are_loaded(index, tiny_models, tmp_path):
    for options, message in (
        ({"compare_index": str(index)}, "is the index that is served"),
        ({"compare_index": str(tmp_path)}, "is not an index"),
        ({"compare_previous": True}, "--compare-previous: .* has no earlier generation"),
        ({"compare_generator_name_or_path": str(tmp_path / "no")}, "generator"),
    ):
        with pytest.raises(UserError, match=message):
            open_service(str(index), serve_settings(tiny_models, feedback=True, **options))


def test_models_are_shared_and_what_more_is_loaded_is_said(index, other_index, tiny_models, caplog):
    caplog.set_level("INFO")
    settings = serve_settings(tiny_models, feedback=True, compare_index=str(other_index))
    service = open_service(str(index), settings)
    assert service.compared is not None
    assert service.compared.index.retriever is service.index.retriever
    assert service.compared.generating is service.generating
    assert f"compared   with {other_index}, generator: 0.0 MB of weights beside" in caplog.text
    settings = serve_settings(
        tiny_models, feedback=True, compare_generator_name_or_path=str(tiny_models.generator)
    )
    service = open_service(str(index), settings)
    assert service.compared is not None
    assert service.compared.generating is not service.generating
    loaded = service.generating.local.generator.model.parameters()
    size = sum(each.nbytes for each in loaded) / 1e6
    assert f"generator: {size:.1f} MB of weights beside the" in caplog.text


def test_the_generation_before_is_compared_with_and_followed(index, people, tiny_models, tmp_path):
    folder = Path(shutil.copytree(index, tmp_path / "index"))
    other = tmp_path / "other.csv"
    other.write_text("Passage\nAda lives in Rome.\n")
    build_index(folder, other, tiny_models.encoder, "--rebuild", "--prune")
    settings = serve_settings(tiny_models, feedback=True, compare_previous=True)
    service = open_service(str(folder), settings)
    assert service.compared is not None

    def numbers() -> tuple[int, int]:
        assert service.compared is not None
        return service.index.generation.number, service.compared.index.generation.number

    assert numbers() == (2, 1)
    (hit,) = service.compared.index.search("Where does Ada live?", 1)
    assert hit.passage.text == "Ada lives in Ulm."
    assert dalm("index", "--index-dir", folder, "--rollback") == 0
    assert service.served.refresh()
    assert service.compared.served.refresh()
    assert numbers() == (1, 2)
    both = serve_settings(tiny_models, feedback=True, compare_previous=True, compare_index="x")
    with pytest.raises(UserError, match="name two indexes; take one"):
        open_service(str(folder), both)


def test_a_passage_of_either_system_has_neighbours(http):
    shown = events(http)[-1]
    ids = [hit["id"] for side in "ab" for hit in shown[side]["citations"]]
    answers = [http.get(f"/v1/passages/{each}/context").status_code for each in ids]
    assert answers == [200] * len(ids)
