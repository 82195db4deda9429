"""Keep answers and judgments in a SQLite file beside an index, one transaction each."""

import json
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn, Self, TypeVar

from dalm.errors import UserError, reason_of
from dalm.records import question_id
from dalm.user_feedback.judgments import AnswerRecord, ComparisonRecord, Judgment

T = TypeVar("T")

FILE = "feedback.sqlite"
VERSION = 1
"""Of the tables; a file of a later one is refused."""
APPLICATION = 0x44414C4D  # "DALM": tells our files from other programs'
WAIT = 30.0
"""Seconds to wait for another process's transaction."""
_TABLES = """
CREATE TABLE answers (
    id TEXT PRIMARY KEY, question_id TEXT NOT NULL, asked_at TEXT NOT NULL,
    question TEXT NOT NULL, searched TEXT NOT NULL, answer TEXT NOT NULL,
    not_found INTEGER NOT NULL, stopped INTEGER NOT NULL, generation INTEGER NOT NULL,
    prompt TEXT NOT NULL, settings TEXT NOT NULL, models TEXT NOT NULL, hits TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX answers_by_question ON answers (question_id);
CREATE TABLE comparisons (
    id TEXT PRIMARY KEY, question_id TEXT NOT NULL, asked_at TEXT NOT NULL,
    question TEXT NOT NULL, tuned TEXT NOT NULL, generation INTEGER NOT NULL,
    a TEXT NOT NULL, b TEXT NOT NULL, models TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX comparisons_by_question ON comparisons (question_id);
CREATE TABLE judgments (
    id INTEGER PRIMARY KEY AUTOINCREMENT, answer_id TEXT NOT NULL, person TEXT NOT NULL,
    kind TEXT NOT NULL, value, passage_id TEXT, text TEXT, at TEXT NOT NULL
);
CREATE INDEX judgments_by_answer ON judgments (answer_id);
CREATE INDEX judgments_by_person ON judgments (person);
"""
_JSON = {"settings", "models", "hits", "a", "b"}
_TRUTH = {"not_found", "stopped"}


class UnknownAnswerError(UserError):
    """Report a judgment of an answer or a comparison that isn't kept."""


class FeedbackStore:
    """Answers, comparisons and judgments of one index; several threads and processes may write.

    Each record is one transaction, on the disk (write-ahead log, synchronous=FULL) when the call
    returns: neither the end of the process nor of the machine loses it.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.Lock()
        weakref.finalize(self, connection.close)

    @classmethod
    def open(cls, index_dir: str | Path, *, create: bool = True) -> Self:
        """Open the file in an index's folder.

        Raises:
            UserError: it is damaged, of another program, of a newer version, or can't be opened;
                there is none, and `create` is False.
        """
        path = Path(index_dir) / FILE
        if not create and not path.exists():
            raise UserError(
                f"{index_dir} has no feedback yet; collect some with dalm serve {index_dir} "
                "--feedback"
            )
        with _explained(path):
            connection = sqlite3.connect(
                path, timeout=WAIT, isolation_level=None, check_same_thread=False
            )
            try:
                _prepare(connection, path)
            except BaseException:
                connection.close()
                raise
        return cls(path, connection)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Writing

    def keep_answer(self, record: AnswerRecord) -> None:
        """Keep an answer; one with the same id is replaced."""
        with self._transaction() as connection:
            _insert(connection, "answers", record)

    def keep_comparison(self, record: ComparisonRecord) -> None:
        """Keep a comparison; one with the same id is replaced."""
        with self._transaction() as connection:
            _insert(connection, "comparisons", record)

    def judge(self, judgment: Judgment) -> int:
        """Keep a judgment, and return its number.

        Raises:
            UnknownAnswerError: its answer, or its comparison, isn't kept.
            UserError: its fields don't fit its kind.
        """
        if problem := judgment.problem():
            raise UserError(problem)
        table = "comparisons" if judgment.kind == "comparison" else "answers"
        names = [f.name for f in fields(Judgment) if f.name != "id"]
        with self._transaction() as connection:
            found = connection.execute(
                f"SELECT 1 FROM {table} WHERE id = ?", (judgment.answer_id,)
            ).fetchone()
            if found is None:
                raise UnknownAnswerError(f"there is no {table[:-1]} {judgment.answer_id!r:.80}")
            cursor = connection.execute(
                f"INSERT INTO judgments ({', '.join(names)}) VALUES ({_marks(names)})",
                [getattr(judgment, name) for name in names],
            )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def forget_person(self, person: str) -> int:
        """Delete a person's judgments for good; return their number."""
        with self._transaction() as connection:
            count = connection.execute("DELETE FROM judgments WHERE person = ?", (person,)).rowcount
        self._shrink()
        return count

    def forget_question(self, question: str) -> int:
        """Delete the answers to a question, with their judgments; return the answers' number."""
        asked = (question_id(question),)
        count = 0
        with self._transaction() as connection:
            for table in ("answers", "comparisons"):
                of_question = f"FROM {table} WHERE question_id = ?"
                connection.execute(
                    f"DELETE FROM judgments WHERE answer_id IN (SELECT id {of_question})", asked
                )
                count += connection.execute(f"DELETE {of_question}", asked).rowcount
        self._shrink()
        return count

    # Reading

    def answer(self, id: str) -> AnswerRecord | None:
        """Return an answer by its id; None if it isn't kept."""
        return next(self._read("answers", AnswerRecord, "id", id), None)

    def comparison(self, id: str) -> ComparisonRecord | None:
        """Return a comparison by its id; None if it isn't kept."""
        return next(self._read("comparisons", ComparisonRecord, "id", id), None)

    def answers(self) -> list[AnswerRecord]:
        """Return every answer, oldest first."""
        return sorted(self._read("answers", AnswerRecord), key=lambda each: each.asked_at)

    def comparisons(self) -> list[ComparisonRecord]:
        """Return every comparison, oldest first."""
        return sorted(self._read("comparisons", ComparisonRecord), key=lambda each: each.asked_at)

    def judgments(self, answer_id: str | None = None) -> list[Judgment]:
        """Return every judgment, or those of an answer, in the order in which they were made."""
        by = () if answer_id is None else ("answer_id", answer_id)
        return sorted(self._read("judgments", Judgment, *by), key=lambda each: each.id)

    def _read(self, table: str, kind: type[T], *by: str) -> Iterator[T]:
        names = [f.name for f in fields(kind)]  # type: ignore[arg-type]
        where, value = (f" WHERE {by[0]} = ?", by[1:]) if by else ("", ())
        with self._lock, _explained(self.path):
            rows = self._connection.execute(
                f"SELECT {', '.join(names)} FROM {table}{where}", value
            ).fetchall()
        for row in rows:
            cells = zip(names, row, strict=True)
            try:
                yield kind(**{name: _loaded(name, cell) for name, cell in cells})
            except ValueError as error:
                raise _damaged(self.path, error) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _explained(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _shrink(self) -> None:
        """Take what was deleted out of the files: secure_delete overwrites it in the pages."""
        with self._lock, suppress(sqlite3.OperationalError):  # another process reads: it will
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new file, and refuse one that isn't ours."""
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("BEGIN")  # what follows is read at one moment
    tables, version, application = (
        connection.execute(query).fetchone()[0]
        for query in (
            "SELECT count(*) FROM sqlite_schema",
            "PRAGMA user_version",
            "PRAGMA application_id",
        )
    )
    connection.execute("COMMIT")
    if application != APPLICATION and (application or version or tables):
        raise UserError(f"{path} is a database of another program; move it away")
    if version > VERSION:
        raise UserError(
            f"{path} was written by a newer version of dalm (format {version}, and this version "
            f"reads {VERSION}); update dalm"
        )
    if not version:
        _make_tables(connection)
    _use_write_ahead_log(connection)


def _make_tables(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if not version:  # another process may have made them a moment ago
        for statement in filter(str.strip, _TABLES.split(";")):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Switch to the log; of two processes that switch at once SQLite refuses one, unwaited."""
    limit = time.monotonic() + WAIT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.01)
        else:
            return


def _insert(
    connection: sqlite3.Connection, table: str, record: AnswerRecord | ComparisonRecord
) -> None:
    names = [f.name for f in fields(record)]
    values = [_stored(name, getattr(record, name)) for name in names]
    connection.execute(
        f"INSERT OR REPLACE INTO {table} (question_id, {', '.join(names)}) "
        f"VALUES (?, {_marks(names)})",
        [question_id(record.question), *values],
    )


def _marks(names: list[str]) -> str:
    return ", ".join("?" * len(names))


def _stored(name: str, value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if name in _JSON else value


def _loaded(name: str, cell: Any) -> Any:
    if name in _JSON:
        return json.loads(cell)
    return bool(cell) if name in _TRUTH else cell


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, with the remedy."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        _refuse(path, error)


def _refuse(path: Path, error: sqlite3.DatabaseError) -> NoReturn:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    no_text = not code and isinstance(error, sqlite3.OperationalError)  # no UTF-8
    if no_text or code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        raise _damaged(path, error) from error
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        raise UserError(
            f"{path} is held by another process for more than {WAIT:g} s; end it, and try again"
        ) from error
    raise UserError(f"{path} can't be used: {reason_of(error)}") from error


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path} is damaged ({reason_of(error)}); move it away and start again, or save what it "
        f"holds: sqlite3 {path} .recover"
    )
