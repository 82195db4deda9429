"""What becomes of the questions: drafts in, the pairs that pass all gates and a split out."""

from collections import Counter
from collections.abc import Iterable, Sequence

from dalm.config.data import KINDS, Kind
from dalm.io.splits import split_by_document
from dalm.records import Example, Passage
from dalm.synth.filters import FIRST_GATES, rejected, sift
from dalm.synth.pairs import Pair, Rejection
from dalm.synth.question_prompts import VERSION, Request
from dalm.synth.question_replies import Draft, is_empty_list, parse
from dalm.synth.repeated_questions import groups, repeated
from dalm.synth.round_trip import Search, searched

READABLE, ASKED_FOR = "answer readable", "no more than asked for"
REPEATED, ROUND_TRIP = "question is new", "round trip"
GATES = (READABLE, ASKED_FOR, *(gate.name for gate in FIRST_GATES), REPEATED, ROUND_TRIP)
"""The gates in their order: the cheapest comes first."""


def read_reply(text: str, request: Request, model: str, rejections: list[Rejection]) -> list[Pair]:
    """Return the pairs of a model's answer, as many as were asked for at most."""
    drafts = parse(text)
    if not drafts and not is_empty_list(text):
        reason = "an empty answer" if not text.strip() else "no question can be read in it"
        rejections.append(Rejection(READABLE, reason, request.passage, answer=text[:500]))
    pairs = [_pair(draft, request, model) for draft in drafts]
    number = request.wording.number
    rejections += [rejected(ASKED_FOR, f"one more than {number}", each) for each in pairs[number:]]
    return pairs[:number]


def _pair(draft: Draft, request: Request, model: str) -> Pair:
    return Pair(
        request.passage,
        query=draft.question,
        answer=draft.answer,
        quote=draft.quote,
        kind="multi-passage" if request.other else _kind(draft.kind),
        generator=model,
        prompt_version=VERSION,
        other=request.other,
        other_quote=draft.other_quote,
    )


def _kind(said: str) -> Kind:
    known = {kind: kind for kind in KINDS if kind != "multi-passage"}
    return known.get(said.lower(), "fact")  # type: ignore[call-overload, no-any-return]


def choose(
    pairs: Iterable[Pair], searches: Sequence[Search], k: int, rejections: list[Rejection]
) -> list[Pair]:
    """Return the pairs that pass all gates, in their order; `rejections` gets the others.

    With k = 0 no question is searched for.
    """
    sound = sift(pairs, FIRST_GATES, rejections)
    new = []
    for pair, first in zip(sound, repeated([pair.query for pair in sound]), strict=True):
        if first is None:
            new.append(pair)
        else:
            rejections.append(rejected(REPEATED, f"repeats {sound[first].query!r}", pair))
    if not k:
        return new
    passed = []
    for pair in searched(new, searches, k):
        if pair.rank is None:
            reason = f"its passage isn't among the best {k}"
            rejections.append(rejected(ROUND_TRIP, reason, pair))
        else:
            passed.append(pair)
    return passed


def split(
    pairs: Sequence[Pair], passages: Sequence[Passage], test_share: float, seed: int
) -> tuple[list[Pair], list[Pair]]:
    """Split by document (see `split_by_document`); near-duplicate passages are one document too.

    A pair with two passages belongs to the document of the first, which is the second's as well.
    """
    if not pairs:
        return [], []
    first = groups([passage.text for passage in passages])
    of_group = {p.id: passages[place].id for p, place in zip(passages, first, strict=True)}
    examples = [
        Example(str(place), None, Passage(of_group[p.passage.id], p.passage.text, p.passage.title))
        for place, p in enumerate(pairs)
    ]
    train, test = split_by_document(examples, test_share, seed)
    return ([pairs[int(e.query)] for e in train], [pairs[int(e.query)] for e in test])


def counted(rejections: Iterable[Rejection]) -> list[tuple[str, int, Rejection]]:
    """Return each gate's name, how many it turned away, and an example, in the gates' order."""
    first: dict[str, Rejection] = {}
    counts: Counter[str] = Counter()
    for rejection in rejections:
        counts[rejection.gate] += 1
        first.setdefault(rejection.gate, rejection)
    return [(gate, counts[gate], first[gate]) for gate in GATES if gate in first]
