"""Answer questions from retrieved passages with a generator on an OpenAI-compatible server."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dalm.config.evaluation import ServedGeneratorOptions
from dalm.errors import UserError
from dalm.llm.json_replies import without_thoughts
from dalm.llm.language_model import LanguageModel
from dalm.llm.response_cache import Journal, cache_key, cached_replies
from dalm.llm.served_model import ServedModel, ServerOptions
from dalm.prompts import Message, numbered
from dalm.records import Answer, Hit

SERVER = ServerOptions(
    needed_by="--generator-url",
    url="--generator-url",
    model="--generator-model",
    api_key_env="--generator-api-key-env",
)

UserMessage = Callable[[str, Sequence[str]], str]
"""Make a generator's user message of a question and the texts of its passages."""


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

    model: LanguageModel
    user_message: UserMessage
    journal: Path
    """Keeps every reply, so that no prompt is sent twice."""
    reader_passages: int = 1
    cites: bool = False
    resume: str = "the same command"

    def answer(self, queries: Sequence[str], hits: Sequence[Sequence[Hit]], /) -> list[Answer]:
        """Answer each question from its best `reader_passages` hits, or without if it has none.

        Raises:
            UserError: a question without an answer, once all others have theirs in the journal.
        """
        read = [tuple(found[: self.reader_passages]) for found in hits]
        requests = [self._request(query, each) for query, each in zip(queries, read, strict=True)]
        if not requests:
            return []
        with Journal(self.journal) as journal:
            replies = cached_replies(self.model, requests, journal, self.resume)
        texts = {request.key: without_thoughts(reply.text).strip() for request, reply in replies}
        if missing := [request.query for request in requests if request.key not in texts]:
            raise UserError(
                f"{len(missing)} of {len(requests)} questions have no answer, first of all "
                f'"{missing[0][:60]}"; replies so far are kept, {self.resume} asks for the others'
            )
        answers = [texts[request.key] for request in requests]
        return [Answer(*answered) for answered in zip(queries, answers, read, strict=True)]

    def _request(self, query: str, hits: Sequence[Hit]) -> AnswerRequest:
        texts = [hit.passage.text for hit in hits]
        prompt = self.user_message(query, numbered(texts) if self.cites else texts)
        key = cache_key(prompt, self.model.identity, dict(self.model.parameters))
        return AnswerRequest(key, query, prompt)


def served_model_of(
    options: ServedGeneratorOptions, max_new_tokens: int, resume: str = SERVER.resume
) -> ServedModel:
    """Return the model that the options name; greedy, as a local generator answers.

    `resume` says in errors what continues an interrupted run.

    Raises:
        UserError: no model, or no address.
    """
    server = replace(SERVER, resume=resume)
    endpoint = server.endpoint(
        options.generator_url,
        options.generator_model,
        options.generator_api_key_env,
        max_retries=8,
        timeout=300.0,
    )
    parameters = {"temperature": 0.0, "max_tokens": max_new_tokens, "seed": 0}
    return ServedModel(endpoint, server, parameters, concurrency=16)
