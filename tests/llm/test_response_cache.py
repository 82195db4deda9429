import json
import os

import pytest

from dalm.errors import UserError
from dalm.llm.language_model import Reply
from dalm.llm.response_cache import Journal, cache_key, cached_replies
from tests.llm.requests import asked

REQUESTS = asked(5)
REPLIES = [Reply(f"answer {n}\n\u2028 ä {'x' * n * 9000}", n, 2 * n, n / 4) for n in range(5)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "journal.jsonl"


def test_a_key_is_of_all_parts_whatever_the_order_of_their_names():
    same = cache_key("a", {"x": 1, "y": [2]})
    assert same == cache_key("a", {"y": [2], "x": 1})
    others = [cache_key("b", {"x": 1, "y": [2]}), cache_key("a", {"x": 1, "y": [3]})]
    assert len({same, *others, cache_key("a", {})}) == 4
    assert len(same) == 32


def fill(path, places) -> None:
    with Journal(path) as journal:
        for place in places:
            journal.add(REQUESTS[place], REPLIES[place], "m")


def held(path) -> dict[int, Reply]:
    with Journal(path) as journal:
        return {n: journal.get(r.key) for n, r in enumerate(REQUESTS) if r.key in journal}


def test_answers_come_back_in_any_order(path):
    fill(path, (3, 0))
    fill(path, (4, 1))
    assert held(path) == {n: REPLIES[n] for n in (0, 1, 3, 4)}
    with Journal(path) as journal:
        assert len(journal) == 4
        assert (journal.replies.number, journal.replies.tokens_out) == (4, 16)


def test_answers_can_be_read_while_others_are_written(path):
    with Journal(path) as journal:
        for place in (0, 4, 2):
            journal.add(REQUESTS[place], REPLIES[place], "m")
            assert journal.get(REQUESTS[0].key) == REPLIES[0]
    assert held(path) == {n: REPLIES[n] for n in (0, 2, 4)}


def test_cut_at_any_byte_only_the_last_answer_is_lost(path):
    fill(path, (0, 1))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in [*range(first - 3, first + 40), len(whole) - 1, len(whole)]:
        path.write_bytes(whole[:cut])
        kept = {0: REPLIES[0]} if cut >= first - 1 else {}
        kept |= {1: REPLIES[1]} if cut >= len(whole) - 1 else {}
        assert held(path) == kept, cut
        fill(path, (2,))
        assert held(path) == kept | {2: REPLIES[2]}, cut
        assert path.read_bytes().startswith(whole[:cut]), "nothing that was written is changed"


def test_foreign_lines_are_passed_over(path):
    fill(path, (0,))
    with path.open("ab") as file:
        file.write(b"\xff\xfe\n[1]\n{}\nnull\n" + b"[" * 100_000 + b"\n")
        file.write(b'{"key": "k", "text": "t", "tokens_in": Infinity}\n')
        file.write(json.dumps({"key": "k", "text": "t", "tokens_in": {}}).encode() + b"\n\n")
    fill(path, (1,))
    assert held(path) == {0: REPLIES[0], 1: REPLIES[1]}


def test_an_unpaired_surrogate_is_written_all_the_same(path):
    with Journal(path) as journal:
        journal.add(REQUESTS[0], Reply("\ud83d!"), "m")
    assert held(path)[0].text == "?!"


def test_one_run_at_a_time(path):
    with Journal(path), pytest.raises(UserError, match="another process is writing there"):
        Journal(path)
    assert held(path) == {}


def test_runs_at_once_share_a_journal_and_write_to_a_file_each(path, caplog):
    caplog.set_level("INFO")
    with Journal(path, shared=True) as first:
        first.add(REQUESTS[0], REPLIES[0], "m")
        with path.open("ab") as file:
            file.write(b'{"key": "one that is being writ')
        with Journal(path, shared=True) as second:
            assert second.path.name == "journal.2.jsonl"
            assert second.get(REQUESTS[0].key) == REPLIES[0]
            second.add(REQUESTS[1], REPLIES[1], "m")
            assert [second.get(REQUESTS[n].key) for n in (0, 1)] == REPLIES[:2]
    assert "damaged" not in caplog.text
    with Journal(path, shared=True) as again:
        assert again.path == path
        assert [again.get(REQUESTS[n].key) for n in (0, 1)] == REPLIES[:2]
        again.add(REQUESTS[2], REPLIES[2], "m")
        assert [again.get(REQUESTS[n].key) for n in (0, 1, 2)] == REPLIES[:3]
    assert held(path) == {n: REPLIES[n] for n in (0, 2)}


def test_a_full_disk(path, monkeypatch):
    with Journal(path) as journal:

        def fsync(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(UserError, match=r"journal.jsonl can't be written: No space left"):
            journal.add(REQUESTS[0], REPLIES[0], "m")


def test_a_line_says_what_was_asked_and_whom(path):
    fill(path, (1,))
    line = json.loads(path.read_text())
    told = ["key", "thing", "model", "text", "tokens_in", "tokens_out", "seconds", "finish_reason"]
    assert list(line) == told
    assert (line["key"], line["thing"], line["model"]) == (REQUESTS[1].key, "question 1", "m")


def test_a_stop_says_that_replies_are_kept(path):
    class Stopping:
        name, parameters = "m", {}

        def generate(self, requests, on_reply, on_failure):
            on_reply(requests[0], REPLIES[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped, Journal(path) as journal:
        cached_replies(Stopping(), REQUESTS, journal, "the same command", "requests")
    assert str(stopped.value) == "; 1 replies are kept: the same command goes on"
    assert held(path) == {0: REPLIES[0]}
