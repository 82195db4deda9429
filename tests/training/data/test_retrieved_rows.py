"""Questions whose passages are searched, and statements of the knowledge base beside them."""

import pytest
import torch

from dalm.errors import UserError
from dalm.prompts import STATE
from dalm.records import Example, Passage
from dalm.training.data.retrieved_rows import RetrievedRows, sentences

ALL = range(5)


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("One two three four five six.", ["One two three four five six."]),
        ("Too short to state it. No!", []),
        (
            "Is it so? It is oiled with tam every day. Yes.",
            ["It is oiled with tam every day."],
        ),
        (" ".join(["word"] * 41), []),
        (" ".join(["word"] * 40), [" ".join(["word"] * 40)]),
        ("", []),
    ],
)
def test_sentences(text, stated):
    assert sentences(text) == stated


def test_a_batch_without_statements_holds_its_questions_alone(searched):
    _, rows = searched(without=(1,))
    batch = rows.collate(ALL)
    assert batch["gold"].tolist() == [0, -1, 1, 2, 3]
    assert batch["excluded"].tolist() == [-1] * 5
    assert batch["force_gold"].tolist() == [True, False, True, True, True]
    assert batch["weights"].tolist() == [1.0] * 5
    assert batch["pieces"].passages == []


def test_the_knowledge_base_holds_each_passage_once(searched):
    _, rows = searched(without=(1, 2))
    assert len(rows.base) == 10
    assert len({passage.id for passage in rows.base.passages}) == 10


def test_statements_stand_behind_the_questions(searched, models):
    _, rows = searched(reconstruction_weight=0.25)
    batch = rows.collate(ALL)
    pieces = batch["pieces"]
    assert batch["weights"].tolist() == [1.0] * 5 + [0.25] * 2
    assert batch["gold"].tolist()[5:] == [-1, -1]
    assert not batch["force_gold"][5:].any()
    decode = models[1].tokenizer.decode
    for place, query, answer in list(
        zip(batch["excluded"].tolist(), pieces.queries, pieces.answers, strict=True)
    )[5:]:
        assert decode(query).strip() == STATE
        assert decode(answer).strip() in sentences(rows.base.passages[place].text)
    ids, mask = batch["query"]["input_ids"][6], batch["query"]["attention_mask"][6].bool()
    [asked] = models[0].tokenise([decode(pieces.answers[6]).strip()], "query")
    assert ids[mask].tolist() == asked.tolist(), "the sentence itself is searched"


def test_statements_are_drawn_anew_each_epoch_and_the_same_each_run(searched):
    _, rows = searched(reconstruction_weight=1.0)
    drawn = []
    for epoch in range(8):
        rows.set_epoch(epoch)
        batch = rows.collate(ALL)
        again = rows.collate(ALL)
        assert torch.equal(batch["excluded"], again["excluded"])
        assert batch["pieces"] == again["pieces"]
        drawn += batch["excluded"].tolist()[5:]
    assert len(set(drawn)) > 3


def test_a_statement_leaves_room_for_a_prompt(models, examples):
    long = Passage.of(" ".join(f"lanth{n}" for n in range(40)) + ".")
    rows = RetrievedRows(examples, *models, more=[long], reconstruction_weight=1.0)
    rows.passages_with_statements = [len(rows.base) - 1]
    most = models[1].frame.overhead() + len(rows.task) + 20
    rows.generator.max_length = most
    pieces = rows.collate(ALL)["pieces"]
    assert len(pieces.answers[-1]) == 20
    prompt = models[1].frame.join([[]], pieces.queries[-1], pieces.answers[-1], most)
    assert prompt.length == most


def test_a_prompt_without_room_for_a_statement_is_refused(models, examples):
    short = [Example("Why?", "tam", e.passage) for e in examples]
    asked = [*models[1].tokenise(["Why?"])[0], *models[1].tokenise_answers(["tam"])[0]]
    models[1].max_length = models[1].frame.overhead() + len(asked)
    assert len(RetrievedRows(short, *models)) == 5
    with pytest.raises(UserError, match=r"use --generator-max-len \d+ or more") as refused:
        RetrievedRows(short, *models, reconstruction_weight=1.0)
    models[1].max_length = int(str(refused.value).split("--generator-max-len ")[1].split()[0])
    pieces = RetrievedRows(short, *models, reconstruction_weight=1.0).collate(ALL)["pieces"]
    prompt = models[1].frame.join([[]], pieces.queries[-1], pieces.answers[-1], 10_000)
    assert prompt.length <= models[1].max_length


def test_a_knowledge_base_of_fragments_has_nothing_to_state(models, examples):
    given = [Example(e.query, e.answer) for e in examples]
    fragments = [Passage.of("Tam."), Passage.of("A red seal.")]
    with pytest.raises(UserError, match="--reconstruction-weight: no passage has a sentence"):
        RetrievedRows(given, *models, more=fragments, reconstruction_weight=1.0)


def test_the_probe_has_questions_alone(searched):
    _, rows = searched(reconstruction_weight=1.0)
    probe = rows.diagnostic_batch(3)
    assert len(probe["gold"]) == 3
    assert (probe["excluded"] == -1).all()
