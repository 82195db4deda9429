"""Rows in tokens, batches of similar length without a passage twice, and what an epoch sees."""

import logging
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dalm.errors import UserError
from dalm.models.generator import load_generator
from dalm.models.loading import place
from dalm.models.retriever import load_retriever
from dalm.records import Example, Passage
from dalm.training.data.batches import Rows
from dalm.training.data.sampler import LengthBatches


def plan(lengths, keys, size, seed=0, epoch=0, ranks=1):
    rows = SimpleNamespace(
        lengths=lambda: np.asarray(lengths),
        keys_apart=lambda: np.asarray(keys).reshape(len(keys), -1),
        set_epoch=lambda epoch: None,
    )
    batches = LengthBatches(rows, size, seed, ranks=ranks)
    batches.set_epoch(epoch)
    listed = list(batches)
    assert len(batches) == len(listed)
    return listed


def flat(batches):
    return list(chain.from_iterable(batches))


def questions(passages, each, seed=0):
    """Return lengths and keys of rows that ask several questions about each passage, in order."""
    random = np.random.default_rng(seed)
    lengths = np.repeat(random.integers(20, 120, passages), each)
    return lengths + random.integers(0, 8, len(lengths)), np.repeat(np.arange(passages), each)


def twice(batches, keys):
    """Count the rows whose key is in their batch already."""
    return sum(len(batch) - len(set(keys[batch].tolist())) for batch in batches)


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 63, 64, 65, 163])
def test_every_row_once_an_epoch_in_batches_of_equal_size(rows):
    for epoch in range(2):
        batches = plan(np.arange(rows) % 17, np.arange(rows), 4, epoch=epoch)
        assert sorted(flat(batches)) == list(range(rows))
        sizes = {len(batch) for batch in batches}
        assert max(sizes) <= 4
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("passages", "each", "size"),
    [(160, 5, 32), (10, 2, 3), (10, 2, 4), (33, 5, 32), (32, 5, 32), (85, 6, 30), (40, 12, 32)],
)
@pytest.mark.parametrize("seed", range(5))
def test_no_passage_twice_in_a_batch(passages, each, size, seed):
    lengths, keys = questions(passages, each, seed)
    for epoch in range(3):
        assert twice(plan(lengths, keys, size, seed, epoch), keys) == 0


def test_no_passage_twice_on_any_rank():
    lengths, keys = questions(160, 5)
    assert twice(plan(lengths, keys, 16, ranks=2), keys) == 0


def test_more_rows_of_a_passage_than_batches_are_all_dealt_out():
    keys = np.array([0] * 9 + list(range(1, 12)))
    batches = plan(np.ones(20, int), keys, 5)
    assert sorted(flat(batches)) == list(range(20))
    assert len(batches) == 4


def test_ranks_share_the_rows_evenly_and_without_overlap():
    lengths, keys = questions(23, 3)  # 69 rows: one is left out for two ranks
    batches = plan(lengths, keys, 8, ranks=2)
    assert {len(batch) % 2 for batch in batches} == {0}
    assert max(map(len, batches)) <= 16
    rows = flat(batches)
    assert len(set(rows)) == len(rows) == 68
    left_out = []
    for epoch in range(4):
        left_out += set(range(69)) - set(flat(plan(lengths, keys, 8, 0, epoch, ranks=2)))
    assert len(set(left_out)) > 1, "always the same row"


@pytest.mark.parametrize("ranks", [2, 4])
def test_several_ranks_get_the_batches_of_one_process(ranks):
    """Where the size of all ranks' batches divides the rows."""
    lengths, keys = questions(32, 5)
    for epoch in range(3):
        alone = plan(lengths, keys, 16, epoch=epoch)
        assert plan(lengths, keys, 16 // ranks, epoch=epoch, ranks=ranks) == alone


def test_rows_of_one_question_are_kept_apart_and_so_are_those_of_one_passage():
    lengths, passages = questions(160, 5)
    random = np.random.default_rng(1)
    asked = random.permutation(800) % 200  # each of 200 questions has four rows
    keys = np.stack([passages, 1000 + asked], 1)
    for epoch in range(3):
        batches = plan(lengths, keys, 20, epoch=epoch)
        assert sorted(flat(batches)) == list(range(800))
        assert twice(batches, passages) == twice(batches, asked) == 0


def test_rows_of_one_question_alone_meet():
    batches = plan(np.ones(10, int), np.stack([np.arange(10), np.full(10, 99)], 1), 10)
    assert [sorted(batch) for batch in batches] == [list(range(10))]


def test_seed_and_epoch_alone_decide():
    lengths, keys = questions(40, 5)
    first = plan(lengths, keys, 8, seed=1, epoch=2)
    assert first == plan(lengths, keys, 8, seed=1, epoch=2)
    assert first != plan(lengths, keys, 8, seed=1, epoch=3)
    assert first != plan(lengths, keys, 8, seed=2, epoch=2)


def test_batches_are_of_similar_length_and_in_no_order_of_it():
    lengths = np.random.default_rng(0).integers(10, 500, 640)
    batches = plan(lengths, np.arange(640), 16)
    longest = [int(lengths[batch].max()) for batch in batches]
    padding = 1 - lengths.sum() / sum(top * len(b) for top, b in zip(longest, batches, strict=True))
    assert padding < 0.08  # at random it is 0.46
    assert longest != sorted(longest)
    assert longest != sorted(longest, reverse=True)


@pytest.fixture(scope="module")
def models(tiny_models):
    cpu = place("cpu", "fp32")
    lengths = {"query": 8, "passage": 20}
    retriever = load_retriever(
        str(tiny_models.encoder), cpu, lengths=lengths, prompts={"query": "Where ", "passage": ""}
    )
    return retriever, load_generator(str(tiny_models.generator), cpu, max_length=110)


ULM, BERN = Passage.of("Ada lives in Ulm."), Passage.of("Bela lives in Bern.")
GRAZ = Passage.of("Cyrus lives in Graz. At home Cyrus keeps one owl. At home Cyrus keeps one owl.")
EXAMPLES = [
    Example("Where does Ada live?", "in Ulm", ULM, negatives=(BERN, GRAZ)),
    Example("Where does Bela live?", "in Bern", BERN),
    Example("What does Cyrus keep?", "one owl", GRAZ, negatives=(ULM,)),
    Example("Who lives in Ulm?", "Ada", Passage.of("ada  LIVES in Ulm.")),
]


def test_a_passage_is_tokenised_once(models, monkeypatch):
    retriever, generator = models
    seen = []
    tokenise = type(retriever).tokenise

    def listening(self, texts, kind):
        seen.extend(texts)
        return tokenise(self, texts, kind)

    monkeypatch.setattr(type(retriever), "tokenise", listening)
    rows = Rows(EXAMPLES, retriever, generator)
    assert len(rows) == 4
    assert [passage.text for passage in rows.base.passages] == [ULM.text, BERN.text, GRAZ.text]
    assert sorted(seen) == sorted([e.query for e in EXAMPLES] + [p.text for p in (ULM, BERN, GRAZ)])
    rows.collate([0, 1, 2])
    assert len(seen) == 7, "collating tokenised again"
    passages, questions = rows.keys_apart().T.tolist()
    assert passages == [0, 1, 2, 0]
    assert len({*passages, *questions}) == 3 + 4


def test_a_batch_holds_gold_passages_in_the_queries_order_then_negatives(models):
    retriever, generator = models
    rows = Rows(EXAMPLES, retriever, generator)
    batch = rows.collate([2, 0, 1])
    expected = [GRAZ, ULM, BERN, ULM, BERN, GRAZ]
    keys = [np.uint64(int(passage.id, 16)).view(np.int64) for passage in expected]
    assert batch["keys"].tolist() == keys
    for side, texts, kind in (
        (batch["query"], [EXAMPLES[row].query for row in (2, 0, 1)], "query"),
        (batch["passage"], [passage.text for passage in expected], "passage"),
    ):
        ids, mask = side["input_ids"], side["attention_mask"]
        assert ids.shape == mask.shape == (len(texts), int(mask.sum(1).max()))
        for row, tokens in enumerate(retriever.tokenise(texts, kind)):
            assert ids[row, : len(tokens)].tolist() == tokens.tolist()
            assert mask[row].tolist() == [1] * len(tokens) + [0] * (ids.shape[1] - len(tokens))
    pieces = batch["pieces"]
    assert [len(part) for part in (pieces.passages, pieces.queries, pieces.answers)] == [6, 3, 3]
    assert generator.tokenizer.decode(pieces.answers[0]).strip() == "one owl"
    assert generator.tokenizer.decode(pieces.passages[1]).strip() == ULM.text
    assert pieces.answer_lengths() == [len(answer) + 1 for answer in pieces.answers]


def test_without_a_generator_there_are_no_pieces(models):
    batch = Rows(EXAMPLES, models[0]).collate([0, 1])
    assert set(batch) == {"query", "passage", "keys", "hard_negatives", "false_negatives"}
    assert batch["keys"].dtype == torch.int64


def test_lengths_grow_with_what_a_row_holds(models):
    lengths = Rows(EXAMPLES, *models).lengths()
    assert lengths[2] > lengths[1]
    assert lengths[2] > Rows(EXAMPLES, models[0]).lengths()[2]


def test_retriever_texts_are_cut_at_their_lengths(models):
    batch = Rows(EXAMPLES, models[0]).collate([2])
    assert batch["query"]["input_ids"].shape[1] <= 8
    assert batch["passage"]["input_ids"].shape[1] == 20


def test_rows_that_do_not_fit_are_left_out_and_said(models, caplog):
    retriever, generator = models
    long = Example("Where does Ada live?", "in Ulm " * 20, ULM)
    with caplog.at_level(logging.WARNING):
        rows = Rows([EXAMPLES[0], long, EXAMPLES[1]], retriever, generator)
    assert len(rows) == 2
    assert rows.keys_apart().tolist() == Rows(EXAMPLES[:2], retriever).keys_apart().tolist()
    (message,) = caplog.messages
    assert message.startswith("1 of 3 rows left out")
    advised = int(message.split("use --generator-max-len ")[1].split()[0])
    generous = load_generator_with(generator, advised)
    assert len(Rows([EXAMPLES[0], long, EXAMPLES[1]], retriever, generous)) == 3
    tight = load_generator_with(generator, advised - 1)
    with caplog.at_level(logging.ERROR):
        assert len(Rows([EXAMPLES[0], long, EXAMPLES[1]], retriever, tight)) == 2
    with pytest.raises(UserError, match="no row's question and answer fit"):
        Rows([long], retriever, generator)


def load_generator_with(generator, max_length):
    """Return the same generator with another length."""
    made = type(generator)(generator.model, generator.tokenizer, generator.placement, max_length)
    assert made.frame == generator.frame
    return made


def test_only_the_passage_of_a_prompt_is_cut(models):
    retriever, generator = models
    rows = Rows(EXAMPLES, retriever, generator)
    pieces = rows.collate([2])["pieces"]
    frame = generator.frame
    alone = frame.overhead() + len(pieces.queries[0]) + len(pieces.answers[0])
    for room in (0, 1, 5, len(pieces.passages[0]), 500):
        passage, query, answer = pieces.passages[0], pieces.queries[0], pieces.answers[0]
        prompt = frame.join([passage], query, answer, alone + room)
        assert prompt.tokens == [
            *frame.opening,
            *frame.passage,
            *passage[:room],
            *frame.query,
            *query,
            *frame.answer,
            *answer,
            frame.end,
        ]
        assert prompt.tokens[prompt.answer_start :] == [*answer, frame.end]
