"""Select the pairs that pass all filters and find their passage again, and split them.

Log or print which pairs were rejected, and by which filter.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from dalm.display import show
from dalm.ingest.near_duplicates import group_near_duplicates
from dalm.ingest.shared_content import groups_by_content
from dalm.io.splits import count_documents, split_by_document
from dalm.records import Example, Passage
from dalm.synth.filters import (
    ASKED_FOR,
    PAIR_FILTERS,
    READABLE,
    apply_filters,
    rejected,
    repeated,
)
from dalm.synth.pairs import Pair, Rejection
from dalm.synth.query_checks import overlap
from dalm.synth.question_judge import JUDGE
from dalm.synth.round_trip import ANSWERED_NOWHERE, ROUND_TRIP, Search, round_trip

logger = logging.getLogger(__name__)

OWN_WORDS, REPEATED = "words of its own", "question is new"
FILTERS = (
    *(READABLE, ASKED_FOR, *PAIR_FILTERS, OWN_WORDS, REPEATED),
    *(ROUND_TRIP, ANSWERED_NOWHERE, JUDGE),
)
"""The names of the filters in their order: the cheapest comes first."""

SAME_PASSAGE = 0.7
"""Jaccard similarity of two passages' word triples from which they are near duplicates."""
SAME_CONTENT = 0.8
"""Fraction of a passage's word triples that stand in another document."""
FEW_DOCUMENTS = 16
"""Documents below which intervals clustered by document are wide."""
LEAST_DOCUMENTS = 5
"""Documents up to which no sign-flip test over them reaches p < 0.05."""
MAX_EXAMPLE = 100  # characters of an example in the log


def select(
    pairs: Iterable[Pair],
    searches: Sequence[Search],
    k: int,
    rejections: list[Rejection],
    max_overlap: float = 1,
) -> list[Pair]:
    """Return the pairs that pass all filters, in their order; `rejections` gets the others.

    With k = 0 no query has to find its passage; with `max_overlap` = 1 all may copy theirs.
    """
    sound = []
    for pair in apply_filters(pairs, rejections):
        copied = overlap(pair.query, f"{pair.quote} {pair.other_quote}")
        if copied > max_overlap:
            reason = f"{100 * copied:.0f} % of its words are those of the quote"
            rejections.append(rejected(OWN_WORDS, reason, pair))
        else:
            sound.append(pair)
    new = []
    for pair, first in zip(sound, repeated([pair.query for pair in sound]), strict=True):
        if first is None:
            new.append(pair)
        else:
            rejections.append(rejected(REPEATED, f"repeats {sound[first].query!r}", pair))
    return round_trip(new, searches, k, rejections)


def split(
    pairs: Sequence[Pair], passages: Sequence[Passage], test_share: float, seed: int
) -> tuple[list[Pair], list[Pair]]:
    """Split by document (see `split_by_document`), and log how many documents are on each side.

    Near-duplicate passages are of one document, too, and so are documents of which one stands in
    the other. Groups are transitive: a passage that resembles two others puts all three into one
    group. A pair with two passages belongs to the document of the first, which is the second's as
    well. Nothing trains on a query without an answer: all of these go to test, where evaluation
    counts who declines them.
    """
    unanswerable = [pair for pair in pairs if not pair.answerable]
    pairs = [pair for pair in pairs if pair.answerable]
    if not pairs or not test_share:
        return pairs, unanswerable
    first = group_near_duplicates([passage.text for passage in passages], SAME_PASSAGE)
    holder = groups_by_content(passages, SAME_CONTENT)
    groups = {
        passage.id: (passages[place].id, passages[document].document or passages[document].id)
        for passage, place, document in zip(passages, first, holder, strict=True)
    }
    examples = []
    for place, pair in enumerate(pairs):
        group, document = groups[pair.passage.id]
        passage = Passage(group, pair.passage.text, pair.passage.title, document=document)
        examples.append(Example(str(place), None, passage))
    train, test = split_by_document(examples, test_share, seed)
    _log_split(train, test, len(unanswerable))
    tested = [pairs[int(e.query)] for e in test]
    return [pairs[int(e.query)] for e in train], [*tested, *unanswerable]


def _log_split(train: Sequence[Example], test: Sequence[Example], unanswerable: int) -> None:
    """Log the queries and documents of both sides, and whether an interval can be made of them."""
    of_train, of_test = count_documents(train), count_documents(test)
    logger.info(
        "split      train %d queries of %d documents, test %d of %d%s",
        *(len(train), of_train, len(test), of_test),
        f", and all {unanswerable} without an answer" if unanswerable else "",
    )
    total = of_train + of_test
    if of_test < FEW_DOCUMENTS and total > 1:
        share = min(FEW_DOCUMENTS / total, 0.5)
        remedy = f"--test-share {share:.2g}" if of_test < share * total - 1 else "more documents"
        logger.warning(
            "           the test queries are of %d document%s: their intervals will be wide%s; "
            "try %s",
            of_test,
            "" if of_test == 1 else "s",
            "" if of_test > LEAST_DOCUMENTS else ", and no difference between systems significant",
            remedy,
        )


def rejection_counts(rejections: Iterable[Rejection]) -> list[tuple[str, int, Rejection]]:
    """Return each filter's name, how many it rejected, and an example, in the filters' order."""
    by_filter = defaultdict[str, list[Rejection]](list)
    for rejection in rejections:
        by_filter[rejection.filter].append(rejection)
    found = ((name, by_filter[name]) for name in FILTERS if name in by_filter)
    return [(name, len(those), those[0]) for name, those in found]


def log_rejections(passed: int, rejections: Sequence[Rejection]) -> None:
    """Log how many pairs each filter rejected, with an example."""
    logger.info("queries    %d passed the filters, %d did not", passed, len(rejections))
    for name, number, example in rejection_counts(rejections):
        text = f"{example.query or example.answer!r} ({example.reason})"
        line = " ".join(text.split())
        if len(line) > MAX_EXAMPLE:
            line = f"{line[: MAX_EXAMPLE - 1]}…"
        logger.info("  %-27s%6d  %s", name, number, line)


def log_types(pairs: Sequence[Pair]) -> None:
    """Log how many queries there are of each type, and of each type of answer."""
    for name, types in (
        ("types", Counter(pair.query_type for pair in pairs)),
        ("answers", Counter(pair.answer_type for pair in pairs)),
    ):
        listed = ", ".join(f"{each} {number}" for each, number in types.most_common())
        logger.info("%-9s  %s", name, listed)


def print_preview(pairs: Sequence[Pair], rejections: Sequence[Rejection]) -> None:
    """Print the questions on a few passages, and which of them pass the filters."""
    every: list[Pair | Rejection] = [*pairs, *rejections]
    passages = {each.passage.id: each.passage for each in every}
    for key, passage in passages.items():
        show()
        show(f"passage   {passage.title + ': ' if passage.title else ''}{passage.text}")
        for pair in (each for each in pairs if each.passage.id == key):
            rank = "" if pair.rank is None else f", rank {pair.rank}"
            show(f"+ {pair.query_type}, {pair.answer_type}: {pair.query}")
            show(f"  answer  {pair.answer}")
            show(f"  quote   {pair.quote} ({pair.start} to {pair.end}{rank})")
        for rejection in (each for each in rejections if each.passage.id == key):
            show(f"- {rejection.filter}: {rejection.reason}")
            show(f"          {rejection.query or '(nothing readable)'}")
            show(f"  answer  {rejection.answer}")
    show()
    show(f"{len(pairs)} queries passed the filters, {len(rejections)} did not")
