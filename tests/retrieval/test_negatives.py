"""What may be a negative, by hand."""

from typing import Any

import numpy as np
import pytest

from dalm.config import MineNegatives
from dalm.records import Hit, Passage
from dalm.retrieval.negatives import choose_negatives, score_limit, text_key

GOLD = Passage.of("gold", "Doc")


def rules_of(**options: Any) -> MineNegatives:
    return MineNegatives(retriever_name_or_path="retriever", output="out.csv", **options)


EVERYTHING = rules_of(num_negatives=99, max_share="off", skip_same_document=False)


def passage(name: str, title: str = "") -> Passage:
    return Passage.of(f"passage {name}", title)


def hits(*scored: tuple[str, float], title: str = "") -> list[Hit]:
    return [Hit(passage(name, title), score) for name, score in scored]


def names(mined: tuple[Hit, ...]) -> str:
    return " ".join(hit.passage.text.removeprefix("passage ") for hit in mined)


@pytest.mark.parametrize(
    ("share", "margin", "score", "limit"),
    [
        (0.95, None, 0.8, 0.76),
        (0.95, None, -0.2, -0.21),
        ("off", 0.1, 0.8, 0.7),
        (0.95, 0.1, 0.8, 0.7),
        (0.5, 0.1, 0.8, 0.4),
        (1.0, None, 0.8, 0.8),
        ("off", None, 0.8, float("inf")),
    ],
)
def test_limit(share: Any, margin: float | None, score: float, limit: float) -> None:
    rules = rules_of(num_negatives=1, max_share=share, margin=margin)
    assert score_limit(score, rules) == pytest.approx(limit)


def test_what_scores_near_the_gold_passage_is_left_out_and_counted() -> None:
    ranking = [*hits(("a", 0.9), ("b", 0.77)), Hit(GOLD, 0.8), *hits(("c", 0.76), ("d", 0.1))]
    mined = choose_negatives([ranking], Hit(GOLD, 0.8), [], rules_of(num_negatives=9))
    assert names(mined.negatives) == "c d"
    assert mined.dropped == {"score": 2, "same document": 0}
    assert (mined.candidates, mined.gold_score) == (4, 0.8)
    assert mined.outranks_gold
    assert not choose_negatives(
        [ranking[1:]], Hit(GOLD, 0.8), [], rules_of(num_negatives=9)
    ).outranks_gold


def test_neither_gold_nor_other_answers_nor_their_texts_are_negatives_or_hold_a_rank() -> None:
    other = Passage.of("another answer")
    titled = Passage.of("Elsewhere\nanother  ANSWER", "Elsewhere")
    assert titled.id != other.id
    assert text_key(titled) == other.id
    ranking = [Hit(GOLD, 0.9), Hit(other, 0.8), Hit(titled, 0.7), *hits(("a", 0.6), ("b", 0.5))]
    rules = rules_of(num_negatives=9, first_rank=2, last_rank=2, max_share="off")
    mined = choose_negatives([ranking], ranking[0], [other], rules)
    assert names(mined.negatives) == "b"
    assert mined.candidates == 1


def test_passages_of_the_same_document_are_left_out_if_asked() -> None:
    ranking = [*hits(("a", 0.9), title="Doc"), *hits(("b", 0.5), title="Else"), *hits(("c", 0.4))]
    skipping = rules_of(num_negatives=9)
    mined = choose_negatives([ranking], Hit(GOLD, 0.8), [], skipping)
    assert names(mined.negatives) == "b c"
    assert mined.dropped == {"same document": 1, "score": 0}
    assert not mined.outranks_gold, "a's document is the gold one"
    assert names(choose_negatives([ranking], Hit(GOLD, 0.8), [], EVERYTHING).negatives) == "a b c"
    report = {"title": "Annual report"}
    gold = Hit(Passage.of("gold", **report, document="2024"), 0.95)
    ranking = [
        Hit(Passage.of("passage same", document="2024"), 0.9),
        Hit(Passage.of("passage other", **report, document="2025"), 0.8),
        Hit(Passage.of("passage unknown", **report), 0.7),
    ]
    found = choose_negatives([ranking], gold, [], skipping)
    assert names(found.negatives) == "other", "the title counts where a document has no id"
    assert found.dropped["same document"] == 2
    ranking = [*hits(("a", 0.9), title="Doc"), *hits(("b", 0.5), title="Else"), *hits(("c", 0.4))]
    untitled = Passage.of("gold")
    found = choose_negatives([ranking], Hit(untitled, 0.95), [], skipping)
    assert names(found.negatives) == "a b c", "no title is no document"
    of_two = choose_negatives([ranking], Hit(GOLD, 0.8), [Passage.of("x", "Else")], skipping)
    assert names(of_two.negatives) == "c"


def test_ranks_and_number() -> None:
    ranking = hits(*((str(i), 0.9 - i / 100) for i in range(1, 10)))
    rules = rules_of(num_negatives=3, first_rank=3, last_rank=7, max_share="off")
    assert names(choose_negatives([ranking], Hit(GOLD, 1.0), [], rules).negatives) == "3 4 5"
    few = rules_of(num_negatives=3, first_rank=8, last_rank=99, max_share="off")
    assert names(choose_negatives([ranking], Hit(GOLD, 1.0), [], few).negatives) == "8 9"
    none = rules_of(num_negatives=3, first_rank=50, max_share="off")
    assert choose_negatives([ranking], Hit(GOLD, 1.0), [], none).negatives == ()


def test_rankings_are_taken_in_turns_and_a_passage_once() -> None:
    dense = hits(("a", 0.9), ("b", 0.8), ("c", 0.7), ("d", 0.6))
    words = hits(("c", 0.7), ("x", 0.2), ("a", 0.9), ("y", 0.1), ("z", 0.3))
    rules = rules_of(num_negatives=4, max_share="off")
    mined = choose_negatives([dense, words], Hit(GOLD, 1.0), [], rules)
    assert names(mined.negatives) == "a b c x"  # in turns a c b x; best first a b c x
    assert mined.candidates == 7
    five = rules_of(num_negatives=6, max_share="off")
    assert (
        names(choose_negatives([dense, words], Hit(GOLD, 1.0), [], five).negatives) == "a b c d x y"
    )


def test_random_negatives_are_drawn_from_all_that_is_left() -> None:
    ranking = hits(*((str(i), 0.9 - i / 100) for i in range(20)))
    rules = rules_of(num_negatives=3, last_rank=10, max_share="off")
    drawn = [
        choose_negatives(
            [ranking], Hit(GOLD, 1.0), [], rules, np.random.default_rng(seed)
        ).negatives
        for seed in range(60)
    ]
    assert {len(set(names(each).split())) for each in drawn} == {3}
    assert {name for each in drawn for name in names(each).split()} == set(map(str, range(10)))
    again = choose_negatives(
        [ranking], Hit(GOLD, 1.0), [], rules, np.random.default_rng(5)
    ).negatives
    assert again == drawn[5]
    scores = [hit.score for hit in drawn[0]]
    assert scores == sorted(scores, reverse=True)
