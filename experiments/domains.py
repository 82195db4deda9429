"""Write the tables of the domains on which teachers are compared, and describe them.

A domain is questions with answers, the same with their gold passages, test questions on other
documents, and a knowledge base that holds the passages of both. `Title` names the document: the
unit of the intervals.

    covidqa           765 expert questions, 2,341 passages of 62 articles; answers are phrases that
                      stand in their passage
    covidqa-reworded  the same questions with their answers in SmolLM2's words (reworded.py)
    medquad           700 questions and 400 test questions, drawn with a fixed seed; answers are the
                      first sentences of their passages. Searched are their passages and 2,000 of
                      the other 10,000, drawn likewise
    pubmedqa          700 questions, 300 test questions, 1,000 abstracts; answers are the abstracts'
                      conclusions, which were cut off
    toy-shared        the toy domain, its values shared within a place: the answer stands in about
                      four of a place's eight passages. 2,048 questions on half of the places

A number at the end of a name stands for so many of the questions, drawn with a fixed seed.
"""

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from common import DATA, WORK, rows_of, write_rows
from reworded import reworded

FOLDER = WORK / "teachers"
DRAWN = {"train": 700, "test": 400, "others": 2000}
"""Rows of MedQuAD's tables, and passages beside theirs."""
PLACE = 32
"""Rows of a place in the toy domain's tables."""
STRATA = ("in one passage", "in several", "in none")
"""Where a test question's answer stands, word for word."""

Row = dict[str, str]


@dataclass(frozen=True)
class Domain:
    """The tables of a domain."""

    name: str
    train: str
    """Questions and answers; no passage is marked."""
    gold: str
    """The same with their passages."""
    test: str
    passages: str


@cache
def domain(name: str) -> Domain:
    """Return a domain, whose tables are written if they are missing."""
    folder = FOLDER / name
    files = {each: folder / f"{each}.csv" for each in ("train", "gold", "test", "passages")}
    if not all(file.exists() for file in files.values()):
        whole, count = re.fullmatch(r"(.*?)(?:-(\d+))?", name).groups()
        train, test, passages = {
            "covidqa": _covidqa,
            "covidqa-reworded": _covidqa,
            "medquad": _medquad,
            "pubmedqa": _pubmedqa,
            "toy-shared": _toy_shared,
        }[whole]()
        passages = [*passages, *train, *test]
        if count:
            train = random.Random(0).sample(train, int(count))
        if whole == "covidqa-reworded":
            train = reworded(train)
        pairs = ("Title", "Passage", "Query", "Answer")
        write_rows(files["train"], ("Query", "Answer"), train)
        write_rows(files["gold"], pairs, train)
        write_rows(files["test"], pairs, test)
        write_rows(files["passages"], ("Title", "Passage"), _distinct(passages))
    return Domain(name, **{each: str(file) for each, file in files.items()})


def _covidqa() -> tuple[list[Row], list[Row], list[Row]]:
    train, test, base = (rows_of(DATA / f"covidqa_{x}.csv") for x in ("train", "test", "passages"))
    return train, test, base


def _medquad() -> tuple[list[Row], list[Row], list[Row]]:
    tables = {part: rows_of(DATA / f"medquad_{part}.csv") for part in ("train", "test")}
    drawn = {part: random.Random(0).sample(rows, DRAWN[part]) for part, rows in tables.items()}
    chosen = {row["Passage"] for rows in drawn.values() for row in rows}
    rest = [row for rows in tables.values() for row in rows if row["Passage"] not in chosen]
    return drawn["train"], drawn["test"], random.Random(1).sample(rest, DRAWN["others"])


def _pubmedqa() -> tuple[list[Row], list[Row], list[Row]]:
    train, test = (rows_of(DATA / f"pubmedqa_{part}.csv") for part in ("train", "test"))
    return train, test, []


def _toy_shared() -> tuple[list[Row], list[Row], list[Row]]:
    from toy_models import tables

    train, test = (_by_place(rows_of(Path(file))) for file in tables(shared=True))
    return train[len(train) // 2 :], test, train


def _by_place(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with their place as the document that they belong to."""
    return [row | {"Title": f"place {n // PLACE}"} for n, row in enumerate(rows)]


def _distinct(rows: Sequence[Row]) -> list[Row]:
    return list({row["Passage"]: row for row in rows}.values())


def describe(name: str) -> dict[str, object]:
    """Return the document of each test question, and where its answer stands.

    Questions are in the order of their first row.
    """
    from dalm.records import question_id

    found = domain(name)
    texts = [row["Passage"] for row in rows_of(Path(found.passages))]
    asked: dict[str, list[Row]] = {}
    for row in rows_of(Path(found.test)):
        asked.setdefault(question_id(row["Query"]), []).append(row)
    strata = [stratum({row["Answer"] for row in rows}, texts) for rows in asked.values()]
    documents = [rows[0]["Title"] for rows in asked.values()]
    sizes = {"passages": len(texts), "questions": len(rows_of(Path(found.train)))}
    return {**sizes, "documents": documents, "strata": strata}


def stratum(answers: Iterable[str], texts: Sequence[str]) -> str:
    """Return in how many passages one of a question's answers stands."""
    from dalm.teachers.answer_match import contains

    holding = sum(any(contains(text, answer) for answer in answers) for text in texts)
    return STRATA[(2, 0, 1)[min(holding, 2)]]
