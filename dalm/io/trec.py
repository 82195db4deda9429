"""Read and write TREC's runs (which passages a system found) and qrels (which are relevant).

A run's line is `query Q0 passage rank score name`, a qrels line `query 0 passage grade`; BEIR's
qrels, `query passage grade` below a header, are read as well.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from dalm.artifacts import write_file
from dalm.errors import UserError, reason_of
from dalm.records import Hit

T = TypeVar("T")
Run = dict[str, dict[str, float]]
"""Query → passage → score."""
Qrels = dict[str, dict[str, int]]
"""Query → passage → grade."""


def read_run(path: str | Path) -> Run:
    """Read a run. Its ranks are ignored: the scores decide, as they do for trec_eval.

    Raises:
        UserError: the file or a line can't be read, a score is not a finite number, or a passage
            is listed twice for a query. It names the line.
    """
    run: Run = {}
    for number, cells in _lines(path):
        if len(cells) != 6:
            raise _bad(path, number, f"{len(cells)} fields; a run has 6: query Q0 passage rank …")
        query, _, passage, _, score, _ = cells
        row = _row(run, query, passage, f"{path}, line {number}")
        row[passage] = _score(path, number, score)
    return run


def read_qrels(path: str | Path) -> Qrels:
    """Read relevance judgements, in TREC's layout or BEIR's.

    Raises:
        UserError: as `read_run`, and for a grade that is not an integer.
    """
    qrels: Qrels = {}
    for number, cells in _lines(path):
        if len(cells) not in (3, 4):
            raise _bad(path, number, f"{len(cells)} fields; qrels have 4: query 0 passage grade")
        query, passage, grade = cells[0], cells[-2], cells[-1]
        if number == 1 and len(cells) == 3 and not _is_whole(grade):
            continue  # BEIR's header
        if not _is_whole(grade):
            raise _bad(path, number, f"the grade {grade!r} is not an integer")
        _row(qrels, query, passage, f"{path}, line {number}")[passage] = int(grade)
    return qrels


def write_run(path: Path, name: str, rankings: Mapping[str, Sequence[Hit]]) -> None:
    """Write hits by query id, ranked in the order given."""
    word = "_".join(name.split()) or "dalm"
    lines = (
        f"{_id(query)} Q0 {_id(hit.passage.id)} {rank} {hit.score:.9g} {word}"
        for query, hits in rankings.items()
        for rank, hit in enumerate(hits, start=1)
    )
    _write(path, lines)


def write_qrels(path: Path, qrels: Mapping[str, Mapping[str, int]]) -> None:
    """Write relevance judgements by query id."""
    lines = (
        f"{_id(query)} 0 {_id(passage)} {grade}"
        for query, grades in qrels.items()
        for passage, grade in grades.items()
    )
    _write(path, lines)


def _id(name: str) -> str:
    """Return an id as one word: blanks separate the fields of a line."""
    return "".join(f"%{ord(each):02X}" if each.isspace() else each for each in name)


def _write(path: Path, lines: Iterable[str]) -> None:
    with write_file(path) as out:
        out.writelines(f"{line}\n" for line in lines)


def _lines(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of every line that isn't blank, with the line's number."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read: {reason_of(error)}; name a text file") from error
    if not text.strip():
        raise UserError(f"{path} is empty; name a file with a line for each judgement or hit")
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line.split()


def _row(table: dict[str, dict[str, T]], query: str, passage: str, place: str) -> dict[str, T]:
    row = table.setdefault(query, {})
    if passage in row:
        raise UserError(
            f"{place}: passage {passage!r} is listed twice for query {query!r}; remove the line"
        )
    return row


def _score(path: str | Path, number: int, text: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise _bad(path, number, f"the score {text!r} is not a finite number")
    return score


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _bad(path: str | Path, number: int, problem: str) -> UserError:
    return UserError(f"{path}, line {number}: {problem}; correct or remove the line")
