"""Answer and score each distinct prompt once over all contexts and systems of an evaluation."""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from dalm import distributed
from dalm.eval.answer_journal import AnswerJournal
from dalm.eval.metrics import Column
from dalm.models.fingerprint import generator_fingerprint
from dalm.models.generate_and_score import Generated, generate_and_score
from dalm.models.shared_start import shares_starts
from dalm.progress import track
from dalm.prompts import Prompt
from dalm.rag.pipeline import LocalReader, prompts_of, prompts_to_answer
from dalm.records import Hit, JudgedQuery
from dalm.teachers.score_cache import KEY_BYTES
from dalm.training.scoring import mean_log_probs

logger = logging.getLogger(__name__)

Context = list[list[Hit]]
"""The passages in the prompt of each query."""


class Question(NamedTuple):
    """A prompt, and the question in it."""

    prompt: Prompt
    text: str


class Answered(NamedTuple):
    """The answers to queries from one context."""

    answers: list[str]
    nll: Column | None = None
    """None: not measured."""


@dataclass(frozen=True)
class CachedReader(LocalReader):
    """A local generator that keeps what it made of each prompt.

    Gold passages are often found, and bounds are the same for every system: of the prompts of an
    evaluation with a baseline less than half are distinct. The journal keeps it on disk, too.
    """

    journal: AnswerJournal = field(default_factory=AnswerJournal)
    _answers: dict[bytes, str] = field(default_factory=dict)
    _log_probs: dict[bytes, float] = field(default_factory=dict)
    """Mean log-probability of a reference, by the tokens of its prompt and its own."""

    @property
    def prompts_read(self) -> int:
        """The number of distinct prompts that were answered."""
        return len(self._answers)

    def answer_and_score(
        self, queries: Sequence[JudgedQuery], contexts: Sequence[Context]
    ) -> tuple[list[Answered], list[str]]:
        """Answer each query from each context, and score its references.

        Return the answers and NLL by context, and the answers that weren't there before. Each
        process reads a share of the prompts; all of them get all answers.

        Raises:
            UserError: a question that leaves no room for an answer.
        """
        texts = [query.query for query in queries]
        rows = [(i, reference) for i, query in enumerate(queries) for reference in query.references]
        generator = self.generator
        asked = [prompts_to_answer(generator, texts, c, self.max_new_tokens) for c in contexts]
        scored = [self._with_references(texts, context, rows) for context in contexts]
        fitting = [prompt for prompts in scored for prompt in prompts if prompt is not None]
        questions = {
            self._key(prompt.tokens): Question(prompt, text)
            for prompts in asked
            for prompt, text in zip(prompts, texts, strict=True)
        }
        with self.journal:
            self._recall(questions, fitting)
            generated = self._generate(questions, fitting)
            self._score(fitting)
        answers = [[self._answers[self._key(each.tokens)] for each in prompts] for prompts in asked]
        places = [i for i, _ in rows]
        nll = [self._nll(len(queries), places, prompts) for prompts in scored]
        return [Answered(*each) for each in zip(answers, nll, strict=True)], generated

    def _recall(self, questions: Mapping[bytes, Question], scored: Sequence[Prompt]) -> None:
        """Take what an earlier run has kept; every process takes what each of them finds."""
        kept = self.journal
        missing = [key for key in questions if key not in self._answers]
        answers = {key: found for key in missing if (found := kept.answer(key)) is not None}
        unscored = {self._key(prompt.tokens) for prompt in scored} - self._log_probs.keys()
        log_probs = {key: mean for key in unscored if (mean := kept.log_prob(key)) is not None}
        for each, other in distributed.gather_shares([(answers, log_probs)]):
            self._answers.update(each)
            self._log_probs.update(other)
        if known := len(self._answers.keys() & set(missing)):
            logger.info("journal    %d of %d answers are kept", known, len(missing))

    def _with_references(
        self, texts: Sequence[str], context: Context, rows: Sequence[tuple[int, str]]
    ) -> list[Prompt | None]:
        """Return the prompt of each query and reference; None: it doesn't fit."""
        queries, read = [texts[i] for i, _ in rows], [context[i] for i, _ in rows]
        references = [reference for _, reference in rows]
        return prompts_of(self.generator, queries, read, self.generator.max_length, references)

    @cached_property
    def _shares(self) -> bool:
        return shares_starts(self.generator)

    def _generate(self, questions: Mapping[bytes, Question], scored: Sequence[Prompt]) -> list[str]:
        """Answer the prompts without an answer, and score the references that follow them."""
        missing = [key for key in questions if key not in self._answers]
        following: dict[bytes, dict[bytes, list[int]]] = {key: {} for key in missing}
        for prompt in scored if self._shares else ():
            start, key = self._key(prompt.tokens[: prompt.answer_start]), self._key(prompt.tokens)
            if start in following and key not in self._log_probs:
                following[start][key] = prompt.tokens[prompt.answer_start :]
        mine = distributed.share(missing)
        texts = {key: questions[key].text for key in mine}
        own = [Generated("", [])] * len(mine)
        for batch in self._generated(
            [questions[key].prompt for key in mine],
            [list(following[key].values()) for key in mine],
        ):
            for row, each in batch.items():
                own[row] = each
                log_probs = zip(following[mine[row]], each.log_probs, strict=True)
                self.journal.add_log_probs(dict(log_probs))
            self.journal.add_answers({mine[row]: each.answer for row, each in batch.items()}, texts)
        found = distributed.gather_shares(own)
        for (key, keys), each in zip(following.items(), found, strict=True):
            self._answers[key] = each.answer
            self._log_probs.update(zip(keys, each.log_probs, strict=True))
        return [each.answer for each in found]

    def _generated(
        self, prompts: Sequence[Prompt], references: Sequence[Sequence[Sequence[int]]]
    ) -> Iterator[dict[int, Generated]]:
        """Yield what is made of prompts, batch by batch; nothing scored unless keys are shared."""
        if self._shares:
            yield from generate_and_score(self.generator, prompts, references, self.max_new_tokens)
            return
        for batch in self.generator.generate_batches(prompts, self.max_new_tokens):
            made = [Generated(answer, []) for answer in batch.answers]
            yield dict(zip(batch.rows, made, strict=True))

    def _score(self, scored: Sequence[Prompt]) -> None:
        """Score the references that no answered prompt comes before.

        Their prompts are truncated more or less than those of answers, or the model can't go on
        from keys and values.
        """
        missing = {self._key(prompt.tokens): prompt for prompt in scored}
        missing = {key: prompt for key, prompt in missing.items() if key not in self._log_probs}
        mine = distributed.share(list(missing))
        own = [0.0] * len(mine)
        batches = mean_log_probs(self.generator, [missing[key] for key in mine])
        what = ("scoring answers", "references")
        for places, means in track(batches, len(mine), *what, lambda each: len(each[0])):
            for place, mean in zip(places, means, strict=True):
                own[place] = mean
            self.journal.add_log_probs({mine[place]: own[place] for place in places})
        self._log_probs.update(zip(missing, distributed.gather_shares(own), strict=True))

    def _nll(self, count: int, rows: Sequence[int], scored: Sequence[Prompt | None]) -> Column:
        """Return the negative log-likelihood per token of the likeliest reference, in nats.

        −(1/T) Σ_t log p(token t | prompt, tokens before it), over the answer's tokens and its EOS.
        None for a query without a reference, or whose references leave no room for the question.
        """
        lowest: dict[int, float] = {}
        for i, prompt in zip(rows, scored, strict=True):
            if prompt is not None:
                value = -self._log_probs[self._key(prompt.tokens)]
                lowest[i] = min(value, lowest.get(i, value))
        too_long = set(rows) - lowest.keys()
        if too_long:
            logger.warning(
                "NLL        %d answers leave no room for the question and have none; raise "
                "--generator-max-len",
                len(too_long),
            )
        return [lowest.get(i) for i in range(count)]

    def _key(self, tokens: Sequence[int]) -> bytes:
        """Return a hash of tokens: a prompt itself takes a hundred times as much.

        It is of the generator, too, where it is kept on disk.
        """
        content = np.asarray(tokens, np.int32).tobytes()
        return hashlib.blake2b(content, digest_size=KEY_BYTES, key=self._identity).digest()

    @cached_property
    def _identity(self) -> bytes:
        if self.journal.path is None:
            return b""
        return f"{generator_fingerprint(self.generator)} {self.max_new_tokens}".encode()
