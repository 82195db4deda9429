import json
from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import pytest

from dalm.llm.language_model import Reply
from dalm.records import Passage
from dalm.synth.filters import rejected
from dalm.synth.pairs import Pair
from dalm.synth.question_judge import (
    JOURNAL,
    REJECTED_SAMPLE,
    QuestionJudge,
    judged,
    read_verdict,
)

PASSAGE = Passage.of("The pump at Ulm holds 12 bar.", "Ulm")
GOOD = Pair(
    PASSAGE, "What pressure does the pump at Ulm hold?", "12 bar", PASSAGE.text, "fact", "m", "1"
)
VAGUE = replace(GOOD, query="What pressure is held there by that?")
LACKING = replace(GOOD, query="Who sold the Ulm pump?", answer_type="unanswerable")


def verdict(*marks: str) -> str:
    names = ("answerable", "specific", "natural")
    return json.dumps({"reason": "so", **dict(zip(names, marks, strict=True))})


class Model(SimpleNamespace):
    """A model that knows its verdicts by the query, and keeps what it was sent."""

    name = identity = "judge"
    parameters: ClassVar = {"temperature": 0}
    concurrency = 1

    def generate(self, requests: Iterable, on_reply, on_failure) -> None:
        for request in requests:
            self.sent.append(request.messages[1]["content"])
            on_reply(request, Reply(self.verdicts[request.pair.query], 1, 1, 0.1))


@pytest.fixture
def judge(tmp_path):
    verdicts = {
        GOOD.query: verdict("yes", "yes", "yes"),
        VAGUE.query: verdict("yes", "no", "no"),
        LACKING.query: "I can't tell",
    }
    return QuestionJudge(Model(sent=[], verdicts=verdicts), tmp_path, "the same again")


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        (verdict("yes", "no", "yes"), [True, False, True]),
        ("```json\n" + verdict("YES", "No.", "true") + "\n```", [True, False, True]),
        (
            json.dumps({"Answerable": True, "Specific": False, "Natural": "no"}),
            [True, False, False],
        ),
        (f"<think>{verdict('yes', 'yes', 'yes')}?</think>{verdict('no', 'no', 'no')}", [False] * 3),
        (f"As in {verdict('yes', 'yes', 'yes')}: {verdict('no', 'no', 'no')}", [False] * 3),
        (verdict("yes", "partly", "yes"), None),
        ('{"answerable": "yes"}', None),
        ("yes, it is fine", None),
        ("", None),
    ],
)
def test_a_verdict_is_read_whole_or_not_at_all(text, marks):
    found = read_verdict(text)
    assert (found and list(found.values())) == marks


def test_the_judge_rejects_by_its_marks_and_agreement_is_shown(judge, capsys, caplog):
    rejections = [rejected("shape", "no question mark", replace(GOOD, answer="twelve bar"))]
    near = {LACKING.query: [Passage.of("A fan is sold by Ada.")]}
    passed = judged(judge, [GOOD, VAGUE, LACKING], rejections, near, 1)
    assert passed == [GOOD, LACKING], "without a verdict it stays"
    assert rejections[1:] == [rejected("judge", "not specific, not natural", VAGUE)]
    assert "1 of 4 queries have no verdict" in caplog.text
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["judge", "keeps", "judge", "rejects", "no", "verdict"]
    assert lines[1] == ["filters", "keep", "1", "1", "1"]
    assert lines[2][-3:] == ["1", "0", "0"]
    assert "The pump at Ulm holds 12 bar.\n\nA fan is sold by Ada." in judge.model.sent[2]
    assert "the passages do NOT hold the answer" in judge.model.sent[2]


def test_verdicts_are_kept_and_a_sample_of_the_rejected_is_judged(judge):
    others = [
        rejected("shape", "no question mark", replace(GOOD, answer=f"{number + 50} bar"))
        for number in range(REJECTED_SAMPLE + 20)
    ]
    judged(judge, [GOOD, VAGUE], list(others), {}, 1)
    assert len(judge.model.sent) == REJECTED_SAMPLE + 2
    lines = (judge.folder / JOURNAL).read_text().splitlines()
    assert len(lines) == REJECTED_SAMPLE + 2
    judged(judge, [GOOD, VAGUE], list(others), {}, 1)
    assert len(judge.model.sent) == REJECTED_SAMPLE + 2, "nothing is asked twice"
    assert judged(judge, [], [], {}, 1) == []
