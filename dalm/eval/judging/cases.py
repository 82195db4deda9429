"""Questions, answers and passages in; what a judge is shown of them, in two orders, out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dalm.eval.judging import wording
from dalm.eval.judging.wording import Kind
from dalm.llm.language_model import key_of
from dalm.prompts import Message
from dalm.records import JudgedQuery


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to be judged: what is shown of it, section by section, in both orders."""

    kind: Kind
    query: str
    """Its id."""
    first: tuple[str, ...]
    swapped: tuple[str, ...]

    def requests(
        self, model: str, parameters: Mapping[str, Any]
    ) -> tuple["CaseRequest", "CaseRequest"]:
        """Return the two requests that a verdict takes."""

        def request(sections: tuple[str, ...], order: str) -> CaseRequest:
            key = key_of(wording.messages(self.kind, sections), model, dict(parameters))
            return CaseRequest(key, self.kind, self.query, order, sections)

        return request(self.first, "first"), request(self.swapped, "swapped")


@dataclass(frozen=True, slots=True)
class CaseRequest:
    """A case in one of its orders.

    `key` is the hash of prompt, model and parameters: a reply to an equal request is a reply to
    this one, whichever run asked it.
    """

    key: str
    kind: Kind
    query: str
    order: str
    sections: tuple[str, ...]

    @property
    def about(self) -> dict[str, str]:
        """Query, question and order, for whoever reads the journal."""
        return {"query": self.query, "asked": self.kind, "order": self.order}

    @property
    def messages(self) -> list[Message]:
        """The prompt; it is written when it is needed."""
        return wording.messages(self.kind, self.sections)

    @property
    def response_format(self) -> dict[str, Any]:
        """The JSON schema that the verdict should have."""
        return wording.schema(self.kind)


def faithfulness(query: JudgedQuery, answer: str, passages: Sequence[str]) -> Case:
    """Ask whether the passages support the answer; swapped, it comes before them, the last first.

    The references aren't shown: an answer may be right and not stand in the passages.
    """
    asked, said = _question(query), wording.ANSWER.format(text=answer)
    read = wording.PASSAGES.format(text=wording.listed(passages))
    turned = wording.PASSAGES.format(text=wording.listed(passages[::-1]))
    return Case("faithfulness", query.id, (asked, read, said), (asked, said, turned))


def correctness(query: JudgedQuery, answer: str) -> Case:
    """Ask whether the answer means the same as a reference; swapped, it comes before them."""
    asked, said = _question(query), wording.ANSWER.format(text=answer)
    right, turned = _references(query), _references(query, turned=True)
    return Case("correctness", query.id, (asked, right, said), (asked, said, turned))


def preference(query: JudgedQuery, answer: str, other: str, passages: Sequence[str]) -> Case:
    """Ask which of two answers is better; swapped, the first one is called B.

    They are held against the references, or where there are none against the passages.
    """
    ground = wording.PASSAGES.format(text=wording.listed(passages))
    shown = (_question(query), _references(query) if query.references else ground)

    def both(a: str, b: str) -> tuple[str, str]:
        sections = ((wording.ANSWER_A, a), (wording.ANSWER_B, b))
        first, second = (mark.format(text=text or wording.NOTHING) for mark, text in sections)
        return first, second

    first, swapped = (*shown, *both(answer, other)), (*shown, *both(other, answer))
    return Case("preference", query.id, first, swapped)


def _question(query: JudgedQuery) -> str:
    return wording.QUESTION.format(text=query.query)


def _references(query: JudgedQuery, *, turned: bool = False) -> str:
    texts = query.references[::-1] if turned else query.references
    return wording.REFERENCES.format(text=wording.listed(texts))
