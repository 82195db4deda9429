"""The toy domain: reproducible, no overlap of the splits, and solvable only by its jargon."""

import re
from collections import defaultdict
from pathlib import Path

import pytest

from experiments.toy import COLUMNS, FILES, KINDS, PACKAGED, QUESTIONS, Split, toy_rows, write

SPLITS: tuple[Split, ...] = ("train", "test")
FUNCTION_WORDS = set("a an at in is it its of the to by for and what which does how i".split())


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def place(row: dict[str, str]) -> str:
    return max(re.findall(r"[A-Z][a-z]+", row["Query"])[1:], key=len)


def test_the_packaged_tables_are_written_again_byte_for_byte(tmp_path: Path) -> None:
    write(tmp_path)
    for name in FILES.values():
        written = (tmp_path / name).read_bytes()
        assert written == (PACKAGED / name).read_bytes()
        assert b"\r" not in written
        assert written.startswith(",".join(COLUMNS).encode() + b"\n")


def test_both_tables_stay_small() -> None:
    sizes = [(PACKAGED / name).stat().st_size for name in FILES.values()]
    assert sum(sizes) < 1_500_000
    assert len(toy_rows("train")) == 4096
    assert len(toy_rows("test")) == 512


def test_no_passage_title_or_place_is_in_both_splits() -> None:
    train, test = toy_rows("train"), toy_rows("test")
    for key in ("Passage", "Title"):
        assert not {row[key] for row in train} & {row[key] for row in test}
    assert not {place(row) for row in train} & {place(row) for row in test}


@pytest.mark.parametrize("split", SPLITS)
def test_every_passage_has_several_questions_and_every_place_several_passages(split: Split) -> None:
    questions, passages = defaultdict(set), defaultdict(set)
    for row in toy_rows(split):
        assert place(row) in row["Passage"]
        questions[row["Passage"]].add(row["Query"])
        passages[place(row)].add(row["Passage"])
    assert {len(each) for each in questions.values()} == {4}
    assert {len(each) for each in passages.values()} == {len(KINDS)}


@pytest.mark.parametrize("split", SPLITS)
def test_an_answer_is_in_its_passage_once_and_not_in_its_question(split: Split) -> None:
    for row in toy_rows(split):
        assert re.findall(r"[a-z]+", row["Passage"].lower()).count(row["Answer"]) == 1
        assert row["Answer"] not in row["Query"]


@pytest.mark.parametrize("split", SPLITS)
def test_a_question_shares_the_place_with_its_passage_and_no_other_content(split: Split) -> None:
    for row in toy_rows(split):
        shared = words(row["Query"]) & words(row["Passage"])
        assert shared - FUNCTION_WORDS == {place(row).lower()}


def test_titles_and_passages_have_no_plain_word() -> None:
    plain = set(KINDS) | {"pressure", "oil", "paint", "seal", "fuel", "company"}
    assert all(words(" ".join(asked)) & plain for asked in QUESTIONS.values())
    for row in toy_rows("test"):
        assert not words(row["Title"] + " " + row["Passage"]) & plain


def test_the_values_of_one_passage_begin_with_different_pieces() -> None:
    answers = defaultdict(list)
    for row in toy_rows("train"):
        answers[row["Passage"]].append(row["Answer"])
    assert all(len({a[:3] for a in each}) == len(each) for each in answers.values())


def test_shared_values_stand_in_several_passages_and_answer_a_question_in_one() -> None:
    rows = toy_rows("test", shared=True)
    passages: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        passages[place(row)].add(row["Passage"])
    holding = [sum(row["Answer"] in words(text) for text in passages[place(row)]) for row in rows]
    assert min(holding) >= 1
    assert 3.5 < sum(holding) / len(holding) < 5
    asked = {row["Query"]: row for row in rows}
    assert len(asked) == len(rows), "a question has one answer"
    for row in rows:  # no other passage of the place states that value of that attribute
        (stated,) = re.findall(rf"(\w+) {row['Answer']}\b", row["Passage"])
        others = passages[place(row)] - {row["Passage"]}
        assert not any(f"{stated} {row['Answer']}" in text for text in others)
