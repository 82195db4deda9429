"""Tables of scored candidates: written, read, and refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dalm.config import Columns
from dalm.errors import UserError
from dalm.io.examples import read_examples
from dalm.io.scored_tables import read_scored, write_scored
from dalm.io.writers import write_table
from dalm.records import Passage, ScoredCandidate, ScoredQuestion

OIL = Passage.of("The pump takes oil.", "Pump", source="pump.pdf", page=3)
SEAL = Passage.of("The pump has a seal.", "Pump")
FAN = Passage.of("The fan is loud.", "Fan")
QUESTION = ScoredQuestion(
    "What does the pump take?",
    "oil",
    (ScoredCandidate(OIL, -0.5), ScoredCandidate(SEAL, -2.25), ScoredCandidate(FAN, None)),
    OIL,
    (SEAL,),
    temperature=0.25,
)
UNLABELLED = ScoredQuestion("Why?", None, (ScoredCandidate(FAN, 0.0),))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "scored.jsonl"
    write_scored(path, [QUESTION, UNLABELLED], "generator")
    return path


def test_what_is_written_is_read(table: Path) -> None:
    found = read_scored(table, Columns())
    assert found == [QUESTION, UNLABELLED]
    assert found[0].candidates[0].passage.place == "pump.pdf, page 3"


def test_candidates_are_in_the_order_of_their_scores(table: Path, tmp_path: Path) -> None:
    record = json.loads(table.read_text().splitlines()[0])
    record["Candidates"].reverse()
    shuffled = tmp_path / "shuffled.jsonl"
    shuffled.write_text(json.dumps(record))
    assert read_scored(shuffled, Columns()) == [QUESTION]


def test_titles_are_prepended(table: Path) -> None:
    question = read_scored(table, replace(Columns(), prepend_title=True))[0]
    assert question.positive == Passage.of("Pump\nThe pump takes oil.", "Pump")
    assert [each.passage.text for each in question.candidates][1:] == [
        "Pump\nThe pump has a seal.",
        "Fan\nThe fan is loud.",
    ]
    assert question.negatives == (Passage.of("Pump\nThe pump has a seal.", "Pump"),)


def test_it_is_a_table_of_pairs_too(table: Path) -> None:
    from dalm.config import RetrieverOnly

    (example,) = read_examples(table, RetrieverOnly(output_dir="out"))
    assert (example.query, example.answer) == (QUESTION.query, "oil")
    assert example.passage == OIL
    assert [negative.id for negative in example.negatives] == [SEAL.id]


def test_negatives_have_titles_where_the_right_passage_has_one(table: Path) -> None:
    """Else a title before a passage would be a mark of the right one."""
    from dalm.config import RetrieverOnly

    (example,) = read_examples(table, RetrieverOnly(output_dir="out", prepend_title=True))
    assert example.passage == Passage.of(f"Pump\n{OIL.text}", "Pump")
    assert example.negatives == (Passage.of(f"Pump\n{SEAL.text}", "Pump"),)


@pytest.mark.parametrize(
    "candidates",
    [
        None,
        [{"id": "1", "text": "No score."}],
        [{"id": "1", "text": "A text.", "score": "high"}],
        [{"id": "1", "text": "A text.", "score": True}],
        [{"text": "No id.", "score": 1}],
        ["A text."],
    ],
)
def test_a_broken_candidate_is_named_by_its_row(candidates: object, tmp_path: Path) -> None:
    path = tmp_path / "broken.jsonl"
    rows = [{"Query": "Why?", "Candidates": []}, {"Query": "What?", "Candidates": candidates}]
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match=r"broken\.jsonl, line 2: no question with scored candid"):
        read_scored(path, Columns())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"Passage": "Another passage."}, "its passage is no candidate with a score"),
        ({"Negatives": ["Another passage."]}, "one of its negatives is no candidate"),
        ({"Query": " "}, "its question is empty"),
        ({"Candidates": "['one']"}, "Candidates is a text, and no JSON"),
    ],
)
def test_what_is_wrong_is_said(
    changed: dict[str, object], said: str, table: Path, tmp_path: Path
) -> None:
    record = json.loads(table.read_text().splitlines()[0]) | changed
    (tmp_path / "broken.jsonl").write_text(json.dumps(record))
    with pytest.raises(UserError, match=rf"line 1: no question with scored candidates \({said}"):
        read_scored(tmp_path / "broken.jsonl", Columns())


@pytest.mark.parametrize("name", ["scored.csv", "scored.parquet"])
def test_other_kinds_of_table_hold_the_same(name: str, table: Path, tmp_path: Path) -> None:
    """Of the candidates one has a source and a page: in parquet the others have empty ones."""
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    write_table(tmp_path / name, {column: [row[column] for row in rows] for column in rows[0]})
    assert read_scored(tmp_path / name, Columns()) == [QUESTION, UNLABELLED]


def test_a_passage_is_known_by_its_text_and_has_the_best_of_its_scores(tmp_path: Path) -> None:
    candidates = [
        {"id": "1", "text": FAN.text, "title": "Fan", "score": 0.5},
        {"id": "doc 2", "text": OIL.text, "title": "Pump", "score": 2.0},
        {"id": "doc 3", "text": OIL.text.upper(), "title": "Pump", "score": 1.0},
    ]
    path = tmp_path / "made.jsonl"
    path.write_text(json.dumps({"Query": "What?", "Passage": OIL.text, "Candidates": candidates}))
    (question,) = read_scored(path, Columns())
    assert question.candidates == (ScoredCandidate(OIL, 2.0), ScoredCandidate(FAN, 0.5))
    assert question.positive == OIL


@pytest.mark.parametrize("temperature", [0, -1.0, True, "hot", [0.1]])
def test_a_temperature_is_a_positive_number(temperature: object, tmp_path: Path) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text(json.dumps({"Query": "Why?", "Candidates": [], "Temperature": temperature}))
    with pytest.raises(UserError, match=r"line 1: no question with scored candidates"):
        read_scored(path, Columns())


def test_the_positive_has_a_score(table: Path, tmp_path: Path) -> None:
    record = json.loads(table.read_text().splitlines()[0]) | {"Passage": FAN.text}
    (tmp_path / "broken.jsonl").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"line 1: no question with scored candidates"):
        read_scored(tmp_path / "broken.jsonl", Columns())


def test_a_table_of_pairs_holds_no_candidates(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("Query,Passage\nWhat?,A passage.\n")
    with pytest.raises(UserError, match=r"make one: dalm score-candidates .*pairs\.csv"):
        read_scored(path, Columns())
