"""From hits to answers: the prompts are those of training, whatever the template."""

from dataclasses import replace

import pytest

from dalm.errors import UserError
from dalm.models import loading
from dalm.models.generator import Generator, load_generator
from dalm.models.retriever import load_retriever
from dalm.prompts import CITE, DEFAULT, PromptTemplate
from dalm.rag.pipeline import answer, passage_texts, prompts_of
from dalm.records import Example, Hit, Passage
from dalm.training.data.batches import Rows
from dalm.training.data.sft_rows import SftRows

CPU = loading.place("cpu", "fp32")
# Marks that end in a blank, which is part of the first word after them.
OWN = PromptTemplate(
    "Use the documents.\n", "<doc>: {passage}</doc>\n", "Question: {question}\n", "Answer: "
)
QUERIES = ["Where does Ada live?", "What does Bela keep?"]
HITS = [
    [Hit(Passage.of("Ada lives in Ulm."), 1.0), Hit(Passage.of("Graz"), 0.5)],
    [Hit(Passage.of("Bela keeps two cats."), 1.0)],
]


@pytest.fixture(scope="module")
def loaded(tiny_models) -> Generator:
    return load_generator(str(tiny_models.generator), CPU, max_length=200)


@pytest.fixture(params=[DEFAULT, OWN], ids=["default", "own"])
def generator(loaded, request) -> Generator:
    return Generator(loaded.model, loaded.tokenizer, CPU, 200, request.param)


def text_of(generator: Generator, tokens) -> str:
    return generator.tokenizer.decode(tokens).lstrip()


def test_a_prompt_has_the_texts_of_the_template(generator):
    template = generator.template
    found = prompts_of(generator, QUERIES, HITS, 200)
    for query, hits, prompt in zip(QUERIES, HITS, found, strict=True):
        expected = template.user_message(query, [hit.passage.text for hit in hits])
        assert text_of(generator, prompt.tokens) == expected + template.answer.rstrip(" ")
    (empty,) = prompts_of(generator, QUERIES[:1], [[]], 200)
    assert text_of(generator, empty.tokens).startswith(template.user_message(QUERIES[0], []))


def test_a_reference_ends_the_prompt(generator):
    (prompt,) = prompts_of(generator, QUERIES[:1], HITS[:1], 200, ["in Ulm"])
    (without,) = prompts_of(generator, QUERIES[:1], HITS[:1], 200)
    assert prompt.tokens[: prompt.answer_start] == without.tokens
    assert text_of(generator, prompt.tokens).endswith(f"{generator.template.answer}in Ulm<eos>")


@pytest.fixture(scope="module")
def examples(tiny_rows) -> list[Example]:
    return [Example(row["Query"], row["Answer"], Passage.of(row["Passage"])) for row in tiny_rows]


def test_the_prompts_of_tuning_a_generator_are_those_of_answering(generator, examples):
    rows = SftRows(examples, generator, reader_passages=1, gold_probability=1.0, found=None, seed=0)
    trained = rows.collate(list(range(len(examples))))["prompts"]
    assert trained == with_gold(generator, examples)


def test_the_prompts_of_joint_training_are_those_of_answering(generator, examples, tiny_models):
    retriever = load_retriever(str(tiny_models.encoder), CPU)
    rows = Rows(examples, retriever, generator)
    trained = [
        generator.frame.join(
            [rows.base.pieces[gold].tolist()], query.tolist(), answer.tolist(), 200
        )
        for gold, query, answer in zip(
            rows.gold, rows.query_pieces, rows.answer_pieces, strict=True
        )
    ]
    assert trained == with_gold(generator, examples)


def with_gold(generator, examples):
    hits = [[Hit(each.passage, 1.0)] for each in examples]
    references = [each.answer for each in examples]
    return prompts_of(generator, [each.query for each in examples], hits, 200, references)


def test_passages_are_truncated_and_nothing_else(generator):
    whole, *_ = prompts_of(generator, QUERIES[:1], HITS[:1], 200)
    cut, *_ = prompts_of(generator, QUERIES[:1], HITS[:1], whole.length - 5)
    assert cut.length == whole.length - 5
    ending = generator.template.user_message(QUERIES[0], []).removeprefix(
        generator.template.instruction
    )
    assert text_of(generator, cut.tokens).endswith(ending + generator.template.answer.rstrip(" "))
    assert prompts_of(generator, QUERIES[:1], HITS[:1], 10) == [None]


def test_passages_are_numbered_where_citations_are_asked_for(generator):
    generator.ask_for_citations()
    assert passage_texts(generator, HITS) == [
        ["[1] Ada lives in Ulm.", "[2] Graz"],
        ["[1] Bela keeps two cats."],
    ]
    template = replace(generator.template, instruction=CITE)
    (prompt,) = prompts_of(generator, QUERIES[:1], HITS[:1], 300)
    asked = template.user_message(QUERIES[0], ["[1] Ada lives in Ulm.", "[2] Graz"])
    assert text_of(generator, prompt.tokens).startswith(asked)


def test_answers_say_what_was_read(generator):
    found = answer(generator, QUERIES, HITS, reader_passages=1, max_new_tokens=4)
    assert [each.query for each in found] == QUERIES
    assert [each.hits for each in found] == [(HITS[0][0],), (HITS[1][0],)]
    made = prompts_of(generator, QUERIES, [hits[:1] for hits in HITS], 196)
    assert [each.text for each in found] == generator.generate(made, 4)


def test_a_question_that_leaves_no_room_is_refused(generator):
    with pytest.raises(UserError, match=r"leave no room for an answer of \d+ tokens within \d+;"):
        answer(generator, ["Where? " * 100], [[]], reader_passages=1, max_new_tokens=4)
