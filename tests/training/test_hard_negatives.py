"""Hard negatives in a step: extra columns of the loss, none of them the gold passage again."""

from typing import Any

import pytest
import torch

from dalm.models.loading import place
from dalm.models.retriever import Retriever, load_retriever
from dalm.records import Example, Passage
from dalm.training.data.batches import Rows
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
    retriever: Retriever, examples: tuple[Example, ...], columns: list[list[Passage]]
) -> torch.Tensor:
    """InfoNCE both ways; `columns` are each query's passages, the gold one first."""

    def vectors(texts: list[str], kind: Any) -> torch.Tensor:
        rows = retriever.tokenise(texts, kind)
        return torch.cat([retriever.embed(retriever.batch([row], kind), kind) for row in rows])

    queries = vectors([example.query for example in examples], "query")
    terms = []
    for query, passages in zip(queries, columns, strict=True):
        scores = SCALE * vectors([p.text for p in passages], "passage") @ query
        terms.append(-scores.log_softmax(0)[0])
    gold = vectors([e.passage.text for e in examples if e.passage], "passage")
    back = torch.nn.functional.cross_entropy(SCALE * gold @ queries.T, torch.arange(len(gold)))
    return (torch.stack(terms).mean() + back) / 2


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


def test_rows_may_have_any_number_of_negatives_in_any_order(retriever: Retriever) -> None:
    examples = [
        Example("Where does Ada live?", passage=ULM, negatives=(GRAZ, LINZ)),
        Example("Where does Bela live?", passage=BERN),
        Example("Who lives in Graz?", passage=GRAZ, negatives=(LINZ,)),
    ]
    torch.testing.assert_close(
        loss(retriever, *examples), loss(retriever, *examples[::-1]), rtol=0, atol=1e-9
    )
