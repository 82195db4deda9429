"""The stages of a search: figures worked out by hand, and computed again without our code."""

import statistics
from types import SimpleNamespace

import ir_measures
import numpy as np
import pytest
import torch

from dalm.config import EvalRetriever
from dalm.eval import retrieval_evaluation
from dalm.eval.retrieval_evaluation import RetrievalEvaluation
from dalm.eval.retrieval_metrics import parse_measure
from dalm.io.evaluation_set import EvaluationSet
from dalm.progress import Stopwatch
from dalm.records import Hit, JudgedQuery, Passage
from dalm.retrieval.bm25 import BM25


class Vectors:
    """An encoder whose vectors are known: those of the table of texts, each of one token."""

    sides = dict.fromkeys(("query", "passage"), SimpleNamespace(max_len=2))

    def __init__(self, table):
        self.table = table
        self.dim = len(next(iter(table.values())))

    def tokenise(self, texts, kind):
        return [[text] for text in texts]

    def encode_tokens(self, rows, kind):
        return torch.tensor([self.table[text] for (text,) in rows], dtype=torch.float32)

    def encode_queries(self, texts):
        return self.encode_tokens(self.tokenise(texts, "query"), "query")


def dataset_of(passages, queries):
    """Return passages by id → text, queries by text → id of the gold passage."""
    judged = [JudgedQuery(id=q, query=q, relevant={gold: 1}, group=q) for q, gold in queries]
    return EvaluationSet(
        name="t", queries=judged, passages={name: Passage(name, text) for name, text in passages}
    )


def evaluated(dataset, vectors, measures=("RR@3",), reranker=None, **options):
    config = EvalRetriever(retriever_name_or_path="x", cache=False, **({"top_k": 3} | options))
    wanted = [parse_measure(each) for each in measures]
    search = RetrievalEvaluation(dataset, config, wanted, Stopwatch(), reranker=reranker)
    return search.evaluate("x", Vectors(vectors), stages=True)


FOXES = [("a", "red fox"), ("b", "blue fox"), ("c", "green owl")]


def test_fusion_mends_a_ranking_whose_words_are_right():
    # Dense: b .9, a .8, c .1; z-scores .843, .562, -1.405. BM25: red ln(1 + 2.5/1.5), fox
    # ln(1 + 1.5/2.5), each / 2.2: a .659, b .214, c 0; z-scores 1.341, -.282, -1.059.
    # Half of each: a .952, b .281, c -1.232.
    vectors = {"red fox": [0.8], "blue fox": [0.9], "green owl": [0.1], "a red fox": [1.0]}
    made = evaluated(dataset_of(FOXES, [("a red fox", "a")]), vectors)
    assert [hit.id for hit in made.hits[0]] == ["b", "a", "c"]
    assert made.measures["RR@3"] == [0.5]
    assert made.measures["RR@3[BM25]"] == made.measures["RR@3[fused]"] == [1.0]
    assert made.facts == {"fused": {"dense_weight": 0.5, "hits": 100}}
    search = RetrievalEvaluation(
        dataset_of(FOXES, [("a red fox", "a")]), EvalRetriever(), [], Stopwatch()
    )
    dense = [[Hit(Passage(*FOXES[row]), score) for row, score in ((1, 0.9), (0, 0.8), (2, 0.1))]]
    (fused,) = search._stages(dense)["fused"]
    expected = {"a": 0.952, "b": 0.281, "c": -1.232}
    assert {hit.id: hit.score for hit in fused} == pytest.approx(expected, abs=6e-4)


def test_fusion_undoes_a_gain_against_the_words():
    # The words lead to b, which the question quotes; only the vectors know that it is a.
    vectors = {"red fox": [0.8], "blue fox": [0.7], "green owl": [0.1], "not the blue one": [1.0]}
    made = evaluated(dataset_of(FOXES, [("not the blue one", "a")]), vectors)
    assert made.measures["RR@3"] == [1.0]
    assert made.measures["RR@3[fused]"] == [0.5]
    assert made.measures["RR@3[BM25]"] == [0.0]


class ByLength:
    """A reranker that prefers long texts."""

    def __init__(self):
        self.seen = []

    def score_pairs(self, pairs):
        self.seen.append(list(pairs))
        return [float(len(text)) for _, text in pairs]


VECTORS = {"red fox": [0.8], "blue fox": [0.9], "green owl": [0.1], "a red fox": [1.0]}


def test_a_reranker_orders_the_best_of_the_fused_ranking():
    dataset = dataset_of(FOXES, [("a red fox", "a")])
    reranker = ByLength()
    made = evaluated(dataset, VECTORS, ("RR@2",), top_k=2, rerank_top=1, reranker=reranker)
    assert reranker.seen == [[("a red fox", "red fox"), ("a red fox", "blue fox")]]
    assert made.measures["RR@2[reranked]"] == [0.5]
    assert made.measures["RR@2[fused]"] == [1.0]
    one = evaluated(dataset, VECTORS, ("RR@1",), top_k=1, rerank_top=1, reranker=reranker)
    assert one.measures["RR@1[reranked]"] == [1.0], "what isn't among the first is not ordered"


def test_a_reranker_that_is_sure_of_several_still_orders_them():
    class Sure:
        def score_pairs(self, pairs):  # in fp32 they are 1, all three
            return [1 - 1e-12 * ("red" not in text) for _, text in pairs]

    made = evaluated(dataset_of(FOXES, [("a red fox", "a")]), VECTORS, reranker=Sure())
    assert made.reranked[0][0].id == "a"
    assert made.measures["RR@3[reranked]"] == [1.0]


def test_what_two_systems_find_is_scored_once():
    reranker = ByLength()
    dataset = dataset_of(FOXES, [("a red fox", "a")])
    config = EvalRetriever(cache=False, top_k=2, rerank_top=2)
    search = RetrievalEvaluation(
        dataset, config, [parse_measure("RR@2")], Stopwatch(), reranker=reranker
    )
    search.evaluate("x", Vectors(VECTORS), stages=True)
    search.evaluate("y", Vectors(VECTORS | {"green owl": [9.0]}), stages=True)
    assert list(map(len, reranker.seen)) == [2, 1]
    assert reranker.seen[1] == [("a red fox", "green owl")]


def test_too_many_passages_for_bm25_are_reranked_as_they_were_found(monkeypatch):
    monkeypatch.setattr(retrieval_evaluation, "MOST_PASSAGES", 2)
    reranker = ByLength()
    made = evaluated(dataset_of(FOXES, [("a red fox", "a")]), VECTORS, reranker=reranker)
    assert made.facts == {"not_fused": "3 passages are more than 2"}
    assert made.measures.keys() == {"RR@3", "RR@3[reranked]"}
    assert [text for _, text in reranker.seen[0]] == ["blue fox", "red fox", "green owl"]
    assert made.measures["RR@3[reranked]"] == [1 / 3]


MEASURES = ("nDCG@10", "RR@10", "R@1", "R@10", "AP")
WORDS = [f"word{i}" for i in range(60)]


def by_hand(scores, known):
    """Return z-scores over the known passages; one that is missing has 0, or the lowest of 100."""
    values = {name: scores[name] for name in known if name in scores}
    absent = 0.0 if len(scores) < 100 else min(scores.values())
    values = {name: scores.get(name, absent) for name in known}
    over = list(values.values()) if len(scores) < 100 else list(scores.values())
    mean, deviation = statistics.fmean(over), statistics.pstdev(over) or 1.0
    return {name: (value - mean) / deviation for name, value in values.items()}


@pytest.mark.parametrize("count", [40, 300])
def test_every_stage_is_what_ir_measures_says_of_a_ranking_made_by_hand(count):
    rng = np.random.default_rng(count)
    texts = {f"p{i:03}": " ".join(rng.choice(WORDS, 8)) for i in range(count)}
    asked = {" ".join(rng.choice(WORDS, 3)) + f" q{i}": f"p{i:03}" for i in range(30)}
    vectors = {text: rng.normal(size=8).tolist() for text in texts.values()}
    vectors |= {q: (vectors[texts[p]] + rng.normal(size=8)).tolist() for q, p in asked.items()}
    dataset = dataset_of(texts.items(), asked.items())
    made = evaluated(dataset, vectors, MEASURES, top_k=10)

    words = BM25(list(dataset.passages.values())).search(list(asked), 100)
    runs = {"": {}, "BM25": {}, "fused": {}}
    for query, found in zip(asked, words, strict=True):
        of_words = {hit.id: hit.score for hit in found}
        dense = {name: float(np.dot(vectors[query], vectors[text])) for name, text in texts.items()}
        dense = dict(sorted(dense.items(), key=lambda each: -each[1])[:100])
        known = [*dense, *(name for name in of_words if name not in dense)]
        pair = by_hand(dense, known), by_hand(of_words, known)
        fused = {name: (pair[0][name] + pair[1][name]) / 2 for name in known}
        for stage, scores in (("", dense), ("BM25", of_words), ("fused", fused)):
            best = sorted(scores, key=lambda name: (np.float32(scores[name]), name))[:-11:-1]
            runs[stage][query] = {name: -float(rank) for rank, name in enumerate(best)}
    qrels = {query: {gold: 1} for query, gold in asked.items()}
    for stage, run in runs.items():
        found = {
            (str(each.measure), each.query_id): each.value
            for each in ir_measures.iter_calc(list(map(parse_measure, MEASURES)), qrels, run)
        }
        for name in MEASURES:
            column = made.measures[f"{name}[{stage}]" if stage else name]
            expected = [found.get((name, query), 0.0) for query in asked]
            assert column == pytest.approx(expected, abs=1e-9), (stage, name)
    assert len({sum(made.measures[name]) for name in ("AP", "AP[BM25]", "AP[fused]")}) == 3
