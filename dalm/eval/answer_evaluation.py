"""Let a generator answer from the passages found, and from others, and measure the answers."""

import logging
import random
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dalm import distributed
from dalm.eval.answers import score_answers
from dalm.eval.metrics import BOUNDS, Column, metrics_that_need
from dalm.eval.results import Results
from dalm.io.evaluation_set import EvaluationSet
from dalm.models.generator import Generator
from dalm.progress import Bar, Stopwatch, track
from dalm.rag.citations import without_citations
from dalm.rag.pipeline import NOT_FOUND, LocalReader, Reader, is_answerable, prompts_of
from dalm.records import Hit, JudgedQuery, Passage
from dalm.training.scoring import mean_log_probs

logger = logging.getLogger(__name__)

Context = list[list[Hit]]
"""The passages in the prompt of each query."""


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
    answers = _all_answers(reader, queries, contexts, watch)
    answers["found"] = [
        NOT_FOUND if row in refused else text for row, text in enumerate(answers["found"])
    ]
    likelihoods: dict[str, Column] = {}
    if isinstance(reader, LocalReader):
        likelihoods = _all_nll(reader.generator, queries, contexts, watch)
    measures = dict(results.measures)
    for name, context in contexts.items():
        plain = list(map(without_citations, answers[name])) if reader.cites else answers[name]
        measures |= _columns(name, plain, likelihoods.get(name), queries, context)
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
) -> dict[str, list[str]]:
    """Answer each query from each context; one bar counts all answers."""
    answers: dict[str, list[str]] = {}
    share = len(distributed.share(queries))
    with Bar(share * len(contexts), "answering", "answers") as bar:
        for name, context in contexts.items():
            stage = "bounds" if name in BOUNDS else "answering"
            with watch.stage(stage):
                answers[name] = _answers(reader, queries, context)
            bar.update(share)
            if isinstance(reader, LocalReader):
                tokens = reader.generator.tokenise(answers[name])
                watch.count(stage, sum(map(len, tokens)), "tokens")
            else:
                watch.count(stage, len(queries), "answers")
    return answers


def _answers(reader: Reader, queries: Sequence[JudgedQuery], context: Context) -> list[str]:
    mine = distributed.share([query.query for query in queries])
    texts = reader.answer(mine, distributed.share(context))
    return distributed.gather_shares([each.text for each in texts])


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


# Likelihood


def _all_nll(
    generator: Generator,
    queries: Sequence[JudgedQuery],
    contexts: Mapping[str, Context],
    watch: Stopwatch,
) -> dict[str, Column]:
    """Return each query's NLL from each context; one bar counts all references."""
    found: dict[str, Column] = {}
    share = len(distributed.share([each for query in queries for each in query.references]))
    with Bar(share * len(contexts), "scoring answers", "references") as bar:
        for name, context in contexts.items():
            with watch.stage("scoring answers"):
                found[name] = _nll(generator, queries, context)
            bar.update(share)
    return found


def _nll(generator: Generator, queries: Sequence[JudgedQuery], context: Context) -> Column:
    """Return the negative log-likelihood per token of the likeliest reference, in nats.

    −(1/T) Σ_t log p(token t | prompt, tokens before it), over the answer's tokens and its EOS. None
    for a query without a reference, or whose references leave no room for the question.
    """
    rows = [(i, reference) for i, query in enumerate(queries) for reference in query.references]
    mine = distributed.share(rows)
    texts, passages = [queries[i].query for i, _ in mine], [context[i] for i, _ in mine]
    scored = _nll_per_token(generator, texts, passages, [reference for _, reference in mine])
    lowest: dict[int, float] = {}
    for (i, _), value in zip(rows, distributed.gather_shares(scored), strict=True):
        if value is not None:
            lowest[i] = min(value, lowest.get(i, value))
    too_long = {i for i, _ in rows} - lowest.keys()
    if too_long:
        logger.warning(
            "NLL        %d answers leave no room for the question and have none; raise "
            "--generator-max-len",
            len(too_long),
        )
    return [lowest.get(i) for i in range(len(queries))]


def _nll_per_token(
    generator: Generator, queries: Sequence[str], context: Context, references: Sequence[str]
) -> list[float | None]:
    """Return the NLL per token of each reference, None where the prompt has no room for it."""
    made = prompts_of(generator, queries, context, generator.max_length, references)
    found: list[float | None] = [None] * len(made)
    fitting = [row for row, prompt in enumerate(made) if prompt is not None]
    scored = mean_log_probs(generator, [prompt for prompt in made if prompt is not None])
    batches = track(
        scored, len(fitting), "scoring answers", "references", lambda each: len(each[0])
    )
    for places, means in batches:
        for place, mean in zip(places, means, strict=True):
            found[fitting[place]] = -mean
    return found
