"""Note an answer while it is sent, and keep it when it ends."""

import asyncio
from dataclasses import asdict
from typing import Self

from dalm.llm.thoughts import without_thoughts
from dalm.serving.names import model_name, reranker_name, retriever_name
from dalm.serving.service import Question, RunningAnswer, Service
from dalm.user_feedback.judgments import AnswerRecord


class Keeping:
    """Keep an answer when the block is left; one that didn't reach its end is marked so.

    `pieces` are to be appended as they are sent, and `whole` awaited before the client is told that
    the answer has ended: what it is told of is on the disk.
    """

    def __init__(
        self, service: Service, name: str, question: Question, answer: RunningAnswer
    ) -> None:
        self.service, self.name = service, name
        self.question, self.answer = question, answer
        self.pieces: list[str] = []
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._ended:  # nobody waits, and a cancelled task couldn't
            record = self._record("".join(self.pieces))
            asyncio.get_running_loop().run_in_executor(None, self.service.answers.keep, record)

    async def whole(self) -> None:
        """Keep the whole answer."""
        self._ended = True
        await asyncio.to_thread(self.service.answers.keep, self._record())

    def _record(self, broken_off_at: str | None = None) -> AnswerRecord:
        return record_of(
            self.name, self.service, self.question, self.answer, broken_off_at=broken_off_at
        )


def record_of(
    name: str,
    service: Service,
    question: Question,
    answer: RunningAnswer,
    *,
    broken_off_at: str | None = None,
) -> AnswerRecord:
    """Return what is kept of an answer; `broken_off_at` is its text if it didn't reach its end."""
    turn, index = answer.turn, answer.index
    text = turn.answer if broken_off_at is None else without_thoughts(broken_off_at).strip()
    settings = service.settings
    return AnswerRecord(
        id=name,
        question=question.text,
        searched=turn.searched,
        answer=text,
        generation=index.generation.number,
        not_found=turn.not_found,
        stopped=broken_off_at is not None,
        prompt="" if turn.not_found else answer.control.prompt,
        settings={
            "search": question.mode or settings.search,
            "where": question.where,
            "dense_weight": index.searcher.dense_weight,
            "reader_passages": question.reader_passages or service.generating.reader_passages,
            "max_new_tokens": question.sampling.max_tokens or settings.max_new_tokens,
            "citations": settings.citations,
            "answer_anyway": settings.answer_anyway,
            "sampling": asdict(question.sampling),
            "system": question.system,
            "earlier_questions": [asked for asked, _ in question.history],
            "finish_reason": answer.outcome.finish_reason if broken_off_at is None else None,
        },
        models=models_of(service, answer),
        hits=[hit.to_dict() for hit in turn.hits],
    )


def models_of(service: Service, answer: RunningAnswer) -> dict[str, str | None]:
    """Return the names of the models that made an answer."""
    index = answer.index
    return {
        "retriever": retriever_name(index),
        "generator": model_name(service.generating.name),
        "reranker": None if index.reranker is None else reranker_name(index),
    }
