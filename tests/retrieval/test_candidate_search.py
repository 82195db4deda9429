"""Mining over vectors of known angles: which passages, with which scores."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import dalm.retrieval.negatives as module
from dalm.config import MineNegatives
from dalm.records import Example, Passage
from dalm.retrieval.bm25 import BM25
from dalm.retrieval.exact import ExactIndex
from dalm.retrieval.negatives import mine_hard_negatives


class KnownAngles:
    """An encoder that knows the angle of each text."""

    def __init__(self, angles: dict[str, float]) -> None:
        self.angles = angles
        self.encoded: list[str] = []

    def encode_queries(self, texts: Sequence[str]) -> Tensor:
        self.encoded += texts
        return torch.stack([self.vector(self.angles[text]) for text in texts])

    def encode_passages(self, texts: Sequence[str]) -> Tensor:
        raise AssertionError(texts)

    @staticmethod
    def vector(degrees: float) -> Tensor:
        angle = torch.tensor(degrees).deg2rad()
        return torch.stack([angle.cos(), angle.sin()])


PASSAGES = [Passage.of(f"p{degrees}") for degrees in (0, 10, 20, 30, 40, 80)]
INDEX = ExactIndex(PASSAGES, torch.stack([KnownAngles.vector(float(p.text[1:])) for p in PASSAGES]))
RULES = MineNegatives(
    retriever_name_or_path="retriever", output="", num_negatives=2, max_share="off"
)
RANDOM = replace(RULES, sampling="random", seed=3)


def texts(found: list[module.Mined]) -> list[list[str]]:
    return [[hit.passage.text for hit in mined.negatives] for mined in found]


def test_the_nearest_that_are_not_gold_with_cosines_as_scores() -> None:
    examples = [Example("at 0", passage=PASSAGES[0]), Example("at 25", passage=PASSAGES[2])]
    found = mine_hard_negatives(examples, KnownAngles({"at 0": 0, "at 25": 25}), INDEX, RULES)
    assert texts(found) == [["p10", "p20"], ["p30", "p10"]]
    cosines = [[hit.score for hit in mined.negatives] for mined in found]
    expected = torch.tensor([[10.0, 20.0], [5.0, 15.0]]).deg2rad().cos()
    torch.testing.assert_close(torch.tensor(cosines), expected)
    assert found[1].gold_score == pytest.approx(0.99619, abs=1e-5)  # cos 5°


def test_gold_passages_of_the_same_question_are_no_negatives_and_it_is_encoded_once() -> None:
    encoder = KnownAngles({"at 0": 0, "At  0": 0})
    examples = [
        Example("at 0", passage=PASSAGES[0]),
        Example("At  0", passage=PASSAGES[1]),
        Example("at 0", passage=PASSAGES[2]),
    ]
    one = replace(RULES, num_negatives=9, last_rank=1)
    assert texts(mine_hard_negatives(examples, encoder, INDEX, one)) == [["p30"]] * 3
    assert encoder.encoded == ["at 0", "At  0"]


def test_passages_found_by_words_have_the_retrievers_scores() -> None:
    encoder = KnownAngles({"where is p80": 0})
    examples = [Example("where is p80", passage=PASSAGES[0])]
    found = mine_hard_negatives(examples, encoder, INDEX, RULES, BM25(PASSAGES))
    assert texts(found) == [["p10", "p80"]]
    assert found[0].negatives[1].score == pytest.approx(0.17365, abs=1e-5)  # cos 80°
    near = replace(RULES, max_share=0.1)
    assert texts(mine_hard_negatives(examples, encoder, INDEX, near, BM25(PASSAGES))) == [[]]


def test_blocks_and_the_other_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    angles = {f"q{i}": float(7 * i) for i in range(12)}
    examples = [Example(q, passage=PASSAGES[i % 6]) for i, q in enumerate(angles)]
    lexical = BM25(PASSAGES)
    whole = mine_hard_negatives(examples, KnownAngles(angles), INDEX, RANDOM, lexical)
    other = replace(RANDOM, seed=4)
    assert whole != mine_hard_negatives(examples, KnownAngles(angles), INDEX, other, lexical)
    monkeypatch.setattr(module, "BLOCK", 5)
    part = mine_hard_negatives(examples, KnownAngles(angles), INDEX, RANDOM, lexical)
    assert texts(part) == texts(whole)
