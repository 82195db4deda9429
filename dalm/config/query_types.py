"""Define what kinds of queries and answers `dalm qa-gen` generates, and in which shares.

What people type is seldom a whole question, and a retriever trained on several types of query
gains more than one trained on questions alone (CADET, arXiv:2505.19274). Help, prompts,
documentation and tests are made from the two registries here; the checks of each type are in
`dalm.synth.query_checks`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dalm.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerType:
    """A type of answer: what a model is asked for."""

    name: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryType:
    """A type of query: what a model is asked for, an example, and the answers that it can have.

    The example and its answer are about `EXAMPLE_PASSAGE`. `share` is that of the model backends'
    default, `rules_share` that of `extractive`; 0 there means that no rule can make it.
    """

    name: str
    meaning: str
    example: str
    example_answer: str
    answers: tuple[str, ...]
    share: float = 0
    rules_share: float = 0


EXAMPLE_PASSAGE = (
    "The feed pump in Ulm was built in 1874. It switches itself off at 12 bar, because its seals "
    "leak above that pressure. To restart it, open the relief valve, wait until the gauge shows 3 "
    "bar, and press the green button. If the relief valve sticks, the pump stops after a minute "
    "although the tank is full."
)
_ANSWERS = (
    AnswerType(name="short", meaning="a name, a number, a term: at most eight words"),
    AnswerType(name="long", meaning="one or two whole sentences"),
    AnswerType(name="list", meaning='all of several things, with "; " between them'),
    AnswerType(
        name="yes-no", meaning='"Yes" or "No", a comma, and the reason in at most twelve words'
    ),
    AnswerType(
        name="unanswerable",
        meaning="the query is on the passage's subject and somebody might well ask it, but the "
        'passage does not hold the answer: "answer" is the word unanswerable',
    ),
)
_FREE = tuple(each.name for each in _ANSWERS)
_STATED = ("short", "long", "list", "yes-no")

ANSWER_TYPES: Mapping[str, AnswerType] = {each.name: each for each in _ANSWERS}
QUERY_TYPES: Mapping[str, QueryType] = {
    each.name: each
    for each in (
        QueryType(
            name="question",
            meaning="a whole question, as one would put it to a colleague",
            example="At what pressure does the pump in Ulm switch itself off?",
            example_answer="12 bar",
            answers=_FREE,
            share=0.5,
            rules_share=0.6,
        ),
        QueryType(
            name="keywords",
            meaning="two to six words as typed into a search box, not a sentence",
            example="Ulm pump cut-off pressure",
            example_answer="It switches itself off at 12 bar, because its seals "
            "leak above that pressure.",
            answers=("long",),
            share=0.2,
            rules_share=0.3,
        ),
        QueryType(
            name="title",
            meaning="a heading under which somebody would look for this passage and no other",
            example="Automatic cut-off of the Ulm pump",
            example_answer="It switches itself off at 12 bar, because its seals "
            "leak above that pressure.",
            answers=("long",),
            share=0.1,
            rules_share=0.1,
        ),
        QueryType(
            name="claim",
            meaning="a statement that the passage supports or refutes, to be checked",
            example="The pump in Ulm runs on at any pressure",
            example_answer="No, it switches itself off at 12 bar.",
            answers=("yes-no",),
            share=0.1,
        ),
        QueryType(
            name="how-to",
            meaning="what somebody types who wants to do what the passage tells how to do",
            example="how to restart the Ulm pump after a cut-off",
            example_answer="open the relief valve; wait until the gauge shows 3 bar; "
            "press the green button",
            answers=("list", "long"),
            share=0.1,
        ),
        QueryType(
            name="symptom",
            meaning="what somebody sees going wrong and describes without knowing the cause, which "
            "the passage gives",
            example="pump stops after a minute although the tank is full",
            example_answer="The relief valve sticks.",
            answers=("long", "short"),
        ),
        QueryType(
            name="follow-up",
            meaning="two questions on one line as a chat sends them together, the second "
            "understandable only after the first; the answer is that to the second",
            example="At what pressure does the pump in Ulm switch off? And why then?",
            example_answer="because its seals leak above that pressure",
            answers=_STATED,
        ),
        QueryType(
            name="multi-passage",
            meaning="a whole question that can only be answered from both passages together",
            example="Which of the two pumps in Ulm switches off at a lower pressure?",
            example_answer="the feed pump",
            answers=_STATED,
        ),
    )
}
DEFAULT_ANSWERS: Mapping[str, float] = {"short": 0.5, "long": 0.3, "list": 0.1, "yes-no": 0.1}


def default_shares(*, rules: bool) -> dict[str, float]:
    """Return the shares of the query types by default, for rules or for a model."""
    shares = {n: t.rules_share if rules else t.share for n, t in QUERY_TYPES.items()}
    return {name: share for name, share in shares.items() if share}


def shares_of(
    option: str, given: Sequence[str] | None, default: Mapping[str, float], known: Collection[str]
) -> dict[str, float]:
    """Return the share of each type as given, such as `question=0.7 keywords=0.3`, summing to 1.

    A name without a number has the share 1 before the division.

    Raises:
        UserError: an unknown or repeated type, no number, or nothing above 0.
    """
    shares = dict(default) if given is None else {}
    for text in given or ():
        name, equals, number = (part.strip() for part in text.partition("="))
        if name not in known:
            raise UserError(f"{option} {text}: no such type; there are {', '.join(known)}")
        if name in shares:
            raise UserError(f"{option} {text}: {name} is named twice; name it once")
        try:
            shares[name] = float(number) if equals else 1.0
        except ValueError:
            shares[name] = -1.0
        if not 0 <= shares[name] < float("inf"):
            raise UserError(f"{option} {text}: the share must be a number of at least 0")
    total = sum(shares.values())
    if not total:
        raise UserError(f"{option}: all shares are 0; give one of the types more")
    return {name: share / total for name, share in shares.items() if share}


def listing(types: Mapping[str, QueryType] | Mapping[str, AnswerType]) -> str:
    """Return the types with what they mean, for help."""
    return "; ".join(f"{name}: {each.meaning}" for name, each in types.items())
