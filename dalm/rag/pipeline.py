"""Answer questions from retrieved passages: hits → prompts → answers.

The generator is loaded here or on a server. Evaluation, `ask` and `serve` take this one path, with
the prompts that training used.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from dalm.config.evaluation import ServedGeneratorOptions
from dalm.errors import UserError
from dalm.llm.local_model import StreamTokens, stream_tokens
from dalm.llm.openai_client import OpenAIClient, greedy
from dalm.llm.response_cache import Journal, cache_key, cached_replies
from dalm.llm.sampling import Outcome
from dalm.llm.server_errors import TruncatedError
from dalm.llm.server_options import ServerOptions
from dalm.llm.thoughts import thinking, without_thoughts
from dalm.models.generator import Generator
from dalm.prompts import Message, Prompt, numbered
from dalm.records import Answer, Hit

logger = logging.getLogger(__name__)

SERVER = ServerOptions(
    needed_by="--generator-url",
    url="--generator-url",
    model="--generator-model",
    api_key_env="--generator-api-key-env",
)

UserMessage = Callable[[str, Sequence[str]], str]
"""Make a generator's user message of a question and the texts of its passages."""


UNOPENED = "reasoning without an opening mark"
LONGEST_MARK = 40  # characters

NOT_FOUND = "The passages found do not answer this question."
"""What is said in the place of an answer if nothing found is relevant."""


def is_answerable(hits: Sequence[Hit]) -> bool:
    """Return whether there is anything to answer from: hits that aren't known to be irrelevant."""
    return any(hit.relevant is not False for hit in hits)


class Reader(Protocol):
    """A generator that answers from passages: local, or on a server."""

    @property
    def reader_passages(self) -> int:
        """The number of best hits in a prompt."""

    @property
    def cites(self) -> bool:
        """Whether the prompts ask for citations."""

    def answer(self, queries: Sequence[str], hits: Sequence[Sequence[Hit]], /) -> list[Answer]:
        """Answer each question from its best hits; without passages if it has none."""

    def stream(self, query: str, hits: Sequence[Hit], outcome: Outcome, /) -> Iterator[str]:
        """Yield the answer to a question from these hits, in pieces as they are generated.

        `outcome` is filled with how it ended.
        """

    def whole(self, query: str, hits: Sequence[Hit], /) -> Sequence[Hit]:
        """Return the best hits whose passages fit into a prompt as a whole, at least one."""

    def truncates(self, query: str, hits: Sequence[Hit], /) -> bool:
        """Return whether these hits' passages don't fit into a prompt as a whole."""


@dataclass(frozen=True)
class LocalReader:
    """A generator in this process, which also gives the likelihood of a reference."""

    generator: Generator
    reader_passages: int
    max_new_tokens: int
    stream_tokens: StreamTokens = stream_tokens
    """How the answer to a prompt is generated and streamed."""

    @property
    def cites(self) -> bool:
        """Whether the prompts ask for citations."""
        return self.generator.cites

    def answer(self, queries: Sequence[str], hits: Sequence[Sequence[Hit]], /) -> list[Answer]:
        """Answer each question from its best hits, as `answer` does."""
        return answer(
            self.generator,
            queries,
            hits,
            reader_passages=self.reader_passages,
            max_new_tokens=self.max_new_tokens,
        )

    def stream(self, query: str, hits: Sequence[Hit], outcome: Outcome, /) -> Iterator[str]:
        """Yield the answer to a question from these hits, in pieces as they are generated.

        Raises:
            UserError: the question leaves no room for an answer.
        """
        room = self.generator.max_length - self.max_new_tokens
        (prompt,) = prompts_of(self.generator, [query], [hits], room)
        if prompt is None:
            raise NoRoomError(query, self.generator.max_length, self.max_new_tokens)
        return self.stream_tokens(self.generator, prompt.tokens, self.max_new_tokens, outcome)

    def whole(self, query: str, hits: Sequence[Hit], /) -> Sequence[Hit]:
        """Return the best hits whose passages fit into a prompt as a whole, at least one."""
        return hits[: max(1, self._fitting(query, hits[: self.reader_passages]))]

    def truncates(self, query: str, hits: Sequence[Hit], /) -> bool:
        """Return whether these hits' passages don't fit into a prompt as a whole."""
        return self._fitting(query, hits) < len(hits)

    def _fitting(self, query: str, hits: Sequence[Hit]) -> int:
        """Return how many of the hits, from the first on, fit into a prompt as a whole."""
        room = self.generator.max_length - self.max_new_tokens
        tokens = [len(row) for row in self.generator.tokenise_passages(_texts(self, hits))]
        room -= len(self.generator.tokenise_queries([query])[0])
        fitting = [
            count
            for count in range(1, len(hits) + 1)
            if sum(tokens[:count]) + self.generator.frame.overhead(count) <= room
        ]
        return max(fitting, default=0)


def _texts(reader: LocalReader, hits: Sequence[Hit]) -> list[str]:
    (texts,) = passage_texts(reader.generator, [hits])
    return texts


class NoRoomError(UserError):
    """Report a question that leaves no room for an answer."""

    def __init__(self, query: str, length: int, new: int) -> None:
        self.length, self.new = length, new
        """Tokens that prompt and answer may have together, and the answer alone."""
        super().__init__(
            f'the question "{query[:60]}" and its prompt, without any passage, leave no room for '
            f"an answer of {new} tokens within {length}; raise --generator-max-len or lower "
            "--max-new-tokens"
        )


def answer(
    generator: Generator,
    queries: Sequence[str],
    hits: Sequence[Sequence[Hit]],
    *,
    reader_passages: int,
    max_new_tokens: int,
) -> list[Answer]:
    """Answer each question from its best `reader_passages` hits; without passages if it has none.

    A prompt leaves room for `max_new_tokens` within the generator's length; passages that don't fit
    are truncated.

    Raises:
        UserError: a question that leaves no room for an answer.
    """
    read = [tuple(found[:reader_passages]) for found in hits]
    prompts = prompts_to_answer(generator, queries, read, max_new_tokens)
    texts = generator.generate(prompts, max_new_tokens)
    return [Answer(*answered) for answered in zip(queries, texts, read, strict=True)]


def prompts_to_answer(
    generator: Generator,
    queries: Sequence[str],
    read: Sequence[Sequence[Hit]],
    max_new_tokens: int,
) -> list[Prompt]:
    """Return each question's prompt, with room for an answer within the generator's length.

    Raises:
        UserError: a question that leaves no room for an answer.
    """
    room = generator.max_length - max_new_tokens
    prompts = []
    for query, prompt in zip(queries, prompts_of(generator, queries, read, room), strict=True):
        if prompt is None:
            raise NoRoomError(query, generator.max_length, max_new_tokens)
        prompts.append(prompt)
    return prompts


def prompts_of(
    generator: Generator,
    queries: Sequence[str],
    read: Sequence[Sequence[Hit]],
    room: int,
    references: Sequence[str] | None = None,
) -> list[Prompt | None]:
    """Return each question's prompt of at most `room` tokens, with its reference if given.

    Passages are truncated to fit; None where the prompt without them is too long. Each text is
    tokenised once.
    """
    passages = passage_texts(generator, read)
    distinct = list(dict.fromkeys(text for texts in passages for text in texts))
    tokens = dict(zip(distinct, _lists(generator.tokenise_passages(distinct)), strict=True))
    answers: Sequence[list[int] | None] = [None] * len(queries)
    if references is not None:
        answers = _lists(generator.tokenise_answers(references))
    prompts: list[Prompt | None] = []
    for query, texts, reference in zip(
        _lists(generator.tokenise_queries(queries)), passages, answers, strict=True
    ):
        try:
            pieces = [tokens[text] for text in texts]
            prompts.append(generator.frame.join(pieces, query, reference, room))
        except ValueError:
            prompts.append(None)
    return prompts


def passage_texts(generator: Generator, read: Sequence[Sequence[Hit]]) -> list[list[str]]:
    """Return the texts of each question's passages as the prompt has them, numbered for citations.

    This is the place to change what of a passage the generator reads.
    """
    texts = [[hit.passage.text for hit in hits] for hits in read]
    return [numbered(each) for each in texts] if generator.cites else texts


def _lists(rows: Sequence[np.ndarray]) -> list[list[int]]:
    return [row.tolist() for row in rows]


# A generator on a server


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """A request for an answer in free text; `key` is the hash of prompt, model and parameters."""

    key: str
    query: str
    prompt: str
    response_format: None = None

    @property
    def about(self) -> dict[str, str]:
        """The question, for people who read the journal."""
        return {"query": self.query}

    @property
    def messages(self) -> list[Message]:
        """The prompt as the user's only message."""
        return [{"role": "user", "content": self.prompt}]


@dataclass(frozen=True)
class ServedGenerator:
    """A generator on a server.

    The server's context takes the place of `generator_max_len`: passages are never truncated. It
    gives no log-probabilities of a reference, so that NLL can't be measured.
    """

    model: OpenAIClient
    user_message: UserMessage
    journal: Path | None
    """Keeps every reply of `answer`, so that no prompt is sent twice."""
    reader_passages: int = 1
    cites: bool = False

    def answer(self, queries: Sequence[str], hits: Sequence[Sequence[Hit]], /) -> list[Answer]:
        """Answer each question from its best `reader_passages` hits, or without if it has none.

        Raises:
            UserError: a question without an answer, once all others have theirs in the journal.
        """
        read = [tuple(found[: self.reader_passages]) for found in hits]
        requests = [self._request(query, each) for query, each in zip(queries, read, strict=True)]
        if not requests:
            return []
        resume = self.model.endpoint.resume
        assert self.journal is not None
        with Journal(self.journal, shared=True) as journal:
            replies = cached_replies(self.model, requests, journal, resume, "answers")
        texts = {request.key: without_thoughts(reply.text).strip() for request, reply in replies}
        if missing := [request.query for request in requests if request.key not in texts]:
            raise UserError(
                f"{len(missing)} of {len(requests)} questions have no answer, first of all "
                f'"{missing[0][:60]}"; replies so far are kept, {resume} asks for the others'
            )
        answers = [texts[request.key] for request in requests]
        return [Answer(*answered) for answered in zip(queries, answers, read, strict=True)]

    def stream(self, query: str, hits: Sequence[Hit], outcome: Outcome, /) -> Iterator[str]:
        """Yield the answer to a question from these hits, in pieces as they arrive."""
        with self.model.endpoint.explained():
            messages = self._request(query, hits).messages
            yield from self._after_thoughts(self.model.stream(messages, outcome))

    def _after_thoughts(self, pieces: Iterator[str]) -> Iterator[str]:
        """Leave out the model's reasoning before its reply.

        Raises:
            TruncatedError: there is nothing else.
        """
        held, unopened = "", UNOPENED in self.model.habits
        for piece in pieces:
            held += piece
            if not thinking(held) and not (unopened and without_thoughts(held) == held):
                break
        begun = without_thoughts(held).lstrip()
        if thinking(held) and not begun:
            raise TruncatedError(self.model.parameters.get("max_tokens"), thinking=True)
        yield begun
        yield from self._watched(pieces)

    def _watched(self, pieces: Iterator[str]) -> Iterator[str]:
        """Yield what follows; from the next reply on, wait for a mark that closed it unopened."""
        tail = ""
        for piece in pieces:
            tail = tail[-LONGEST_MARK:] + piece
            if UNOPENED not in self.model.habits and without_thoughts(tail) != tail:
                self.model.habits.add(UNOPENED)
                logger.warning(
                    "server     its model reasons before it answers, without an opening mark; from "
                    "now on its reasoning is left out"
                )
            yield piece

    def whole(self, query: str, hits: Sequence[Hit], /) -> Sequence[Hit]:  # noqa: ARG002
        """Return the best hits: the server knows what fits."""
        return hits[: self.reader_passages]

    def truncates(self, query: str, hits: Sequence[Hit], /) -> bool:  # noqa: ARG002
        """Return False: nothing is cut before it is sent."""
        return False

    def _request(self, query: str, hits: Sequence[Hit]) -> AnswerRequest:
        texts = [hit.passage.text for hit in hits]
        prompt = self.user_message(query, numbered(texts) if self.cites else texts)
        key = cache_key(prompt, self.model.identity, dict(self.model.parameters))
        return AnswerRequest(key, query, prompt)


def served_model_of(
    options: ServedGeneratorOptions, max_new_tokens: int, resume: str = "the same command"
) -> OpenAIClient:
    """Return the model that the options name; greedy, as a local generator answers.

    `resume` says in errors what continues an interrupted run.

    Raises:
        UserError: no model, or no address.
    """
    endpoint = SERVER.endpoint(
        options.generator_url,
        options.generator_model,
        options.generator_api_key_env,
        resume=resume,
    )
    return OpenAIClient(endpoint, greedy(max_new_tokens), concurrency=16)
