"""Vectors and words are fused so that neither drowns the other."""

import math

import pytest
import torch

from dalm.records import Hit, Passage
from dalm.retrieval.base import Encoder, Ranked
from dalm.retrieval.exact import ExactIndex
from dalm.retrieval.hybrid import POOL, IndexSearcher, on_scale, weighted_sum
from dalm.retrieval.relevance import Relevance

PASSAGES = [Passage(f"{n:03}", f"valve number AB-{n} of the plant") for n in range(300)]


class AllAlike(Encoder):
    """Vectors that know nothing of part numbers: the first passages are nearest to any query."""

    def encode_queries(self, texts):
        return torch.tensor([[1.0, 0.0]] * len(texts))

    def encode_passages(self, texts):
        return torch.tensor([[1 - n / 1000, 0.1] for n in range(len(texts))])


@pytest.fixture(scope="module")
def store():
    index = ExactIndex()
    index.add(PASSAGES, AllAlike().encode_passages([each.text for each in PASSAGES]))
    return index


def hits(*scores):
    return [Hit(Passage(str(place), "text"), score) for place, score in enumerate(scores)]


def test_a_part_number_of_one_passage_puts_it_first(store):
    (found,) = IndexSearcher(AllAlike(), store).search(["AB-217"], 3)
    assert found[0].passage.id == "217"
    assert found[0].ranks == {"text": 1, "fused": 1}  # beyond the best by the vectors
    assert found[0].scores.keys() == found[0].ranks.keys()


def test_ranks_are_the_places_in_the_rankings_of_the_stages():
    searcher = IndexSearcher(None, None, dense_weight=0.5)
    named = {
        stage: [
            Ranked(id_, score, {stage: score}, {stage: rank}, hit)
            for id_, score, rank, hit in (
                (h.id, h.score, rank, h) for rank, h in enumerate(ranking, start=1)
            )
        ]
        for stage, ranking in (("dense", hits(9.0, 8.0, 1.0)), ("text", hits(1.0, 9.0)[::-1]))
    }
    found = [each.hit for each in searcher.fuse(named["dense"], named["text"])]
    assert [hit.id for hit in found] == ["1", "0", "2"]
    assert [hit.ranks for hit in found] == [
        {"dense": 2, "text": 1, "fused": 1},
        {"dense": 1, "text": 2, "fused": 2},
        {"dense": 3, "fused": 3},
    ]
    assert found[0].scores == {"dense": 8.0, "text": 9.0, "fused": found[0].score}


@pytest.mark.parametrize("mode", ["dense", "text"])
def test_a_mode_alone_ranks_by_its_own_stage(store, mode):
    (found,) = IndexSearcher(AllAlike(), store, mode).search(["AB-217 part"], 3)
    assert [hit.ranks for hit in found] == [{mode: n} for n in range(1, len(found) + 1)]
    assert found[0].to_dict()["ranks"] == {mode: 1}


def test_z_scores_by_hand():
    # mean (3 + 1 + 0 + 0) / 4 = 1, deviation sqrt((4 + 0 + 1 + 1) / 4) = sqrt(1.5)
    assert on_scale(hits(3.0, 1.0), ["0", "1", "7", "8"]) == pytest.approx(
        [2 / 1.5**0.5, 0.0, -1 / 1.5**0.5, -1 / 1.5**0.5]
    )


def test_a_full_ranking_gives_its_lowest_score_to_others():
    ranking = hits(*range(POOL, 0, -1))
    *_, last, other = on_scale(ranking, [hit.passage.id for hit in ranking] + ["other"])
    assert other == last


def test_what_comes_first_does_not_depend_on_how_many_are_asked_for():
    generator = torch.Generator().manual_seed(0)
    passages = [
        Passage(f"{n:03}", f"oil w{n % 7} w{n % 11} {'oil ' * (n % 5)}") for n in range(400)
    ]
    vectors = torch.randn(400, 4, generator=generator)
    index = ExactIndex(passages, vectors)

    class Fixed(AllAlike):
        def encode_queries(self, texts):
            return vectors[: len(texts)]

    for query in ("oil w3", "w5 w1 w2"):  # 400 passages have a word of the first, 170 of the other
        searcher = IndexSearcher(Fixed(), index)
        (few,), (pool,), (many,) = (searcher.search([query], k) for k in (10, POOL, 400))
        assert [(hit.id, hit.score) for hit in few] == [(h.id, h.score) for h in many[:10]]
        assert [hit.id for hit in pool] == [hit.id for hit in many[:POOL]]
        assert [hit.score for hit in many] == sorted((h.score for h in many), reverse=True)
        assert len(many) == 400


def test_a_weight_of_one_is_the_ranking_itself():
    fused = weighted_sum([(1.0, hits(3.0, 2.0, 1.0)), (0.0, hits(1.0, 2.0, 3.0))])
    assert [hit.passage.id for hit in fused] == ["0", "1", "2"]


def test_relevance_by_hand():
    """coverage = Σ idf of the words there / Σ idf of those asked; p = 1 / (1 + exp(-logit))."""
    judge = Relevance(
        10,
        {"oil": 1, "the": 10},
        {"hybrid": {"similarity": 2.0, "coverage": 3.0, "bias": -1.0, "threshold": 0.5}},
    )
    rare, common = math.log1p(9.5 / 1.5), math.log1p(0.5 / 10.5)
    found = [Hit(Passage("1", "The valve."), 1.0, {"dense": 0.3}), *hits(0.5, 0.2)]
    (first, second) = judge.judged("hybrid", "the oil", found, 2)
    covered = common / (rare + common)
    expected = 1 / (1 + math.exp(-(2 * 0.3 + 3 * covered - 1)))
    assert first.scores["relevance"] == pytest.approx(expected)
    assert (first.relevant, second.relevant) == (False, False)
    found[2] = Hit(Passage("3", "oil"), 0.1, {"dense": 0.3})
    assert all(hit.relevant for hit in judge.judged("hybrid", "the oil", found, 1))


@pytest.mark.parametrize("mode", ["dense", "text", "hybrid"])
def test_every_mode_says_whether_its_hits_are_relevant(store, mode):
    judge = {"coverage": 5.0, "bias": -2.5, "threshold": 0.5}
    relevance = Relevance(300, {"valve": 300, "plant": 300}, {"text": judge})
    relevance.modes.update({name: {**judge, "similarity": 0.1} for name in ("dense", "hybrid")})
    searcher = IndexSearcher(AllAlike(), store, mode, relevance=relevance)
    found, other = searcher.search(["valve of the plant", "plant violets in Paris"], 1)
    assert [len(found), len(other)] == [1, 1]
    assert (found[0].relevant, other[0].relevant) == (True, False)
