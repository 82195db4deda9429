import csv
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from dalm.cli import app, run
from dalm.commands.reading_comprehension import reading_comprehension
from dalm.config import ReadingComprehension
from dalm.errors import UserError

PASSAGE = (
    "The main pump at Ulm stopped because the seal was worn out. "
    "Therefore, the oil of the tank ran into the yard {n}. "
    "The {{yard}} was cleaned by the men of the town. The tank is filled again."
)


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    with Path("passages.jsonl").open("w") as file:
        for n in range(40):
            text = PASSAGE.format(n=n)
            file.write(json.dumps({"Title": f"Title {n}", "Passage": text, "page": 3}) + "\n")
    return tmp_path


def make(output: str = "out.jsonl", **options: Any) -> list[dict[str, Any]]:
    reading_comprehension(
        "passages.jsonl", ReadingComprehension(output=output, overwrite_output=True, **options)
    )
    return [json.loads(line) for line in Path(output).read_text().splitlines()]


def test_a_text_is_its_passage_and_exercises_on_it(table, caplog):
    caplog.set_level(logging.INFO)
    rows = make()
    assert len(rows) == 40
    kinds = {kind for row in rows for kind in row["Exercises"]}
    assert kinds == {"title", "completion", "cause", "entailment"}
    for n, row in enumerate(rows):
        flat = " ".join(row["Text"].split())
        assert all(sentence in flat for sentence in PASSAGE.format(n=n).split(". ")[2:3])
        assert len(row["Exercises"]) in (3, 4)
        if "completion" in row["Exercises"]:
            assert row["Exercises"][0] == "completion"
            assert not row["Text"].startswith(PASSAGE.format(n=n))
        else:
            assert row["Text"].startswith(PASSAGE.format(n=n) + "\n\n")
        assert f"Title {n}" in row["Text"]
    assert "40, of which 0 without an exercise" in caplog.text
    assert "title 40" in caplog.text
    assert "none to compare with" in caplog.text
    openings = {row["Text"].replace(str(n), "") for n, row in enumerate(rows)}
    assert len(openings) > 10, "the wording differs from text to text"


def test_texts_depend_on_passage_and_seed_alone(table):
    first = make()
    assert make() == first
    assert make(seed=7) != first
    lines = Path("passages.jsonl").read_text().splitlines(keepends=True)
    Path("passages.jsonl").write_text("".join(reversed(lines[:20])))
    assert make() == first[19::-1]


def test_questions_of_a_model_come_first_and_take_part_in_the_limit(table):
    rows = [
        {"Passage": PASSAGE.format(n=n), "Query": f"Asked {n}{k}?", "Answer": f"answer {n}{k}"}
        for n in (0, 1, 99)
        for k in "abc"
    ]
    with Path("pairs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    texts = make(questions="pairs.csv", exercises_per_passage=2)
    assert texts[0]["Exercises"] == ["question", "question"]
    assert "Asked 0b?" in texts[0]["Text"]
    assert "answer 0b" in texts[0]["Text"]
    assert "question" not in texts[2]["Exercises"]
    alone = make(questions="pairs.csv", patterns=False)
    assert [row["Exercises"] for row in alone[:3]] == [["question"] * 3, ["question"] * 3, []]
    assert alone[2]["Text"] == PASSAGE.format(n=2)


def test_keywords_and_titles_are_no_exercises(table):
    types = ("question", "keywords", "title", "claim", "follow-up")
    rows = [
        {"Passage": PASSAGE.format(n=0), "Query": name, "Answer": "so", "QueryType": name}
        for name in types
    ]
    with Path("pairs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    [first, *_] = make(questions="pairs.csv", patterns=False, exercises_per_passage=9)
    assert first["Exercises"] == ["question", "question"]
    assert "keywords" not in first["Text"]


@pytest.mark.parametrize("source", ["words.txt", "tokenizer"])
def test_words_that_a_general_vocabulary_lacks(table, tiny_models, source):
    general = "main pump stopped because worn therefore yard cleaned town filled again"
    Path("words.txt").write_text(general)
    source = str(tiny_models.encoder) if source == "tokenizer" else source
    text = "The glarnum feeds the dranthol and the pilquex of the main pump."
    rows = [{"Passage": f"{text} Sheet {n}."} for n in range(3)]
    Path("passages.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for row in make(general_vocabulary=source):
        assert "word-to-text" in row["Exercises"]
        assert "glarnum" in row["Text"].split(text, 1)[1]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"patterns": False}, "--no-patterns leaves no exercises"),
        ({"exercises_per_passage": 0}, "--exercises-per-passage 0"),
        ({"output": "out.txt"}, "unknown ending '.txt'"),
        ({"questions": "gone.csv"}, "no file or folder 'gone.csv'"),
        ({"questions": "other.csv"}, "none of the questions in other.csv is about one"),
        ({"general_vocabulary": "no/such"}, "--general-vocabulary no/such could not be loaded"),
        (
            {"patterns": False, "questions": "other.csv", "general_vocabulary": "x"},
            "--general-vocabulary has no effect without --patterns",
        ),
    ],
)
def test_what_cannot_work_is_one_line(table, options, part):
    Path("other.csv").write_text("Passage,Query,Answer\np,q,a\n")
    with pytest.raises(UserError) as caught:
        make(**options)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("out.jsonl").exists()


def test_on_the_command_line_a_file_is_not_replaced_unasked(table, capsys):
    line = ["reading-comprehension", "passages.jsonl", "--output", "out.csv"]
    assert run(app, line) == 0
    assert run(app, line) == 2
    assert "out.csv exists" in capsys.readouterr().err
    assert run(app, [*line, "--overwrite-output"]) == 0
