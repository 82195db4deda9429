"""New tokens save tokens, say the same text, and begin as the mean of their pieces."""

import json
from collections import Counter
from itertools import pairwise

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from dalm.errors import UserError
from dalm.models.generator import Generator, load_generator
from dalm.models.loading import place
from dalm.models.vocabulary import extended, new_pairs, words

CPU = place("cpu", "fp32")
DOMAIN = [
    f"The skerrow of Dulmaven is a velt pump; skerrows {verb} the lanth in hall {n}."
    for n, verb in enumerate(("turn", "oil", "lift", "drain") * 3)
]
OTHER = "Ada lives in Ulm, two cats: 1,234.5 € \n\n  & more"


@pytest.fixture
def generator(tiny_models) -> Generator:
    return load_generator(str(tiny_models.generator), CPU)


def ids(generator, text) -> list[int]:
    return generator.tokenizer(text, add_special_tokens=False).input_ids


def test_merges_by_hand():
    counted = Counter({("a", "b", "c"): 5, ("a", "b"): 2, ("x", "y"): 6, ("x", "z"): 1})
    assert new_pairs(counted, set("abcxyz"), 9) == [("a", "b"), ("x", "y"), ("ab", "c")]
    assert new_pairs(counted, {*"abcxyz", "ab"}, 9) == [("x", "y"), ("b", "c"), ("a", "bc")]
    assert new_pairs(counted, set("abcxyz"), 1) == [("a", "b")]
    assert new_pairs(Counter({("a", "a", "a", "a"): 3}), {"a"}, 9) == [("a", "a"), ("aa", "aa")]


def test_each_new_token_is_the_one_that_saves_most(generator):
    """Counted again from the texts after every merge."""
    counted = words(generator.tokenizer, DOMAIN)
    vocabulary = set(generator.tokenizer.get_vocab())
    split = {word: list(word) for word in counted}
    for left, right in new_pairs(counted, vocabulary, 25):
        met = Counter()
        for word, tokens in split.items():
            for pair in pairwise(tokens):
                met[pair] += counted[word]
        possible = {p: n for p, n in met.items() if "".join(p) not in vocabulary}
        best = max(possible.values())
        assert (left, right) == min(p for p, n in possible.items() if n == best)
        vocabulary.add(left + right)
        for tokens in split.values():
            place = 0
            while place < len(tokens) - 1:
                if (tokens[place], tokens[place + 1]) == (left, right):
                    tokens[place : place + 2] = [left + right]
                place += 1


def test_texts_take_fewer_tokens_and_say_the_same(generator):
    before = [ids(generator, text) for text in DOMAIN]
    kept = ids(generator, OTHER)
    weights = generator.model.get_input_embeddings().weight.detach().clone()
    first = len(generator.tokenizer)
    longer = extended(generator, DOMAIN, 40)
    after = [ids(longer, text) for text in DOMAIN]
    assert len(longer.tokenizer) == first + 40
    assert sum(map(len, after)) < 0.6 * sum(map(len, before))
    assert [longer.tokenizer.decode(row) for row in after] == DOMAIN
    used = set().union(*after)
    assert used & set(range(first, first + 40))
    assert longer.tokenizer.decode(ids(longer, OTHER)) == generator.tokenizer.decode(kept)
    table = longer.model.get_input_embeddings().weight
    assert torch.equal(table[: len(weights)], weights)
    assert longer.model.get_output_embeddings().weight is table  # still tied
    assert longer.model.config.vocab_size == len(table) == first + 40


def test_a_new_token_begins_as_the_mean_of_its_old_pieces(tiny_models, generator):
    old = AutoTokenizer.from_pretrained(tiny_models.generator)
    weights = generator.model.get_input_embeddings().weight.detach().clone()
    first = len(old)
    table = extended(generator, DOMAIN, 30).model.get_input_embeddings().weight
    vocabulary = {number: token for token, number in generator.tokenizer.get_vocab().items()}
    for new in range(first, first + 30):
        said = old.backend_tokenizer.model
        pieces = [token.id for token in said.tokenize(vocabulary[new])]
        assert len(pieces) > 1
        torch.testing.assert_close(table[new], weights[pieces].mean(0))


def test_an_untied_head_gets_the_mean_too(tiny_models):
    tokenizer = AutoTokenizer.from_pretrained(tiny_models.generator)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + 64,  # padded, as some models' tables are
        **{"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
        **{"intermediate_size": 32, "tie_word_embeddings": False, "bos_token_id": None},
    )
    model = AutoModelForCausalLM.from_config(config)
    head = model.get_output_embeddings().weight.detach().clone()
    first = len(tokenizer)
    longer = extended(Generator(model, tokenizer, CPU, 64), DOMAIN, 8)
    after = longer.model.get_output_embeddings().weight
    assert after.shape == head.shape  # there was room
    assert torch.equal(after[:first], head[:first])
    assert not torch.equal(after[first : first + 8], head[first : first + 8])
    assert not torch.equal(after[first], longer.model.get_input_embeddings().weight[first])


def test_saved_and_loaded_they_are_the_same(generator, tmp_path):
    longer = extended(generator, DOMAIN, 40)
    longer.export(tmp_path)
    again = load_generator(str(tmp_path), CPU)
    for text in (*DOMAIN, OTHER):
        assert ids(again, text) == ids(longer, text)
    assert again.model.config.vocab_size == longer.model.config.vocab_size


def test_blanks_that_are_signs_begin_words(sentencepiece):
    tokenizer = sentencepiece("always")
    assert all(
        not any(token.startswith("▁") for token in word[1:]) for word in words(tokenizer, DOMAIN)
    )


def test_other_kinds_of_tokenizers_are_refused(generator):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordPieceTrainer(special_tokens=["[UNK]", "[EOS]"], show_progress=False)
    tokenizer.train_from_iterator(DOMAIN, trainer)
    pieces = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="[EOS]")
    other = Generator(generator.model, pieces, CPU, 64)
    with pytest.raises(UserError, match="WordPiece tokenizer, and only byte-pair"):
        extended(other, DOMAIN, 5)


def test_merges_are_written_in_the_manner_of_those_there(generator):
    def merges() -> list:
        return json.loads(generator.tokenizer.backend_tokenizer.to_str())["model"]["merges"]

    before = merges()
    extended(generator, DOMAIN, 3)
    assert merges()[:-3] == before
    assert {type(each) for each in merges()} == {type(before[0])}
