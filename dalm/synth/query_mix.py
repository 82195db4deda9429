"""Draw which types of queries, with which types of answers, are asked for about each passage.

What is drawn depends on the passage and the shares alone: the same passage in a larger table gives
the same request, whose reply is in the journal.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from dalm.config import QaGen
from dalm.config.query_types import (
    ANSWER_TYPES,
    DEFAULT_ANSWERS,
    QUERY_TYPES,
    default_shares,
    shares_of,
)
from dalm.config.questions import KINDS, Kind
from dalm.errors import UserError

GOLDEN = 0.618_033_988_749_895
"""Step between a passage's draws: any number of them are spread evenly over 0 to 1."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A query that is asked for: its type, that of its answer, and the kind of a whole question."""

    query_type: str
    answer_type: str
    kind: Kind | None = None


@dataclass(frozen=True)
class QueryMix:
    """How many queries are asked for about a passage, and the shares of their types.

    With `lines` each of them is a request of its own, answered in two lines.
    """

    number: int
    query_types: Mapping[str, float]
    answer_types: Mapping[str, float]
    kinds: tuple[Kind, ...] = KINDS
    lines: bool = False

    @classmethod
    def of(cls, settings: QaGen) -> "QueryMix":
        """Return the mix that was asked for.

        Raises:
            UserError: an unknown type, a share that is no number, or a type that no rule can make.
        """
        rules = settings.backend == "extractive"
        option, default = "--query-types", default_shares(rules=rules)
        types = shares_of(option, settings.query_types, default, QUERY_TYPES)
        made = default_shares(rules=True)
        if rules and (other := next((name for name in types if name not in made), None)):
            raise UserError(
                f"{option} {other}: rules can't make it, only {', '.join(made)}; name a model: "
                "--backend http or --backend transformers"
            )
        answers = shares_of("--answer-types", settings.answer_types, DEFAULT_ANSWERS, ANSWER_TYPES)
        lines = settings.reply_format == "lines"
        beyond = {
            "--answer-types": settings.answer_types,
            "--kinds": settings.kinds,
            f"{option} multi-passage": "multi-passage" in types,
        }
        if lines and (name := next((name for name in beyond if beyond[name]), None)):
            raise UserError(
                f"{name} has no effect with --reply-format lines, whose prompts are for small "
                "models; leave out one of them"
            )
        kinds = tuple(settings.kinds or KINDS)
        return cls(settings.questions_per_passage, types, answers, kinds, lines)

    def slots(self, passage: str) -> list[Slot]:
        """Return what is asked for about the passage with this id."""
        found = []
        for number, (place, other, kind) in enumerate(self._draws(passage)):
            query_type = drawn(self.query_types, place)
            fitting = QUERY_TYPES[query_type].answers
            shares = {n: s for n, s in self.answer_types.items() if n in fitting}
            answer = drawn(shares, other) if shares else fitting[0]
            whole = query_type == "question" and answer != "unanswerable"
            turn = int(kind * len(self.kinds)) + number
            found.append(
                Slot(query_type, answer, self.kinds[turn % len(self.kinds)] if whole else None)
            )
        return found

    def _draws(self, passage: str) -> Iterator[Sequence[float]]:
        """Yield three numbers from 0 to 1 for each query."""
        starts = [uniform(passage, what) for what in ("query", "answer", "kind")]
        for number in range(self.number):
            place, answer = ((start + number * GOLDEN) % 1 for start in starts[:2])
            yield place, answer, starts[2]


def uniform(*parts: str) -> float:
    """Return a number from 0 to 1, a hash of the parts."""
    digest = blake2b(" ".join(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def drawn(shares: Mapping[str, float], place: float) -> str:
    """Return the name whose part of the line from 0 to 1 holds the place."""
    rest, name = place * sum(shares.values()), ""
    for name, share in shares.items():  # noqa: B007
        rest -= share
        if rest < 0:
            break
    return name
