"""Let a language model grade each candidate passage by itself, from 0 to 10."""

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from dalm.llm.json_replies import by_name, objects
from dalm.llm.thoughts import without_thoughts
from dalm.progress import Bar
from dalm.teachers.language_model_teacher import LanguageModelTeacher, TeacherRequest, shown
from dalm.teachers.teacher import Candidates, Pair

MOST = 10
BLOCK = 512  # prompts in memory at once
PROMPT = """\
{shown}

Passage:
{passage}

How well does the passage answer the question? Grade it from 0 to 10:
- 10: it gives the whole answer{agreeing}.
- 5: it gives a part of the answer.
- 0: it doesn't answer the question{contradicting}, however much it is about the same things.

Send back: {{"grade": number}}"""
_GRADE = re.compile(r"[^\w-]*(?:grade[^\w-]+)?(\d+(?:\.\d+)?)(?:\s*/\s*10)?\W*", re.IGNORECASE)


class LlmPointwise(LanguageModelTeacher):
    """Score by the grade of a language model: does the passage answer the question?

    It sees the right answer if it is known: then a passage also has to agree with it. A passage
    that even a second reply doesn't grade has no score.
    """

    name: ClassVar[str] = "llm-pointwise"
    label: ClassVar[str] = "grades of a language model"
    unit: ClassVar[str] = "grade from 0 to 10"
    temperature: ClassVar[float] = 1.0
    margin: ClassVar[float] = 3.0
    is_graded: ClassVar[bool] = True
    least_positive: ClassVar[float] = 5.0
    field: ClassVar[str] = "grade"
    again: ClassVar[str] = 'Reply with nothing but the grade, such as {{"grade": 3}}.'

    def score(self, questions: Sequence[Candidates]) -> list[list[float | None]]:
        """Return the grades."""
        pairs = list(
            dict.fromkeys(
                Pair(each.query, each.answer, passage.text)
                for each in questions
                for passage in each.passages
            )
        )
        grades: dict[Pair, float] = {}
        with Bar(len(pairs), "asking", "replies") as bar:
            for start in range(0, len(pairs), BLOCK):
                block = pairs[start : start + BLOCK]
                requests = [self._request(pair) for pair in block]
                found = self.ask(requests, lambda _, text: read_grade(text))
                grades |= {
                    pair: found[request.key]
                    for pair, request in zip(block, requests, strict=True)
                    if request.key in found
                }
                bar.update(len(block))
        self.warn_unscored(len(pairs) - len(grades), len(pairs), "candidates")
        return [
            [grades.get(Pair(each.query, each.answer, passage.text)) for passage in each.passages]
            for each in questions
        ]

    def log_estimate(self, questions: Sequence[Candidates]) -> None:
        """Log the number of requests and tokens; nothing is asked."""
        self.log_requests(
            [
                self._request(Pair(each.query, each.answer, passage.text))
                for each in questions
                for passage in each.passages
            ]
        )

    def _request(self, pair: Pair) -> TeacherRequest:
        prompt = PROMPT.format(
            shown=shown(pair.query, pair.answer),
            passage=pair.passage,
            agreeing=", and agrees with the right answer" if pair.answer else "",
            contradicting=", or contradicts the right answer" if pair.answer else "",
        )
        schema = {"type": "integer", "enum": list(range(MOST + 1))}
        return self.request(pair.query, prompt, schema)


def read_grade(text: str) -> float | None:
    """Return the grade in a reply, None if it has none from 0 to 10.

    The last JSON object with a grade counts; else a reply that is a number and nothing else.
    """
    text = without_thoughts(text)
    found = list(objects(text, lambda each: "grade" in by_name(each)))
    value: Any = by_name(found[-1])["grade"] if found else text
    match = _GRADE.fullmatch(str(value).strip())
    grade = float(match[1]) if match else -1.0
    return grade if 0 <= grade <= MOST else None
