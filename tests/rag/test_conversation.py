"""A turn of a conversation: retrieve, refuse or answer, say what was cut."""

from dataclasses import replace

import pytest

from dalm.models import loading
from dalm.models.generator import load_generator
from dalm.rag.conversation import Conversation
from dalm.rag.pipeline import NOT_FOUND, LocalReader
from dalm.records import Hit, Passage
from dalm.retrieval.bm25 import BM25
from dalm.retrieval.reranking import RerankedSearcher

PASSAGES = [
    Passage.of(f"{name} lives in {town}.", source="people.pdf", page=1, start=0, end=15)
    for name, town in (("Ada", "Ulm"), ("Bela", "Bern"), ("Cyrus", "Graz"))
]


class Judged:
    """BM25, whose hits are known to be relevant, or not to be."""

    def __init__(self, *, relevant: bool) -> None:
        self.searcher, self.relevant = BM25(PASSAGES), relevant

    def search(self, queries, k):
        found = self.searcher.search(queries, k)
        return [[replace(hit, relevant=self.relevant) for hit in hits] for hits in found]


class ByName:
    """Score texts by their first letter: A best."""

    def score_pairs(self, pairs):
        return [-ord(text[0]) for _, text in pairs]


@pytest.fixture(scope="module")
def generator(tiny_models):
    placement = loading.place("cpu", "fp32")
    return load_generator(str(tiny_models.generator), placement, max_length=200)


def ask(conversation, question):
    turn, pieces = conversation.ask(question)
    assert "".join(pieces).strip() == turn.answer
    return turn


def test_what_is_irrelevant_is_not_read(generator):
    reader = LocalReader(generator, 1, 4)
    turn = ask(Conversation(Judged(relevant=False), reader), "Where does Ada live in?")
    assert (turn.answer, turn.not_found) == (NOT_FOUND, True)
    assert len(turn.hits) == 1
    for searcher, anyway in ((Judged(relevant=False), True), (Judged(relevant=True), False)):
        turn = ask(Conversation(searcher, reader, answer_anyway=anyway), "Where is Ada in?")
        assert turn.answer != NOT_FOUND
        assert not turn.not_found


def test_a_reranker_comes_before_the_prompt(generator):
    reader = LocalReader(generator, 2, 4)
    question = "Cyrus lives in Graz, Bela in Bern"
    searchers = BM25(PASSAGES), RerankedSearcher(BM25(PASSAGES), ByName())
    plain, reranked = (
        [hit.passage.text[:3] for hit in ask(Conversation(searcher, reader), question).hits]
        for searcher in searchers
    )
    assert "Ada" not in plain
    assert reranked == ["Ada", "Bel"]


def test_a_passage_that_is_cut_off_is_said(generator):
    long = BM25([Passage.of("Ada lives in Ulm. " * 100)])
    assert ask(Conversation(long, LocalReader(generator, 1, 4)), "Where does Ada live?").truncated
    short = ask(Conversation(BM25(PASSAGES), LocalReader(generator, 1, 4)), "Where is Ada?")
    assert not short.truncated


def test_how_an_answer_ended_is_said(generator, monkeypatch):
    def outcome(most):
        conversation = Conversation(BM25(PASSAGES), LocalReader(generator, 1, most))
        return ask(conversation, "Where does Ada live?").outcome

    assert (outcome(20).finish_reason, outcome(20).tokens_out) == ("length", 20)
    every = list(range(len(generator.tokenizer)))
    monkeypatch.setattr(type(generator), "end_tokens", every)
    assert (outcome(20).finish_reason, outcome(20).tokens_out) == ("stop", 0)
    assert outcome(1).finish_reason == "stop"


def test_a_citation_names_title_headings_page_and_span():
    passage = Passage.of(
        "x", "Manual", source="m.pdf", page=2, headings=("Oil",), start=1200, end=1300
    )
    assert Hit(passage, 1.0).citation == "m.pdf, page 2 · Manual · Oil · characters 1,200-1,300"
