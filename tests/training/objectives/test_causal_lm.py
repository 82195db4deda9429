"""Packed training is unpacked training: loss and gradients, in any order and split of batches."""

import numpy as np
import pytest
import torch

from dalm.models.generator import load_generator
from dalm.models.loading import place
from dalm.training.data.corpus import documents
from dalm.training.data.packing import PackedRows
from dalm.training.objectives.causal_lm import CausalLM

TEXTS = [
    "The velt of a skerrow stands at nine bars when the gate is shut.",
    "A brindle is oiled with tam.",
    "Every morrow the lanth is turned twice, and once more after rain. " * 3,
    "No lanth may stand near water.",
]


@pytest.fixture(scope="module")
def generator(tiny_models):
    made = load_generator(str(tiny_models.generator), place("cpu", "fp32")).double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(6 if parameter.ndim > 1 else 1)
    return made


def plain(generator, sequences) -> torch.Tensor:
    """Return the token mean of the loss, one sequence after the other, by the model itself."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for sequence in sequences:
        ids = torch.from_numpy(sequence.astype(np.int64))[None]
        scores = generator.model(input_ids=ids).logits.log_softmax(-1)
        total = total - scores[0, :-1].gather(-1, ids[0, 1:, None]).sum()
        count += len(sequence) - 1
    return total / count


def gradients(generator, loss) -> dict[str, torch.Tensor]:
    generator.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in generator.named_parameters() if p.grad is not None}


def same(ours, theirs) -> None:
    assert set(ours) == set(theirs)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-8, atol=1e-11)


def test_documents_begin_and_end(generator):
    end = generator.tokenizer.eos_token_id
    for ends in (True, False):
        found = documents(generator, TEXTS, ends=ends)
        assert all(document[0] == end for document in found)
        assert [(document == end).sum() for document in found] == [1 + ends] * len(TEXTS)
        assert all((document[-1] == end) is np.bool_(ends) for document in found)


def test_packed_training_is_unpacked_training(generator):
    found = documents(generator, TEXTS, ends=True)
    rows = PackedRows(found, 256)
    assert len(rows) < len(found)
    objective = CausalLM(generator)
    assert objective.way == "positions"
    loss = objective(rows.collate(range(len(rows))))
    expected = plain(generator, found)
    torch.testing.assert_close(loss.total.double(), expected, rtol=1e-9, atol=0)
    same(gradients(generator, loss.total), gradients(generator, plain(generator, found)))
    assert loss.tokens == sum(map(len, found))


def test_windows_of_a_long_document_are_trained_like_documents(generator):
    [found] = documents(generator, TEXTS[2:3], ends=True)
    rows = PackedRows([found], 20)
    cut = [found[start : start + 20] for start in range(0, len(found) - 1, 19)]
    loss = CausalLM(generator)(rows.collate(range(len(rows)))).total
    torch.testing.assert_close(loss, plain(generator, cut), rtol=1e-9, atol=0)


def test_the_end_of_every_document_is_trained(generator):
    found = documents(generator, TEXTS, ends=True)
    rows = PackedRows(found, 256)
    batch = rows.collate(range(len(rows)))
    end = generator.tokenizer.eos_token_id
    assert int((batch["tokens"][batch["scored"]] == end).sum()) == len(TEXTS)


def test_small_batches_give_the_token_mean_of_the_large_one(generator):
    rows = PackedRows(documents(generator, TEXTS, ends=True), 40)
    objective = CausalLM(generator)
    whole = gradients(generator, objective(rows.collate(range(len(rows)))).total)
    batches = [rows.collate([row]) for row in range(len(rows))]
    tokens = sum(objective.weighted_tokens(batch) for batch in batches)
    for batch in batches:
        batch["weighted_tokens"] = tokens / len(batches)
    loss = sum(objective(batch).total for batch in batches) / len(batches)
    same(gradients(generator, loss), whole)
