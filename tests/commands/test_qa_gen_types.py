"""Queries of several types, unanswerable ones and a judge, from end to end over HTTP."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from dalm.commands.qa_gen import qa_gen
from dalm.config import Columns, QaGen
from dalm.io.evaluation_set import read_evaluation_set
from dalm.io.examples import read_examples


def replies(asked: str) -> str:
    """Write a question, keywords and an unanswerable question on an engine, or a verdict."""
    match = re.search(r"The engine number (\d+) of (\w+) burns (\w+ pellets)\.", asked)
    assert match, asked
    number, town, fuel = match.groups()
    if "Judge the query" in asked:
        bad = "fueled" in asked and int(number) % 2
        marks = {"answerable": "yes", "specific": "yes", "natural": "no" if bad else "yes"}
        return json.dumps({"reason": "so it is", **marks})
    common = {"answer": fuel, "quote": match[0]}
    queries = [
        {"type": "question", "query": f"What is engine {number} of {town} fueled by?", **common},
        {"type": "keywords", "query": f"{town} engine {number} fuel", **common},
        {
            "type": "question",
            "query": f"Which company sold engine {number} to {town} and when?",
            "answer": "unanswerable",
            "quote": match[0],
        },
    ]
    return json.dumps({"queries": queries})


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def made(stub: Any, engines: Path, tmp_path: Path) -> Path:
    stub.write = replies
    options = {"query_types": ["question=2", "keywords"], "answer_types": ["short", "unanswerable"]}
    settings = QaGen(
        backend="http",
        base_url=stub.url,
        generator_name_or_path="m",
        output_dir=str(tmp_path / "out"),
        test_share=0.3,
        judge=True,
        judge_model="j",
        **options,
    )
    qa_gen(str(engines), settings)
    return tmp_path / "out"


def test_unanswerable_queries_are_marked_and_nothing_trains_on_them(made, stub, capsys):
    train, test = (rows(made / f"question_answer_pairs_{n}.csv") for n in ("train", "test"))
    assert {row["QueryType"] for row in train} == {"question", "keywords"}
    assert "Answerable" not in train[0]
    lacking = [row for row in test if row["Answerable"] == "false"]
    near = {row["NearPassageId"] for row in lacking}
    assert near & {row["PassageId"] for row in train}, "those of the training documents as well"
    assert near & {row["PassageId"] for row in test}
    for row in lacking:
        assert (row["Passage"], row["Title"], row["Answer"], row["PassageId"]) == ("", "", "", "")
        assert row["AnswerType"] == "unanswerable"
        assert row["NearPassageId"]
    hard = made / "question_answer_pairs_test_hard.csv"
    assert not hard.exists() or all(row["Answerable"] == "true" for row in rows(hard))

    examples = read_examples(made / "question_answer_pairs_test.csv", Columns())
    assert not {each.query for each in examples} & {row["Query"] for row in lacking}
    path = str(made / "question_answer_pairs_test.csv")
    read = read_evaluation_set(path, Columns(), needs=("passage", "answer"))
    marked = {query.query: query for query in read.queries}
    for row in test:
        query = marked[row["Query"]]
        assert query.answerable == (row["Answerable"] == "true")
        assert bool(query.gold) == query.answerable


def test_the_judge_is_another_model_and_its_replies_are_kept(made, stub, capsys):
    models = [body["model"] for body in stub.bodies]
    assert set(models) == {"m", "j"}
    rejected = [json.loads(line) for line in (made / "rejections.jsonl").read_text().splitlines()]
    by_judge = [each for each in rejected if each["Gate"] == "judge"]
    assert by_judge
    assert {each["Reason"] for each in by_judge} == {"not natural"}
    assert len((made / "journal-judge.jsonl").read_text().splitlines()) == models.count("j")
