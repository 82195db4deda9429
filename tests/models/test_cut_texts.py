"""What is cut is counted to the text, and said with what would change it."""

import logging

import pytest

from dalm.models.counting_encoder import CountingEncoder
from dalm.models.cut_texts import (
    characters_read,
    count_behind,
    is_behind,
    tell_cut_texts,
)
from dalm.models.generator import load_generator
from dalm.models.loading import place
from dalm.models.retriever import load_retriever

CPU = place("cpu", "fp32")
WORDS = "Ada lives in the old tower of Ulm and mends the pumps there every day of the year".split()


def retriever(tiny_models, length=20, prompt=""):
    lengths, prompts = {"passage": length}, {"passage": prompt}
    return load_retriever(str(tiny_models.encoder), CPU, lengths=lengths, prompts=prompts)


def read(model, texts):
    rows = model.tokenise(texts, "passage")
    return characters_read(model, texts, [len(row) for row in rows], "passage")


@pytest.mark.parametrize("prompt", ["", "passage: "])
def test_texts_are_cut_where_the_tokens_of_a_longer_limit_go_on(tiny_models, prompt):
    long = retriever(tiny_models, 128, prompt)
    texts = [" ".join(WORDS[:count]) for count in range(1, len(WORDS) + 1)]
    lengths = [len(row) for row in long.tokenise(texts, "passage")]
    model = retriever(tiny_models, lengths[5], prompt)
    found = read(model, texts)
    assert set(found) == set(range(6, len(texts))), "a text of just the maximum is not cut"
    for place_, end in found.items():
        whole = long.tokenise([texts[place_][:end]], "passage")[0]
        assert whole.tolist() == model.tokenise([texts[place_]], "passage")[0].tolist()


def test_an_answer_behind_the_cut():
    text = "Ada lives in Ulm. She mends pumps."
    assert is_behind("Mends pumps", text, 20)
    assert not is_behind("mends pumps", text, len(text))
    assert not is_behind("Ulm", text, 20)
    assert not is_behind("in Bern", text, 20), "not in the passage at all"
    assert not is_behind(None, text, 0)
    assert not is_behind(" ", text, 0)


def test_a_generator_reads_what_its_tokens_say(tiny_models):
    generator = load_generator(str(tiny_models.generator), CPU)
    text = " ".join(WORDS)
    [tokens] = generator.tokenise_passages([text])
    cut = [(tokens.tolist(), kept, text, "the year") for kept in (3, len(tokens) - 1, len(tokens))]
    assert count_behind(generator, cut) == 2
    assert count_behind(generator, [(tokens.tolist(), 3, text, "elsewhere")]) == 0


@pytest.mark.parametrize(
    ("length", "kind", "said"),
    [
        (
            20,
            "passage",
            "37 of 900 passages are cut at 20 tokens; the answers of 12 question",
        ),
        (
            20,
            "passage",
            "raise --passage-max-len (at most 128), or make shorter ones: dalm p",
        ),
        (
            128,
            "passage",
            "behind the cut; make shorter ones: dalm passages --max-tokens 128 -",
        ),
        (
            20,
            "query",
            "37 of 900 questions are cut at 50 tokens; ",
        ),
        (20, "query", "raise --query-max-len (at most 128)"),
    ],
)
def test_the_line_says_how_many_and_the_remedy(tiny_models, caplog, length, kind, said):
    tell_cut_texts(retriever(tiny_models, length), kind, 37, 900, 12)
    assert said in caplog.text


def test_an_index_counts_what_it_encodes(tiny_models, caplog):
    encoder = CountingEncoder(retriever(tiny_models))
    with caplog.at_level(logging.INFO):
        encoder.tell_cut()
        assert caplog.text == ""
        short, long = "Ada lives in Ulm.", " ".join(WORDS * 2)
        vectors = list(encoder.encode_blocks([[short], [long, long]]))
        encoder.tell_cut()
    assert "2 of 3 passages are cut at 20 tokens" in caplog.text
    plain = encoder.retriever.encode_passages([long])
    assert (vectors[1][0] == plain[0]).all()
