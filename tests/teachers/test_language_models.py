"""The teachers that ask a language model: a real server, and a local model."""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dalm.config import ScoreCandidates, check
from dalm.errors import UserError
from dalm.models.tiny import build_generator
from dalm.records import Passage
from dalm.teachers.llm_listwise import LlmListwise, read_order, windows
from dalm.teachers.llm_pointwise import LlmPointwise, read_grade
from dalm.teachers.teacher import Candidates, Teacher, teacher_class
from tests.llm.stub_server import Stub, serving
from tests.llm.test_local_model import TEMPLATE, folder_with


@pytest.fixture
def stub() -> Iterator[Stub]:
    with serving() as served:
        yield served


def made(stub: Stub, tmp_path: Path, name: str, **given: Any) -> Any:
    options: dict[str, Any] = {"passages": ["p"], "teacher": [name], "output": "o.jsonl"}
    options |= {"llm": stub.url, "llm_model": "m", "cache_dir": str(tmp_path / "cache")}
    settings = ScoreCandidates(**(options | given))
    check(settings)
    kind: type[Teacher] = teacher_class(name)
    kind.check(settings)
    return kind.from_config(settings)


def asked(texts: str, query: str = "Where?", answer: str | None = "in Ulm") -> Candidates:
    return Candidates(query, answer, tuple(map(Passage.of, texts.split())))


def passage_in(prompt: str) -> str:
    return prompt.partition("Passage:\n")[2].partition("\n\n")[0]


# Grades


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ('{"grade": 7}', 7),
        ('```json\n{"Grade": "8/10"}\n```', 8),
        ('For example {"grade": 1}. Mine: {"grade": 9.5}', 9.5),
        ('<think>{"grade": 2} perhaps</think>{"grade": 0}', 0),
        ("6", 6),
        ("Grade: 10", 10),
        ("**4/10**", 4),
        ('{"grade": 11}', None),
        ('{"grade": -3}', None),
        ('{"grade": null}', None),
        ("It names 3 towns and 2 rivers.", None),
        ("", None),
    ],
)
def test_grades_are_read(text: str, grade: float | None) -> None:
    assert read_grade(text) == grade


def test_each_passage_is_graded_once(stub: Stub, tmp_path: Path) -> None:
    stub.write = lambda prompt: json.dumps({"grade": len(passage_in(prompt))})
    questions = [asked("a bb"), asked("bb ccc"), asked("bb", answer=None)]
    scores = made(stub, tmp_path, "llm-pointwise").score(questions)
    assert scores == [[1, 2], [2, 3], [2]]
    prompts = stub.prompts()
    assert len(prompts) == 4, "a, bb and ccc with the answer, bb without"
    assert sum("Right answer:\nin Ulm" in prompt for prompt in prompts) == 3
    assert sum("agrees with the right answer" in prompt for prompt in prompts) == 3
    assert all("response_format" in body for body in stub.bodies)
    assert made(stub, tmp_path, "llm-pointwise").score(questions) == scores
    assert len(stub.bodies) == 4, "all from the journal"
    assert made(stub, tmp_path, "llm-pointwise", llm_model="n").score(questions) == scores
    assert len(stub.bodies) == 8, "another model"


def test_a_broken_reply_is_asked_for_again_and_then_has_no_grade(
    stub: Stub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def write(prompt: str) -> str:
        if passage_in(prompt) == "odd":
            return "I like it."
        if passage_in(prompt) == "late" and "nothing but the grade" not in prompt:
            return "Well ..."
        return '{"grade": 5}'

    stub.write = write
    teacher = made(stub, tmp_path, "llm-pointwise")
    assert teacher.score([asked("fine odd late")]) == [[5, None, 5]]
    assert len(stub.bodies) == 3 + 2
    assert "llm-pointwise 1 of 3 candidates have no score" in caplog.text
    assert teacher.score([asked("fine odd late")]) == [[5, None, 5]]
    assert len(stub.bodies) == 5, "nothing is asked a third time"


def test_second_requests_that_fail_end_nothing(stub: Stub, tmp_path: Path) -> None:
    def write(prompt: str) -> str:
        if "nothing but the grade" in prompt:
            stub.plan.append("too_long")
        return "Well ..." if passage_in(prompt) == "odd" else '{"grade": 5}'

    stub.write = write
    teacher = made(stub, tmp_path, "llm-pointwise", llm_concurrency=1)
    assert teacher.score([asked("fine odd")]) == [[5, None]]


def test_a_run_without_a_cache_keeps_nothing(stub: Stub, tmp_path: Path) -> None:
    stub.write = lambda _: '{"grade": 5}'
    for _ in range(2):
        teacher = made(stub, tmp_path, "llm-pointwise", cache=False, cache_dir=None)
        assert teacher.score([asked("a")]) == [[5]]
    assert len(stub.bodies) == 2


# Orders


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ('{"order": [3, 1, 2]}', [2, 0, 1]),
        ('{"order": ["[2]", "[3]", "[1]"]}', [1, 2, 0]),
        ('{"order": "2 > 1 > 3"}', [1, 0, 2]),
        ("[2] > [3] > [1]", [1, 2, 0]),
        ('<think>[1] > [2]?</think>{"order": [2, 2, 9, 0, 1]}', [1, 0]),
        ('{"order": []}', None),
        ("Passage 2 is best.", None),
        ("", None),
    ],
)
def test_orders_are_read(text: str, order: list[int] | None) -> None:
    assert read_order(text, 3) == order


def test_windows_cover_a_ranking_from_its_end() -> None:
    assert list(windows(7, 4)) == [slice(3, 7), slice(1, 5), slice(0, 3)]
    assert list(windows(4, 4)) == [slice(0, 4)]
    assert list(windows(1, 4)) == list(windows(0, 4)) == []
    for count in range(2, 60):
        for size in range(2, 21):
            found = list(windows(count, size))
            assert (found[0].stop, found[-1].start) == (count, 0)
            assert all(b.stop > a.start for a, b in pairwise(found))


def passages_in(prompt: str) -> list[str]:
    found = re.findall(r"^\[(\d+)\] (.*)$", prompt, re.MULTILINE)
    assert [int(number) for number, _ in found] == list(range(1, len(found) + 1))
    return [text for _, text in found]


def by_length(texts: Sequence[str]) -> list[int]:
    return sorted(range(1, len(texts) + 1), key=lambda number: -len(texts[number - 1]))


def test_a_window_carries_the_best_to_the_top(stub: Stub, tmp_path: Path) -> None:
    stub.write = lambda prompt: json.dumps({"order": by_length(passages_in(prompt))})
    teacher = made(stub, tmp_path, "llm-listwise", llm_window=4)
    texts = ["a", "bbb", "cc", "dddd", "eeeee", "ffffff", "ggggggg"]
    [scores, alone, _] = teacher.score([asked(" ".join(texts)), asked("x"), asked("")])
    # Windows (3..7): g f e d; (1..5) of b c g f: g f b c; (0..3) of a g f: g f a, then b c e d.
    assert dict(zip(texts, scores, strict=True)) == {
        **{"ggggggg": 0, "ffffff": -1, "a": -2, "bbb": -3, "cc": -4, "eeeee": -5, "dddd": -6}
    }
    assert alone == [0]
    assert [len(passages_in(prompt)) for prompt in stub.prompts()] == [4, 4, 3]
    assert teacher.score([asked(" ".join(texts))]) == [scores]
    assert len(stub.bodies) == 3


def test_what_an_order_leaves_out_is_not_the_worst(
    stub: Stub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def write(prompt: str) -> str:
        texts = passages_in(prompt)
        if "broken" in texts:
            return "I can't."
        named = [n for n in by_length(texts) if texts[n - 1] != "odd"]
        if "late" in texts and "each of the numbers 1 to 2 in it once" not in prompt:
            named = named[:1]
        return json.dumps({"order": named})

    stub.write = write
    teacher = made(stub, tmp_path, "llm-listwise")
    questions = [asked("a odd bb"), asked("late a"), asked("broken a")]
    assert teacher.score(questions) == [[-1, None, 0], [0, -1], [None, None]]
    assert "llm-listwise 1 of 3 questions have no score" in caplog.text
    assert "llm-listwise 1 of 7 candidates have no score" in caplog.text
    assert len(stub.bodies) == 3 + 3


def test_windows_of_all_questions_are_asked_together(stub: Stub, tmp_path: Path) -> None:
    stub.write = lambda prompt: json.dumps({"order": by_length(passages_in(prompt))})
    stub.delay = 0.1
    teacher = made(stub, tmp_path, "llm-listwise", llm_window=2)
    scores = teacher.score([asked("a bb ccc", query) for query in ("1?", "2?", "3?")])
    assert scores == [[-1, -2, 0]] * 3
    assert stub.most_under_way == 3
    assert len(stub.bodies) == 6


# Both


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("llm-pointwise", "llm-pointwise: 12 requests of about"),
        ("llm-listwise", "llm-listwise: 5 requests of about"),
    ],
)
def test_an_estimate_asks_nothing(
    stub: Stub, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, said: str
) -> None:
    caplog.set_level("INFO")
    teacher = made(stub, tmp_path, name, **({"llm_window": 4} if "list" in name else {}))
    teacher.log_estimate([asked("a b c d e f g"), asked("1 2 3 4 5")])
    assert said in caplog.text
    assert ", of which 0 are answered" in caplog.text
    assert stub.bodies == []


def test_options_that_do_not_fit_are_refused(stub: Stub, tmp_path: Path) -> None:
    for given, said in (
        ({"llm": None, "llm_model": None}, "--teacher llm-pointwise needs --llm; name one"),
        ({"llm_model": None}, "--llm needs --llm-model"),
        ({"llm": "nowhere:1"}, "--llm-model has no effect without --llm http://"),
        ({"llm": "nowhere:1", "llm_model": None}, "--llm nowhere:1: not an address"),
        ({"llm_window": 5}, "--llm-window has no effect without --teacher llm-listwise"),
        ({"teacher": ["gold"]}, "--llm has no effect without --teacher llm-pointwise or llm"),
    ):
        with pytest.raises(UserError, match=said):
            made(stub, tmp_path, "llm-pointwise", **given)


def test_a_last_request_without_a_reply_loses_no_others(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("dalm.teachers.llm_pointwise.BLOCK", 2)
    stub.write = lambda prompt: json.dumps({"grade": 7}) if "ccc" not in prompt else ""
    assert made(stub, tmp_path, "llm-pointwise").score([asked("a bb ccc")]) == [[7, 7, None]]
    assert "llm-pointwise 1 of 3 candidates have no score" in caplog.text


def test_a_server_that_is_gone_says_what_is_kept(stub: Stub, tmp_path: Path) -> None:
    stub.write = lambda _: '{"grade": 5}'
    made(stub, tmp_path, "llm-pointwise").score([asked("a b")])
    stub.stop()
    gone = made(stub, tmp_path, "llm-pointwise", llm_max_retries=0)
    assert gone.score([asked("a b")]) == [[5, 5]]
    with pytest.raises(UserError, match="--llm"):
        gone.score([asked("a b c")])


@pytest.mark.parametrize("kind", [LlmPointwise, LlmListwise])
def test_a_local_model_is_asked_as_well(
    kind: Any,
    tiny_rows: list[dict[str, str]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An untrained one makes no sense: nothing is read from its replies, and that is said."""
    texts = [text for row in tiny_rows for text in row.values()]
    shape = {"width": 16, "layers": 1, "heads": 2, "vocabulary": 320, "max_length": 4096}
    model = SimpleNamespace(generator=build_generator(texts, tmp_path / "generator", **shape))
    settings = ScoreCandidates(
        **{"passages": ["p"], "teacher": [kind.name], "output": "o.jsonl", "precision": "fp32"},
        **{"llm": folder_with(TEMPLATE, model, tmp_path), "llm_max_new_tokens": 8},
        **{"cache_dir": str(tmp_path / "cache"), "device": "cpu"},
    )
    check(settings)
    kind.check(settings)
    assert kind.from_config(settings).score([asked("a b")]) == [[None, None]]
    assert "have no score: a reply is missing, or can't be read twice" in caplog.text
