"""The store of answers and judgments: what is kept, by whom, and what is refused."""

import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from dalm.errors import UserError
from dalm.user_feedback.feedback_store import FILE, FeedbackStore, UnknownAnswerError
from dalm.user_feedback.judgments import AnswerRecord, ComparisonRecord, Judgment

ANSWER = AnswerRecord(
    id="chatcmpl-1",
    question="Who wrote it?",
    searched="Who wrote the book?",
    answer="Ada [1]",
    generation=3,
    not_found=False,
    prompt="<s>Passage: … Who?",
    settings={"search": "hybrid", "sampling": {"stop": []}},
    models={"retriever": "r", "generator": "g", "reranker": None},
    hits=[{"id": "p1", "text": "Ada wrote it.", "score": 0.5}],
)
COMPARISON = ComparisonRecord(
    id="cmp-1", question="Who?", tuned="b", generation=3, a={"answer": "x"}, b={"answer": "y"}
)
JUDGMENT = Judgment(answer_id="chatcmpl-1", person="ada", kind="answer", value=1)


@pytest.fixture
def store(tmp_path: Path) -> FeedbackStore:
    return FeedbackStore.open(tmp_path)


def test_what_is_kept_comes_back(store: FeedbackStore, tmp_path: Path) -> None:
    store.keep_answer(ANSWER)
    store.keep_comparison(COMPARISON)
    number = store.judge(JUDGMENT)
    again = FeedbackStore.open(tmp_path, create=False)
    assert again.answer("chatcmpl-1") == ANSWER
    assert again.comparison("cmp-1") == COMPARISON
    assert again.judgments() == [replace(JUDGMENT, id=number)]
    assert (again.answers(), again.comparisons()) == ([ANSWER], [COMPARISON])
    assert again.answer("chatcmpl-2") is None
    assert again.comparison("chatcmpl-1") is None


def test_a_judgment_is_of_something_that_is_kept(store: FeedbackStore) -> None:
    store.keep_comparison(COMPARISON)
    with pytest.raises(UnknownAnswerError, match="no answer 'chatcmpl-1'"):
        store.judge(JUDGMENT)
    with pytest.raises(UnknownAnswerError, match="no comparison 'chatcmpl-1'"):
        store.judge(replace(JUDGMENT, kind="comparison", value="a"))
    store.judge(replace(JUDGMENT, answer_id="cmp-1", kind="comparison", value="neither"))
    assert len(store.judgments("cmp-1")) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": 2},
        {"value": "up"},
        {"value": None},
        {"kind": "passage", "value": 1},
        {"kind": "right_passage"},
        {"kind": "correction"},
        {"kind": "comparison", "value": 1},
        {"kind": "stars"},
    ],
)
def test_a_judgment_fits_its_kind(store: FeedbackStore, wrong: dict[str, object]) -> None:
    store.keep_answer(ANSWER)
    with pytest.raises(UserError):
        store.judge(replace(JUDGMENT, **wrong))
    assert store.judgments() == []


@pytest.mark.parametrize(
    ("fields", "taken"),
    [
        ({"value": 0}, True),
        ({"value": -1}, False),
        ({"kind": "right_passage", "value": None, "passage_id": ""}, True),
        ({"kind": "right_passage", "value": None, "passage_id": "p"}, False),
        ({"kind": "correction", "value": None, "text": "  "}, True),
        ({"kind": "correction", "value": None, "text": "Ada"}, False),
        ({"kind": "comparison", "value": "tie"}, False),
    ],
)
def test_what_takes_a_judgment_back(fields: dict[str, object], taken: bool) -> None:
    judgment = replace(JUDGMENT, **fields)
    assert judgment.problem() is None
    assert judgment.taken_back is taken


def test_a_person_or_a_question_can_be_forgotten(store: FeedbackStore, tmp_path: Path) -> None:
    other = replace(ANSWER, id="chatcmpl-2", question="What else?")
    for record in (ANSWER, other):
        store.keep_answer(record)
        for person in ("ada", "bob-the-secret"):
            store.judge(replace(JUDGMENT, answer_id=record.id, person=person))
    assert store.forget_person("bob-the-secret") == 2
    assert {each.person for each in store.judgments()} == {"ada"}
    assert store.forget_question(" WHO wrote  it?") == 1
    assert store.answers() == [other]
    assert [each.answer_id for each in store.judgments()] == ["chatcmpl-2"]
    assert store.forget_person("nobody") == 0
    left = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"bob-the-secret" not in left
    assert b"Who wrote it" not in left
    assert b"What else" in left


def test_threads_and_processes_write_to_one_file(tmp_path: Path) -> None:
    """They all open it at once, when there is none yet."""
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.user_feedback.test_feedback_store import write
write(sys.argv[1], sys.argv[2])
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), f"process {n}"])
        for n in range(4)
    ]
    threads = [
        threading.Thread(target=write, args=(str(tmp_path), f"thread {n}")) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait() for process in processes] == [0] * 4
    store = FeedbackStore.open(tmp_path)
    assert len(store.answers()) == 8
    assert len(store.judgments()) == 8 * 10


def write(folder: str, name: str) -> None:
    store = FeedbackStore.open(folder)
    store.keep_answer(replace(ANSWER, id=name))
    for _ in range(10):
        store.judge(replace(JUDGMENT, answer_id=name))


def test_threads_share_a_store(store: FeedbackStore) -> None:
    store.keep_answer(ANSWER)
    threads = [
        threading.Thread(target=lambda: [store.judge(JUDGMENT) for _ in range(20)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.id for each in store.judgments()] == list(range(1, 81))


def test_every_transaction_is_on_the_disk(store: FeedbackStore) -> None:
    """2 is FULL: the log is synchronised at each commit."""
    connection = store._connection
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_no_feedback_yet(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no feedback yet; .*dalm serve .* --feedback"):
        FeedbackStore.open(tmp_path, create=False)
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database at all" * 200)
    with pytest.raises(UserError, match=r"feedback.sqlite is damaged .*recover"):
        FeedbackStore.open(tmp_path)


def test_a_page_that_is_overwritten_is_told_when_it_is_read(store: FeedbackStore) -> None:
    for number in range(200):
        store.keep_answer(replace(ANSWER, id=f"a{number}"))
    store.close()
    content = bytearray(store.path.read_bytes())
    content[4096 * 4 :] = b"\x5a" * len(content[4096 * 4 :])
    store.path.write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        FeedbackStore.open(store.path.parent).answers()


@pytest.mark.parametrize("cell", ["'{\"a\": '", "x'80'", "CAST(x'80ff' AS TEXT)"])
def test_a_damaged_cell_is_told(store: FeedbackStore, cell: str) -> None:
    store.keep_answer(ANSWER)
    store._connection.execute(f"UPDATE answers SET hits = {cell}")
    with pytest.raises(UserError, match=r"feedback.sqlite is damaged .*recover"):
        store.answers()


def test_another_programs_file_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("CREATE TABLE recipes (name)")
    connection.close()
    with pytest.raises(UserError, match="a database of another program; move it away"):
        FeedbackStore.open(tmp_path)


def test_a_newer_file_is_refused(store: FeedbackStore) -> None:
    store._connection.execute("PRAGMA user_version = 2")
    store.close()
    with pytest.raises(UserError, match=r"newer version of dalm \(format 2.* update dalm"):
        FeedbackStore.open(store.path.parent)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can't be used: unable to open"):
        FeedbackStore.open(tmp_path / "missing")
