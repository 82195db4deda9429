"""Behind a search a reranker changes the order and the score, and nothing else."""

import pytest

from dalm.models import loading
from dalm.models.reranker import load_reranker
from dalm.records import Hit, Passage
from dalm.retrieval.bm25 import BM25
from dalm.retrieval.reranking import RerankedSearcher

PASSAGES = [Passage.of(f"Ada reads book {number}.", title=f"Shelf {number}") for number in range(9)]


class Found:
    """A search whose passages are in order, and know whether they answer."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def search(self, queries, k):
        self.asked.append(k)
        hits = [
            Hit(passage, 9.0 - place, {"dense": 0.5, "relevance": 0.1 * place}, relevant=False)
            for place, passage in enumerate(PASSAGES)
        ]
        return [hits[:k] for _ in queries]


class ByNumber:
    """Score a text by the last number in it, and note what was scored."""

    def __init__(self) -> None:
        self.calls: list[list[tuple[str, str]]] = []

    def score_pairs(self, pairs):
        self.calls.append(list(pairs))
        return [float(text.split()[-1].strip(".")) for _, text in pairs]


def test_the_best_of_those_that_are_reranked_come_first():
    found, scorer = Found(), ByNumber()
    searcher = RerankedSearcher(found, scorer, top=6)
    one, two = searcher.search(["first?", "second?"], 2)
    assert [hit.passage for hit in one] == [PASSAGES[5], PASSAGES[4]]
    assert [hit.score for hit in two] == [5.0, 4.0]
    assert one[0].scores == {"dense": 0.5, "relevance": 0.5, "reranked": 5.0}
    assert (one[0].ranks, one[1].ranks) == ({"reranked": 1}, {"reranked": 2})
    assert one[0].relevant is False, "the threshold was made on the scores before"
    assert len(scorer.calls) == 1, "pairs of all questions share batches"
    assert scorer.calls[0][0] == ("first?", "Ada reads book 0.")
    (all_of_them,) = searcher.search(["first?"], 9)
    assert [hit.score for hit in all_of_them] == [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0]
    assert found.asked == [6, 9]


def test_equal_scores_are_in_the_order_of_the_ids():
    class Equal:
        def score_pairs(self, pairs):
            return [1.0 for _ in pairs]

    (hits,) = RerankedSearcher(Found(), Equal()).search(["?"], 5)
    assert [hit.id for hit in hits] == sorted(passage.id for passage in PASSAGES)[:5]
    assert RerankedSearcher(BM25(PASSAGES), Equal()).search([], 5) == []
    assert RerankedSearcher(BM25(PASSAGES), Equal()).search(["nothing shared"], 5) == [[]]


def test_scores_are_the_models(tiny_models, tiny_rows):
    reranker = load_reranker(str(tiny_models.reranker), loading.place("cpu", "fp32"))
    searcher = BM25([Passage.of(row["Passage"]) for row in tiny_rows[::2]])
    query = "Where does Ada live?"
    (hits,) = RerankedSearcher(searcher, reranker, top=4).search([query], 3)
    (before,) = searcher.search([query], 4)
    scores = reranker.score(query, [hit.passage.text for hit in before])
    expected = sorted(zip(scores, [hit.id for hit in before], strict=True), reverse=True)[:3]
    assert [hit.id for hit in hits] == [name for _, name in expected]
    assert [hit.score for hit in hits] == pytest.approx([score for score, _ in expected], abs=1e-6)
