"""A generator and what there is to read for each query in; answers and their measures out."""

import logging
import random
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from dalm import distributed
from dalm.eval.answer_metrics import abstains, grounding, measure_answers
from dalm.eval.citations import measure_citations, without_citations
from dalm.eval.metrics import Column
from dalm.eval.results import Results
from dalm.eval.timing import Stopwatch
from dalm.io.evaluation_set import EvaluationSet
from dalm.models.batching import by_length
from dalm.models.generator import Generator
from dalm.progress import track
from dalm.rag.pipeline import answer, prompts_of
from dalm.records import Hit, JudgedQuery, Passage
from dalm.training.scoring import score_no_grad

logger = logging.getLogger(__name__)

SCORED_TOKENS = 8_192
"""Tokens of a batch of prompts whose answers are scored."""

Read = list[list[Hit]]


def read_and_answer(
    generator: Generator,
    results: Results,
    asked: EvaluationSet,
    *,
    reader_passages: int,
    max_new_tokens: int,
    bounds: bool,
    seed: int,
    watch: Stopwatch,
) -> Results:
    """Let the generator answer from the hits, and with `bounds` from other passages too.

    The bounds are gold passages, random ones, and none. Adds exact match, F1, containment, ROUGE-L
    and NLL for each, grounding for the hits, and where the data marks unanswerable questions the
    share of them that is declined, and of the answerable ones that is declined wrongly. If the
    generator cites, citations are measured for the hits, and taken out for all else.
    """
    given: dict[str, Read] = {"found": [list(hits[:reader_passages]) for hits in results.hits]}
    if bounds:
        names = sorted(asked.passages)
        given |= {
            "gold": [_gold(query, asked.passages, reader_passages) for query in asked.queries],
            "random": [
                _random(query, names, asked.passages, reader_passages, seed)
                for query in asked.queries
            ],
            "none": [[] for _ in asked.queries],
        }
    answers: dict[str, list[str]] = {}
    measures = dict(results.measures)
    for name, read in given.items():
        stage = "answering" if name == "found" else "bounds"
        with watch.stage(stage):
            answers[name] = _answers(generator, asked.queries, read, max_new_tokens)
        with watch.stage("scoring answers"):
            nll = _nll(generator, asked.queries, read)
        tokens = sum(map(len, generator.tokenise(answers[name])))
        watch.count(stage, tokens, "tokens")
        plain = list(map(without_citations, answers[name])) if generator.cites else answers[name]
        references = [query.references for query in asked.queries]
        columns = {**measure_answers(plain, references), "NLL": nll}
        if name == "gold":  # a query without a gold passage has read nothing
            columns = {key: _where(read, column) for key, column in columns.items()}
        suffix = "" if name == "found" else f"[{name}]"
        measures |= {f"{key}{suffix}": column for key, column in columns.items()}
        if name == "found":
            measures |= _from_passages(plain, read) | _declined(asked, plain)
    if generator.cites:
        measures |= measure_citations(answers["found"], given["found"], asked.queries)
    facts = {
        **results.facts,
        "reader_passages": reader_passages,
        "citations": generator.cites,
    }
    return replace(results, answers=answers, measures=measures, facts=facts)


def _answers(
    generator: Generator, queries: Sequence[JudgedQuery], read: Read, max_new_tokens: int
) -> list[str]:
    mine = distributed.share([query.query for query in queries])
    texts = answer(
        generator,
        mine,
        distributed.share(read),
        reader_passages=max(1, *map(len, read)),
        max_new_tokens=max_new_tokens,
    )
    return distributed.gather_shares([each.text for each in texts])


def _gold(query: JudgedQuery, passages: Mapping[str, Passage], count: int) -> list[Hit]:
    return [Hit(passages[each], 1.0) for each in query.gold[:count] if each in passages]


def _random(
    query: JudgedQuery, names: Sequence[str], passages: Mapping[str, Passage], count: int, seed: int
) -> list[Hit]:
    """Draw passages that aren't relevant; the same ones for a query wherever it stands.

    `names` are all passages' in order: places are drawn among those that are left when the
    relevant ones are not there, so that a large knowledge base isn't gone through for each query.
    """
    taken = sorted(bisect_left(names, each) for each in query.gold if each in passages)
    left = range(len(names) - len(taken))
    drawn = random.Random(f"{seed} {query.id}").sample(left, min(count, len(left)))
    return [Hit(passages[names[_beyond(taken, place)]], 1.0) for place in drawn]


def _beyond(taken: Sequence[int], place: int) -> int:
    """Return where the `place`-th of those is that are not taken."""
    for each in taken:
        place += each <= place
    return place


# Measures


def _nll(generator: Generator, queries: Sequence[JudgedQuery], read: Read) -> Column:
    """Return the negative log-likelihood per token of the likeliest reference, in nats.

    −(1/T) Σ_t log p(token t | prompt, tokens before it), the end of the answer counted. None for a
    query without a reference, or whose references leave no room for the question.
    """
    rows = [
        (place, reference) for place, query in enumerate(queries) for reference in query.references
    ]
    mine = distributed.share(rows)
    likely: dict[int, float] = {}
    for place, value in distributed.gather_shares(_scored(generator, queries, read, mine)):
        if value is not None:
            likely[place] = min(value, likely.get(place, value))
    without = {place for place, _ in rows} - likely.keys()
    if without:
        logger.warning(
            "NLL        %d answers are longer than a prompt may be and have none; raise "
            "--generator-max-len",
            len(without),
        )
    return [likely.get(place) for place in range(len(queries))]


def _scored(
    generator: Generator,
    queries: Sequence[JudgedQuery],
    read: Read,
    rows: Sequence[tuple[int, str]],
) -> list[tuple[int, float | None]]:
    """Return each row's place and NLL per token, None where it doesn't fit."""
    asked = [queries[place].query for place, _ in rows]
    given = [read[place] for place, _ in rows]
    references = [reference for _, reference in rows]
    made = prompts_of(generator, asked, given, generator.max_length, references)
    found: list[float | None] = [None] * len(rows)
    fitting = [(row, prompt) for row, prompt in enumerate(made) if prompt is not None]
    lengths = np.array([prompt.length for _, prompt in fitting], dtype=np.int64)
    groups = list(by_length(lengths, SCORED_TOKENS, most=128))
    with generator.placement.autocast():
        for group in track(groups, len(groups), "scoring answers", "batch"):
            some = [fitting[each] for each in group]
            totals = score_no_grad(generator, [prompt for _, prompt in some])[:, 0].sum(1).tolist()
            for (row, prompt), total in zip(some, totals, strict=True):
                found[row] = -total / (prompt.length - prompt.answer_start)
    return [(place, value) for (place, _), value in zip(rows, found, strict=True)]


def _where(read: Read, column: Column) -> Column:
    return [value if hits else None for hits, value in zip(read, column, strict=True)]


def _from_passages(answers: Sequence[str], read: Read) -> dict[str, Column]:
    pairs = zip(answers, read, strict=True)
    return {"grounding": [grounding(text, [h.passage.text for h in hits]) for text, hits in pairs]}


def _declined(asked: EvaluationSet, answers: Sequence[str]) -> dict[str, Column]:
    """Return what share was declined of the questions that the data marks, either way."""
    marks = [query.answerable for query in asked.queries]
    if False not in marks:
        return {}
    declined = [float(abstains(text)) for text in answers]

    def of(wanted: bool) -> Column:
        pairs = zip(marks, declined, strict=True)
        return [value if mark is wanted else None for mark, value in pairs]

    return {"abstention": of(False), "false abstention": of(True)}
