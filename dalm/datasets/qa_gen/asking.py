"""What is asked of a model: passages in, requests out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dalm.datasets.qa_gen.wording import Wording, schema
from dalm.llm.language_model import key_of
from dalm.prompts import Message
from dalm.records import Passage


@dataclass(frozen=True, slots=True)
class Request:
    """One passage, or two of one document, to make questions of.

    `key` is the hash of passage, prompt, model and parameters: an answer to an equal request is an
    answer to this one.
    """

    key: str
    passage: Passage
    other: Passage | None
    wording: Wording

    @property
    def about(self) -> dict[str, str]:
        """The passage, for whoever reads the journal."""
        return {"passage": self.passage.id}

    @property
    def messages(self) -> list[Message]:
        """The prompt; it is written when it is needed, a million of them would fill the memory."""
        return self.wording.messages(self.passage, self.other)

    @property
    def response_format(self) -> dict[str, Any]:
        """The JSON schema that the answer should have."""
        return schema(self.wording.kinds, two=self.other is not None)


def requests_of(
    passages: Sequence[Passage], wording: Wording, model: str, parameters: Mapping[str, Any]
) -> list[Request]:
    """Return a request for each passage, and for each with the next of its document if wanted."""

    def request(passage: Passage, other: Passage | None) -> Request:
        messages = wording.messages(passage, other)
        key = key_of(passage.id, messages, model, dict(parameters))
        return Request(key, passage, other, wording)

    single = any(kind != "multi-passage" for kind in wording.kinds)
    following = _following(passages) if "multi-passage" in wording.kinds else {}
    requests = []
    for passage in passages:
        if single:
            requests.append(request(passage, None))
        if passage.id in following:
            requests.append(request(passage, following[passage.id]))
    return requests


def _following(passages: Sequence[Passage]) -> dict[str, Passage]:
    """Return the next passage of the same title, for each passage that has one."""
    last: dict[str, Passage] = {}
    found = {}
    for passage in passages:
        if passage.title:
            if before := last.get(passage.title):
                found[before.id] = passage
            last[passage.title] = passage
    return found


def spread(passages: Sequence[Passage], number: int) -> list[Passage]:
    """Return `number` passages at equal distances over the table."""
    return list(_spread(passages, min(number, len(passages))))


def _spread(passages: Sequence[Passage], number: int) -> Iterator[Passage]:
    for place in range(number):
        yield passages[place * len(passages) // number]
