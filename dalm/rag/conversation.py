"""Answer questions from an index: search, read, answer, cite; follow-up questions included."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from dalm.llm.json_replies import one_line
from dalm.llm.language_model import LanguageModel
from dalm.llm.sampling import Outcome
from dalm.llm.thoughts import without_thoughts
from dalm.prompts import Message
from dalm.rag.citations import KnownCitations, cited
from dalm.rag.pipeline import NOT_FOUND, Reader, is_answerable
from dalm.records import Hit
from dalm.retrieval.base import Searcher

REMEMBERED = 4
"""Earlier questions and answers with which a follow-up question is rewritten."""
REWRITE = (
    "Rewrite the last question so that it can be understood without the conversation before it: "
    "put in what its pronouns and gaps refer to, and change nothing else. Reply with the question "
    "alone."
)


@dataclass(slots=True)
class Turn:
    """A question, what was searched for it, the passages read, and the answer so far."""

    question: str
    searched: str
    """The question as it was searched: a follow-up question with what it refers to."""
    hits: Sequence[Hit] = ()
    """The passages read, as they are numbered in citations."""
    omitted: int = 0
    """Passages that were to be read and don't fit into the prompt."""
    truncated: bool = False
    """Even the first passage doesn't fit as a whole: its end is cut off."""
    answer: str = ""
    outcome: Outcome = field(default_factory=Outcome)
    """How the answer ended, and its tokens, once it is whole."""
    not_found: bool = False
    """Nothing found is relevant: `answer` says so, and no generator was asked."""
    dropped: int = 0
    """Citations of numbers that no passage has; they are left out of the answer."""

    @property
    def cited(self) -> list[int]:
        """The numbers that the answer cites, in order."""
        return sorted(cited(self.answer))


@dataclass
class Conversation:
    """Answers to questions that may refer to earlier ones.

    `rewriter` makes a follow-up question one that stands alone; without one, the question before
    it is searched with it.
    """

    searcher: Searcher
    reader: Reader
    rewriter: LanguageModel | None = None
    turns: list[Turn] = field(default_factory=list)
    answer_anyway: bool = False
    """Whether the generator also answers from passages that are below the index's threshold."""

    def ask(self, question: str) -> tuple[Turn, Iterator[str]]:
        """Return a turn with its passages, and the pieces of its answer as they are generated.

        The turn has its whole answer when the pieces have been read.
        """
        searched = self._standing_alone(question)
        (hits,) = self.searcher.search([searched], self.reader.reader_passages)
        read = self.reader.whole(searched, hits)
        turn = Turn(question, searched, tuple(read), len(hits) - len(read))
        turn.truncated = self.reader.truncates(searched, read)
        turn.not_found = not hits or not (self.answer_anyway or is_answerable(hits))
        return turn, self._answer(turn)

    def _answer(self, turn: Turn) -> Iterator[str]:
        pieces = []
        known = KnownCitations(len(turn.hits))
        said: Iterable[str] = [NOT_FOUND]
        if not turn.not_found:
            said = self.reader.stream(turn.searched, turn.hits, turn.outcome)
            said = known.of(said) if self.reader.cites else said
        for piece in said:
            pieces.append(piece)
            yield piece
        turn.answer = without_thoughts("".join(pieces)).strip()
        turn.dropped = known.dropped
        self.turns.append(turn)

    def _standing_alone(self, question: str) -> str:
        if not self.turns:
            return question
        if self.rewriter is None:
            return f"{self.turns[-1].question} {question}"
        content = "\n".join(
            f"Question: {turn.question}\nAnswer: {turn.answer}" for turn in self.turns[-REMEMBERED:]
        )
        messages: list[Message] = [
            {"role": "system", "content": REWRITE},
            {"role": "user", "content": f"{content}\nQuestion: {question}"},
        ]
        reply = one_line(without_thoughts("".join(self.rewriter.stream(messages))))
        return reply.removeprefix("Question:").strip() or question
