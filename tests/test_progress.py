import io
import re
from types import SimpleNamespace

import pytest
import tqdm.std

from dalm.progress import Bar, Stopwatch, ahead, track


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    """Time that passes only when a test says so."""

    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("dalm.progress.time.monotonic", clock)
    monkeypatch.setattr(tqdm.std, "time", clock)
    monkeypatch.delenv("RANK", raising=False)
    return clock


@pytest.fixture
def terminal(monkeypatch):
    return _stderr(monkeypatch, Terminal())


@pytest.fixture
def log(monkeypatch):
    return _stderr(monkeypatch, io.StringIO())


def _stderr(monkeypatch, stream):
    """Put a stream in the place of stderr for the bars alone: pytest has its own in each phase."""
    for module in ("progress", "display"):
        monkeypatch.setattr(f"dalm.{module}.sys", SimpleNamespace(stderr=stream))
    return stream


def seconds_pass(clock, items, seconds):
    for item in items:
        clock.seconds += seconds
        yield item


def test_what_is_quickly_done_shows_nothing(clock, terminal):
    assert list(track(seconds_pass(clock, "abc", 0.5), 3, "encoding", "passages")) == list("abc")
    assert not terminal.getvalue()


def test_a_terminal_has_a_bar_with_what_a_person_counts_and_the_time_left(clock, terminal):
    batches = seconds_pass(clock, [range(16), range(16), range(8)], 10)
    shown = []
    for _ in track(batches, 40, "encoding", "passages", len):
        shown.append(terminal.getvalue().split("\r")[-1])
    assert shown[0] == ""
    assert re.search(r"encoding:  80%\|.*\| 32/40 passages \[00:20<00:05", shown[2])
    assert "40/40 passages [00:30<00:00" in terminal.getvalue()


def test_a_log_has_a_line_now_and_then(clock, log):
    for _ in track(seconds_pass(clock, range(1200), 1), 1200, "answering", "answers"):
        pass
    lines = log.getvalue().splitlines()
    assert lines[0] == "answering: 15 of 1,200 answers in 0:15, 1 answers/s, about 19:45 left"
    assert 20 < len(lines) < 40
    assert "\r" not in log.getvalue()


def test_bytes_are_counted_in_megabytes(clock, log):
    with Bar(4_000_000, "passages", "B") as bar:
        clock.seconds += 20
        bar.update(1_000_000)
    assert log.getvalue() == "passages: 1.0 of 4.0 MB in 0:20, 0.05 MB/s, about 1:00 left\n"


def test_a_resumed_count_goes_on_and_its_time_is_that_of_the_rest(clock, log):
    with Bar(100, "generating", "verdicts", initial=50) as bar:
        clock.seconds += 20
        bar.note = "90 tokens/s"
        bar.update(10)
    assert log.getvalue() == (
        "generating: 60 of 100 verdicts in 0:20, 0.5 verdicts/s, about 1:20 left, 90 tokens/s\n"
    )


def test_a_bar_moves_within_a_batch(clock, log):
    with Bar(59, "answering", "answers") as bar:
        for _ in range(3):
            clock.seconds += 20
            bar.ahead(8.9)
        clock.seconds += 20
        bar.update(32)
    assert [line.split()[1] for line in log.getvalue().splitlines()] == ["8", "8", "8", "32"]


def test_parts_of_a_stage_share_one_bar(clock, log):
    with Bar(6, "answering", "answers") as outer:
        for _ in range(2):
            for _ in track(range(3), 3, "part", "answers"):
                clock.seconds += 20
            outer.update(3)
    lines = log.getvalue().splitlines()
    assert [line.split(" in ")[0] for line in lines] == [
        *("answering: 1 of 6 answers", "answering: 2 of 6 answers", "answering: 3 of 6 answers"),
        *("answering: 4 of 6 answers", "answering: 5 of 6 answers", "answering: 6 of 6 answers"),
    ]


def test_a_bar_never_goes_back(clock, terminal):
    with Bar(10, "answering", "answers") as bar:
        clock.seconds += 5
        bar.ahead(6)
        clock.seconds += 5
        bar.ahead(2)
        clock.seconds += 5
        bar.update(7)
    counts = [int(n) for n in re.findall(r"(\d+)/10 answers", terminal.getvalue())]
    assert counts == sorted(counts)
    assert counts[-1] == 7


def test_one_process_of_several_shows_its_progress(clock, log, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with Bar(10, "encoding", "passages") as bar:
        clock.seconds += 60
        bar.update(5)
    assert not log.getvalue()


def test_a_bar_closes_when_its_stage_fails(clock, terminal):
    def fail():
        clock.seconds += 5
        yield "passage"
        clock.seconds += 5
        1 / 0  # noqa: B018

    with pytest.raises(ZeroDivisionError):
        list(track(fail(), 10, "encoding", "passages"))
    ahead(3)  # there is no bar to move
    assert terminal.getvalue().endswith("\n")


def test_a_generator_moves_the_bar_at_its_tokens(tiny_models, monkeypatch):
    from dalm.models.generator import load_generator
    from dalm.models.loading import place
    from dalm.models.prompt_frame import Prompt

    seen = []
    monkeypatch.setattr(Bar, "_show", lambda self, done: seen.append(done))
    generator = load_generator(str(tiny_models.generator), place("cpu", "fp32"))
    rows = [ids.tolist() for ids in generator.tokenise(["a", "Ada lives", "in Ulm"])]
    generator.generate([Prompt(ids, len(ids)) for ids in rows], max_new_tokens=6)
    assert seen == sorted(seen)
    assert seen[-1] == 3
    assert {1, 2} <= set(seen)


def test_stages_add_up_with_their_speed():
    watch = Stopwatch()
    watch.seconds = {"searching": 1.5, "answering": 0.5}
    watch.count("searching", 2000, "questions")
    watch.count("searching", 1000, "questions")
    assert watch.speed == {"searching": {"questions": 2000.0}}
    assert str(watch) == "searching 1.5 s (75%, 2,000 questions/s), answering 0.5 s (25%)"


def test_a_stage_is_timed_also_where_it_fails():
    watch = Stopwatch()
    with pytest.raises(ZeroDivisionError), watch.stage("searching"):
        1 / 0  # noqa: B018
    assert watch.seconds["searching"] > 0
