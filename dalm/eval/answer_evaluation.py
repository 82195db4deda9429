"""Let a generator answer from the passages found, and from others, and measure the answers."""

import logging
import random
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dalm import distributed
from dalm.eval.answers import score_answers
from dalm.eval.cached_reader import Answered, CachedReader, Context
from dalm.eval.metrics import BOUNDS, Column, metrics_that_need
from dalm.eval.results import Results
from dalm.io.evaluation_set import EvaluationSet
from dalm.progress import Bar, Stopwatch
from dalm.rag.citations import without_citations
from dalm.rag.pipeline import NOT_FOUND, Reader, is_answerable
from dalm.records import Hit, JudgedQuery, Passage

logger = logging.getLogger(__name__)


def evaluate_answers(
    reader: Reader,
    results: Results,
    dataset: EvaluationSet,
    watch: Stopwatch,
    bounds_seed: int | None,
) -> Results:
    """Answer each query from its hits, and from other passages as bounds; measure the answers.

    Behind a reranker, the hits are those in its order.
    The bounds are answers from gold passages, from random ones, drawn with `bounds_seed`, and from
    none; without a seed there are no bounds. Metrics that need references, and NLL, are taken of
    all of them; the others of the answers from the hits only. A generator on a server has no NLL.
    Citations are removed before anything but the citation metrics is computed.
    """
    contexts = _contexts(dataset, results, reader.reader_passages, bounds_seed)
    queries, refused = dataset.queries, set[int]()
    if "search_index" in results.facts:  # read and refused as `dalm ask` does
        found = [
            list(reader.whole(query.query, hits)) if hits else []
            for query, hits in zip(queries, contexts["found"], strict=True)
        ]
        contexts["found"] = found
        refused = {row for row, hits in enumerate(found) if not is_answerable(hits)}
    answered = _all_answers(reader, queries, contexts, watch)
    answers = {name: each.answers for name, each in answered.items()}
    answers["found"] = [
        NOT_FOUND if row in refused else text for row, text in enumerate(answers["found"])
    ]
    measures = dict(results.measures)
    for name, context in contexts.items():
        plain = list(map(without_citations, answers[name])) if reader.cites else answers[name]
        measures |= _columns(name, plain, answered[name].nll, queries, context)
    if reader.cites:
        metrics = metrics_that_need("citations")
        measures |= score_answers(metrics, answers["found"], queries, contexts["found"])
    facts = {"reader_passages": reader.reader_passages, "citations": reader.cites}
    if "search_index" in results.facts:
        logger.info("refused    %d of %d questions: nothing relevant", len(refused), len(queries))
        facts["refused"] = len(refused)
    return replace(results, answers=answers, measures=measures, facts={**results.facts, **facts})


def _columns(
    name: str,
    answers: Sequence[str],
    nll: Column | None,
    queries: Sequence[JudgedQuery],
    context: Context,
) -> dict[str, Column]:
    """Return the measures of the answers from the context `name`, as `EM` or as `EM[gold]`."""
    columns = score_answers(metrics_that_need("references"), answers, queries, context)
    if nll is not None:
        columns["NLL"] = nll
    if name == "gold":  # a query without a gold passage has no context
        columns = {
            key: [value if hits else None for hits, value in zip(context, column, strict=True)]
            for key, column in columns.items()
        }
    if name in BOUNDS:
        return {f"{key}[{name}]": column for key, column in columns.items()}
    metrics = metrics_that_need("passages")
    if any(query.answerable is False for query in queries):
        metrics += metrics_that_need("answerable")
    return columns | score_answers(metrics, answers, queries, context)


def _contexts(
    dataset: EvaluationSet, results: Results, count: int, seed: int | None
) -> dict[str, Context]:
    """Return the `count` passages that the generator reads for each query: found, then bounds."""
    found = results.reranked or results.hits
    contexts: dict[str, Context] = {"found": [list(hits[:count]) for hits in found]}
    if seed is not None:
        queries, passages, names = dataset.queries, dataset.passages, sorted(dataset.passages)
        contexts["gold"] = [
            [Hit(passages[each], 1.0) for each in query.gold[:count] if each in passages]
            for query in queries
        ]
        contexts["random"] = [_random(query, names, passages, count, seed) for query in queries]
        contexts["none"] = [[] for _ in queries]
    return contexts


def _all_answers(
    reader: Reader,
    queries: Sequence[JudgedQuery],
    contexts: Mapping[str, Context],
    watch: Stopwatch,
) -> dict[str, Answered]:
    """Answer each query from each context; one bar counts all answers."""
    share, stage = len(distributed.share(queries)), "answering"
    with Bar(share * len(contexts), stage, "answers") as bar, watch.stage(stage):
        found, generated = _answers(reader, queries, list(contexts.values()), bar)
    if isinstance(reader, CachedReader):
        tokens = reader.generator.tokenise(generated)
        watch.count(stage, sum(map(len, tokens)), "tokens")
    else:
        watch.count(stage, len(generated), "answers")
    return dict(zip(contexts, found, strict=True))


def _answers(
    reader: Reader, queries: Sequence[JudgedQuery], contexts: Sequence[Context], bar: Bar
) -> tuple[list[Answered], list[str]]:
    """Return the answers by context, and those that were generated for them."""
    mine, found = distributed.share([query.query for query in queries]), list[Answered]()
    if isinstance(reader, CachedReader):
        found, generated = reader.answer_and_score(queries, contexts)
        bar.update(len(mine) * len(contexts))
        return found, generated
    for context in contexts:
        own = [each.text for each in reader.answer(mine, distributed.share(context))]
        found.append(Answered(distributed.gather_shares(own)))
        bar.update(len(mine))
    return found, [text for each in found for text in each.answers]


def _random(
    query: JudgedQuery, names: Sequence[str], passages: Mapping[str, Passage], count: int, seed: int
) -> list[Hit]:
    """Draw passages that aren't relevant; for a query the same ones in any order of the queries.

    `names` are the ids of all passages, sorted: positions are drawn among those that remain without
    the relevant ones, so that a large knowledge base isn't scanned for each query.
    """
    excluded = sorted(bisect_left(names, each) for each in query.gold if each in passages)
    remaining = range(len(names) - len(excluded))
    drawn = random.Random(f"{seed} {query.id}").sample(remaining, min(count, len(remaining)))
    hits = []
    for position in drawn:
        index = position  # among the passages that remain; below, among all
        for each in excluded:
            index += each <= index
        hits.append(Hit(passages[names[index]], 1.0))
    return hits
