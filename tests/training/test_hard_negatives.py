"""Hard negatives in a step: extra columns of the loss, none of them the gold passage again."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from dalm.config import RetrieverOnly
from dalm.models.loading import place
from dalm.models.retriever import Retriever, load_retriever
from dalm.records import Example, Passage
from dalm.training.data.batches import Rows
from dalm.training.data.usable_rows import check_negatives
from dalm.training.objectives.contrastive import Contrastive

ULM, BERN, GRAZ, LINZ = (
    Passage.of(f"{name} lives in {town}.")
    for name, town in zip("Ada Bela Cyrus Dora".split(), "Ulm Bern Graz Linz".split(), strict=True)
)
SCALE = 20.0


@pytest.fixture(scope="module")
def retriever(tiny_models: Any) -> Retriever:
    return load_retriever(str(tiny_models.encoder), place("cpu", "fp32")).double()


def loss(retriever: Retriever, *examples: Example) -> torch.Tensor:
    objective = Contrastive(retriever, SCALE).eval()
    return objective(Rows(examples, retriever).collate(range(len(examples)))).total


def by_hand(
    retriever: Retriever,
    examples: tuple[Example, ...],
    columns: list[list[Passage]],
    askers: list[list[int]] | None = None,
) -> torch.Tensor:
    """InfoNCE both ways; `columns` are each query's passages, the gold one first.

    `askers` are each gold passage's queries, its own first; by default all of the batch.
    """

    def vectors(texts: list[str], kind: Any) -> torch.Tensor:
        rows = retriever.tokenise(texts, kind)
        return torch.cat([retriever.embed(retriever.batch([row], kind), kind) for row in rows])

    queries = vectors([example.query for example in examples], "query")
    terms = []
    for query, passages in zip(queries, columns, strict=True):
        scores = SCALE * vectors([p.text for p in passages], "passage") @ query
        terms.append(-scores.log_softmax(0)[0])
    gold = vectors([e.passage.text for e in examples if e.passage], "passage")
    everyone = range(len(examples))
    back = []
    for row, asking in enumerate(
        askers or [[row, *(i for i in everyone if i != row)] for row in everyone]
    ):
        back.append(-(SCALE * queries[asking] @ gold[row]).log_softmax(0)[0])
    return (torch.stack(terms).mean() + torch.stack(back).mean()) / 2


def test_each_negative_of_the_batch_is_a_column_of_every_query(retriever: Retriever) -> None:
    examples = (
        Example("Where does Ada live?", passage=ULM, negatives=(GRAZ, LINZ)),
        Example("Where does Bela live?", passage=BERN),
    )
    expected = by_hand(retriever, examples, [[ULM, BERN, GRAZ, LINZ], [BERN, ULM, GRAZ, LINZ]])
    found = loss(retriever, *examples)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    without = loss(retriever, *(Example(e.query, passage=e.passage) for e in examples))
    assert found > without + 0.01
    found.backward()


def test_a_negative_that_is_another_rows_gold_passage_is_not_held_against_that_row(
    retriever: Retriever,
) -> None:
    examples = (
        Example(
            "Where does Ada live?", passage=ULM, negatives=(Passage.of("bela LIVES in Bern."),)
        ),
        Example("Where does Bela live?", passage=BERN, negatives=(GRAZ,)),
    )
    # For the first row Bern stands twice: as the batch's passage and as its own negative.
    columns = [[ULM, BERN, BERN, GRAZ], [BERN, ULM, GRAZ]]
    expected = by_hand(retriever, examples, columns)
    torch.testing.assert_close(loss(retriever, *examples), expected, rtol=0, atol=1e-9)


SAME = [
    Example("Who lives somewhere?", "Ada", ULM),
    Example("Where does Bela live?", "in Bern", BERN),
    Example("who LIVES  somewhere?", "Cyrus", GRAZ),
    Example("Where does Dora live?", "in Linz", LINZ),
]


def test_another_gold_passage_of_the_question_is_no_negative(retriever: Retriever) -> None:
    """Neither for the question nor, the other way round, the question for the passage."""
    columns = [[ULM, BERN, LINZ], [BERN, ULM, GRAZ, LINZ], [GRAZ, BERN, LINZ]]
    columns.append([LINZ, ULM, BERN, GRAZ])
    askers = [[0, 1, 3], [1, 0, 2, 3], [2, 1, 3], [3, 0, 1, 2]]
    expected = by_hand(retriever, tuple(SAME), columns, askers)
    torch.testing.assert_close(loss(retriever, *SAME), expected, rtol=0, atol=1e-9)


def test_nor_is_it_among_the_hard_negatives_of_other_rows(retriever: Retriever) -> None:
    """The row that names it gold need not be in the batch."""
    examples = [
        SAME[0],
        Example("Where does Bela live?", "in Bern", BERN, negatives=(GRAZ, LINZ)),
        SAME[2],
    ]
    objective = Contrastive(retriever, SCALE).eval()
    found = objective(Rows(examples, retriever).collate([0, 1])).total
    columns = [[ULM, BERN, LINZ], [BERN, ULM, GRAZ, LINZ]]
    expected = by_hand(retriever, (examples[0], examples[1]), columns)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_a_passage_that_is_gold_for_two_questions_of_a_batch(retriever: Retriever) -> None:
    """Row 0 names ULM and row 2 GRAZ for one question; row 1 names GRAZ for another one."""
    examples = (SAME[0], Example("Who keeps an owl?", "Cyrus", GRAZ), SAME[3])
    batch = Rows([*examples, SAME[2]], retriever).collate([0, 1, 2])
    found = Contrastive(retriever, SCALE).eval()(batch).total
    columns = [[ULM, LINZ], [GRAZ, ULM, LINZ], [LINZ, ULM, GRAZ]]
    askers = [[0, 1, 2], [1, 2], [2, 0, 1]]
    expected = by_hand(retriever, examples, columns, askers)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_a_question_with_its_gold_passages_alone_has_nothing_to_tell_apart(
    retriever: Retriever,
) -> None:
    examples = [Example("Who?", passage=passage) for passage in (ULM, BERN, GRAZ, LINZ)]
    found = loss(retriever, *examples)
    assert found.item() == 0
    retriever.zero_grad()
    found.backward()
    assert all(p.grad is None or not p.grad.any() for p in retriever.parameters())


def test_a_table_of_one_question_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    examples = [Example("Who?", passage=ULM), Example("WHO? ", passage=BERN)]
    check_negatives(examples, RetrieverOnly(output_dir="out"))
    assert "all rows ask the same question" in caplog.text
    caplog.clear()
    check_negatives([*examples, SAME[1]], RetrieverOnly(output_dir="out"))
    check_negatives([replace(e, negatives=(GRAZ,)) for e in examples], RetrieverOnly(output_dir=""))
    assert not caplog.text


def test_rows_may_have_any_number_of_negatives_in_any_order(retriever: Retriever) -> None:
    examples = [
        Example("Where does Ada live?", passage=ULM, negatives=(GRAZ, LINZ)),
        Example("Where does Bela live?", passage=BERN),
        Example("Who lives in Graz?", passage=GRAZ, negatives=(LINZ,)),
    ]
    torch.testing.assert_close(
        loss(retriever, *examples), loss(retriever, *examples[::-1]), rtol=0, atol=1e-9
    )
